//! The command line, as mount(8) passes it: `STORE MOUNTPOINT [-f] [-s] [-n] [-v] [-o options]`.
//!
//! | option | means |
//! | --- | --- |
//! | `exact` | str files are exactly the text: no newline is added or taken off |
//! | `infer` | new files that are JSON scalars become int, float, bool or None |
//! | `lockwait=SECONDS` | how long a change waits for a lock held elsewhere (5) |
//! | `durability=commit\|checkpoint\|none` | what a completed change survives (checkpoint) |
//! | `max_age=SECONDS\|none` | what was completed longer ago survives a power cut (1) |
//! | `snapshot=NAME` | mount this snapshot of the store, read-only |
//! | `nocreate` | do not create a missing store |
//! | `uid= gid= umask=` | owner and permission bits shown (the mounting user, 022) |
//! | `allow_other`, `default_permissions` | as every FUSE filesystem; the first implies the second |
//! | `ro nosuid nodev noexec noatime sync dirsync ...` | as every filesystem |

use persist_core::store::Durability;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Options {
    pub(crate) store: PathBuf,
    pub(crate) mountpoint: PathBuf,
    pub(crate) foreground: bool,
    pub(crate) verbose: bool,
    /// `-s`: unknown options are ignored.
    pub(crate) sloppy: bool,
    pub(crate) exact: bool,
    pub(crate) infer: bool,
    pub(crate) lockwait: Duration,
    pub(crate) durability: Durability,
    /// The bound on what a power cut takes.
    pub(crate) max_age: Option<Duration>,
    pub(crate) create: bool,
    pub(crate) read_only: bool,
    /// The snapshot to mount.
    pub(crate) snapshot: Option<String>,
    pub(crate) remount: bool,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) umask: u16,
    pub(crate) allow_other: bool,
    pub(crate) default_permissions: bool,
    /// Flags of mount(2).
    pub(crate) flags: u64,
    /// The options that fusermount3 takes too.
    pub(crate) generic: Vec<String>,
}

/// The text of `--help`.
pub(crate) const USAGE: &str = "\
usage: mount.persist STORE MOUNTPOINT [-f] [-s] [-n] [-v] [-o OPTION,...]

Mounts a persist store. Stays in the background; -f keeps it in the foreground.
Unmount with `umount MOUNTPOINT` (or `fusermount3 -u MOUNTPOINT`).

options: exact  infer  lockwait=SECONDS  durability=commit|checkpoint|none  max_age=SECONDS|none
         nocreate  snapshot=NAME
         uid=N  gid=N  umask=OCTAL  allow_other  default_permissions  ro, and the generic ones
";

/// What mount(2) calls the generic options: name, flag, whether the name sets or clears it.
const FLAGS: [(&str, u64, bool); 17] = [
    ("ro", libc::MS_RDONLY, true),
    ("rw", libc::MS_RDONLY, false),
    ("nosuid", libc::MS_NOSUID, true),
    ("suid", libc::MS_NOSUID, false),
    ("nodev", libc::MS_NODEV, true),
    ("dev", libc::MS_NODEV, false),
    ("noexec", libc::MS_NOEXEC, true),
    ("exec", libc::MS_NOEXEC, false),
    ("sync", libc::MS_SYNCHRONOUS, true),
    ("async", libc::MS_SYNCHRONOUS, false),
    ("dirsync", libc::MS_DIRSYNC, true),
    ("noatime", libc::MS_NOATIME, true),
    ("atime", libc::MS_NOATIME, false),
    ("nodiratime", libc::MS_NODIRATIME, true),
    ("relatime", libc::MS_RELATIME, true),
    ("strictatime", libc::MS_STRICTATIME, true),
    ("silent", libc::MS_SILENT, true),
];

/// Options for others, which mean nothing to a mount.
const IGNORED: [&str; 12] = [
    "defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "_netdev", "nofail", "loud",
    "diratime",
];

