//! Reports of written content that could not be stored: the program that wrote it may ignore the result of `close`, as
//! a shell's `echo` does.

use crate::fs::context::Ctx;
use crate::fs::error::FsError;
use crate::fs::known::inodes::{Place, Slot};
use crate::fs::text::names;
use crate::fs::tree::filesystem::Fs;

impl Fs {
    /// Log that the content written to a file is lost: the path of the file on the mount, and the reason.
    pub(crate) fn log_unstored(&self, ino: u64, e: &FsError) {
        let path = self.path_of(ino);
        log::error!("{path}: what was written is not stored: {}", self.reason(e));
    }

    /// The path of a file on the mount, as far as it can be found.
    fn path_of(&self, ino: u64) -> String {
        let ctx = Ctx::own(true);
        let top = self.config.mountpoint.display();
        let spot = match self.place(ino) {
            Ok(Place::File(spot)) if !self.is_removed(ino, &spot) => spot,
            _ => return format!("{top}/? (inode {ino}, removed)"),
        };
        let path = self.read(&ctx, |r| self.path(r, spot.parent));
        let folder = path.map_or_else(
            |_| "?/".to_owned(),
            |parts| {
                let text = |part: &Vec<u8>| format!("{}/", String::from_utf8_lossy(part));
                parts.iter().map(text).collect()
            },
        );
        let name = match &spot.slot {
            Slot::Key(key) => String::from_utf8_lossy(&names::name_of(key)).into_owned(),
            Slot::Item(number) => number.to_string(),
        };
        format!("{top}/{folder}{name}")
    }

    /// The reason in words.
    fn reason(&self, e: &FsError) -> String {
        match e {
            FsError::Store(e) => e.in_store(self.store.path()),
            FsError::Errno(libc::EINVAL) => {
                "the text does not fit the entry's type (EINVAL); the old value stays".to_owned()
            }
            e => std::io::Error::from_raw_os_error(e.errno()).to_string(),
        }
    }
}
