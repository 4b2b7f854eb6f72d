//! The commands `mount.persist` and `umount.persist`.
//!
//! - `arguments`: `options`: the command line. `settings`: what it asks for. `table`: the mount options. `manual`: the
//!   manual page.
//! - `exit`: exit codes. `logger`: where messages go.
//! - `run`: the mount command, up to going into the background. `serve`: the mounted store, until its end.
//! - `monitor`: the process that aborts the connection after the daemon's death.
//! - `mounting`: mount(2), umount(2) and fusermount3. `remount`: changing a mount. `umount`: the umount helper.

pub(crate) mod arguments;
pub(crate) mod exit;
pub(crate) mod logger;
pub(crate) mod monitor;
pub(crate) mod mounting;
pub(crate) mod remount;
pub(crate) mod run;
pub(crate) mod serve;
pub(crate) mod umount;