/// Reads the arguments (without the program's name). The error is a message for the user.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Options, String> {
    let mut o = Options {
        store: PathBuf::new(),
        mountpoint: PathBuf::new(),
        foreground: false,
        verbose: false,
        sloppy: false,
        exact: false,
        infer: false,
        lockwait: Duration::from_secs(5),
        durability: Durability::Checkpoint,
        max_age: persist_core::store::Options::default().max_age,
        create: true,
        read_only: false,
        snapshot: None,
        remount: false,
        uid: None,
        gid: None,
        umask: 0o022,
        allow_other: false,
        default_permissions: false,
        flags: libc::MS_NOSUID | libc::MS_NODEV,
        generic: Vec::new(),
    };
    let mut names: Vec<OsString> = Vec::new();
    let mut lists: Vec<String> = Vec::new();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let bytes = arg.as_bytes();
        if !bytes.starts_with(b"-") || bytes == b"-" {
            names.push(arg);
            continue;
        }
        let text = arg.to_str().ok_or("an option is not valid text")?;
        let mut value = |inline: &str| -> Result<String, String> {
            if !inline.is_empty() {
                return Ok(inline.to_owned());
            }
            let next = args.next().ok_or_else(|| format!("{text} needs a value"))?;
            next.into_string()
                .map_err(|_| format!("the value of {text} is not valid text"))
        };
        match text {
            "--" => names.extend(args.by_ref()),
            "--foreground" => o.foreground = true,
            "--help" | "-h" => return Err(USAGE.to_owned()),
            _ if text.starts_with("-o") => lists.push(value(&text[2..])?),
            // The filesystem's type, which is known.
            _ if text.starts_with("-t") => drop(value(&text[2..])?),
            _ => {
                for flag in text[1..].chars() {
                    match flag {
                        'f' => o.foreground = true,
                        's' => o.sloppy = true,
                        'v' => o.verbose = true,
                        'n' => {}
                        'r' => o.set_flag(libc::MS_RDONLY, true),
                        'w' => o.set_flag(libc::MS_RDONLY, false),
                        _ => return Err(format!("unknown option {text}\n{USAGE}")),
                    }
                }
            }
        }
    }
    let [store, mountpoint] = <[OsString; 2]>::try_from(names).map_err(|_| USAGE.to_owned())?;
    o.store = store.into();
    o.mountpoint = mountpoint.into();
    for option in lists.iter().flat_map(|l| l.split(',')).filter(|s| !s.is_empty()) {
        o.take(option)?;
    }
    if o.snapshot.is_some() && o.flags & libc::MS_RDONLY == 0 {
        // mount(8) passes `rw` where nobody asked for anything; the last word counts.
        o.set_flag(libc::MS_RDONLY, true);
        o.generic.push("ro".into());
    }
    o.read_only = o.flags & libc::MS_RDONLY != 0;
    Ok(o)
}

fn seconds(option: &str, text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| format!("option {option}: not a number"))?;
    Duration::try_from_secs_f64(seconds).map_err(|e| format!("option {option}: {e}"))
}

impl Options {
    fn set_flag(&mut self, flag: u64, on: bool) {
        if on {
            self.flags |= flag
        } else {
            self.flags &= !flag
        }
    }

    fn take(&mut self, option: &str) -> Result<(), String> {
        if let Some((_, flag, on)) = FLAGS.iter().find(|(name, ..)| *name == option) {
            self.set_flag(*flag, *on);
            self.generic.push(option.to_owned());
            return Ok(());
        }
        let (name, value) = option
            .split_once('=')
            .map_or((option, None), |(n, v)| (n, Some(v)));
        let number = |radix: u32| -> Result<u32, String> {
            let text = value.ok_or_else(|| format!("option {name} needs a value"))?;
            u32::from_str_radix(text, radix).map_err(|_| format!("option {option}: not a number"))
        };
        match (name, value) {
            ("exact", None) => self.exact = true,
            ("infer", None) => self.infer = true,
            ("nocreate", None) => self.create = false,
            ("create", None) => self.create = true,
            ("remount", None) => self.remount = true,
            ("allow_other", None) => {
                self.allow_other = true;
                self.default_permissions = true;
            }
            ("default_permissions", None) => self.default_permissions = true,
            ("lockwait", Some(text)) => self.lockwait = seconds(option, text)?,
            ("max_age", Some("none")) => self.max_age = None,
            ("max_age", Some(text)) => {
                let age = seconds(option, text)?;
                if age.is_zero() {
                    return Err(format!(
                        "option {option}: the bound must be above 0 (durability=commit makes each change durable)"
                    ));
                }
                self.max_age = Some(age);
            }
            ("durability", Some("checkpoint")) => self.durability = Durability::Checkpoint,
            ("durability", Some("commit")) => self.durability = Durability::Commit,
            ("durability", Some("none")) => self.durability = Durability::None,
            ("snapshot", Some(name)) => self.snapshot = Some(name.to_owned()),
            ("uid", _) => self.uid = Some(number(10)?),
            ("gid", _) => self.gid = Some(number(10)?),
            ("umask", _) => self.umask = (number(8)? & 0o777) as u16,
            // Decided here: the names a mount shows.
            ("fsname" | "subtype", Some(_)) => {}
            _ if IGNORED.contains(&name) || name.starts_with("x-") || name.starts_with("comment") => {}
            _ if self.sloppy => {}
            _ => return Err(format!("unknown mount option {option}")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(args: &[&str]) -> Result<Options, String> {
        parse(args.iter().map(OsString::from))
    }

    #[test]
    fn as_mount_8_calls() {
        let o = of(&[
            "a.store",
            "/mnt",
            "-v",
            "-o",
            "rw,noexec,nosuid,nodev,user,_netdev",
            "-t",
            "fuse.persist",
        ]);
        let o = o.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(o.store, PathBuf::from("a.store"));
        assert_eq!(o.mountpoint, PathBuf::from("/mnt"));
        assert!(o.verbose && !o.read_only && !o.foreground);
        assert_ne!(o.flags & libc::MS_NOEXEC, 0);
    }

    #[test]
    fn own_options() {
        let o = of(&[
            "-f",
            "-oexact,infer",
            "s",
            "m",
            "-o",
            "lockwait=0.5,umask=077,uid=5,ro,allow_other,durability=none",
        ]);
        let o = o.unwrap_or_else(|e| panic!("{e}"));
        assert!(o.exact && o.infer && o.foreground && o.read_only && o.allow_other && o.default_permissions);
        assert_eq!(
            (o.lockwait, o.umask, o.uid),
            (Duration::from_millis(500), 0o077, Some(5))
        );
        assert_eq!(o.durability, Durability::None);
        assert_eq!(o.max_age, Some(Duration::from_secs(1)));
        for (text, age) in [("none", None), ("0.25", Some(Duration::from_millis(250)))] {
            let o = of(&["s", "m", "-o", &format!("max_age={text}")]).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(o.max_age, age);
        }
    }

    #[test]
    fn a_snapshot_is_read_only() {
        for options in [
            "snapshot=a b",
            "snapshot=a b,rw",
            "rw,snapshot=a b",
            "ro,snapshot=a b",
        ] {
            let o = of(&["s", "m", "-o", options]).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(o.snapshot.as_deref(), Some("a b"));
            assert!(o.read_only && o.flags & libc::MS_RDONLY != 0);
            assert_eq!(o.generic.last().map(String::as_str), Some("ro"), "{options}");
        }
        assert!(of(&["s", "m", "-o", "snapshot"]).is_err());
    }

    #[test]
    fn mistakes() {
        for bad in [
            &["s"][..],
            &["s", "m", "x"],
            &["s", "m", "-o"],
            &["s", "m", "-o", "nonsense"],
            &["s", "m", "-x"],
        ] {
            assert!(of(bad).is_err(), "{bad:?}");
        }
        for bad in ["lockwait=x", "max_age=x", "max_age=0", "max_age=-1"] {
            assert!(of(&["s", "m", "-o", bad]).is_err(), "{bad}");
        }
        assert!(of(&["s", "m", "-s", "-o", "nonsense"]).is_ok());
    }
}
