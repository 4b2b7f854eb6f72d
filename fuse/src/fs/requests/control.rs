//! The files that the filesystem itself provides. They open by name and are not listed.
//!
//! | path | content |
//! | --- | --- |
//! | `DIR/.persist.lock` | empty; a lock on it locks the container |
//! | `/.persist/stat` | figures about the store, one `name value` a line |
//! | `/.persist/locks` | all locks of the store, one a line: object, entry, mode, holder; then ranges of bytes |
//! | `/.persist/snapshots/` | the snapshots, each a directory (`mounted`) |

use crate::fs::context::Ctx;
use crate::fs::error::{FsResult, errno};
use crate::fs::known::inodes::{Control, Place, ROOT};
use crate::fs::text::names;
use crate::fs::tree::filesystem::Fs;
use crate::fs::tree::find::Found;
use crate::fs::tree::metadata::attributes::Attr;
use crate::fs::tree::metadata::attributes::NodeKind;
use crate::kernel::sys;

/// The entries of a control directory.
pub(crate) fn children(control: Control) -> &'static [(&'static [u8], Control)] {
    match control {
        Control::Root => &[
            (b"stat", Control::Stat),
            (b"locks", Control::Locks),
            (b"snapshots", Control::Snapshots),
        ],
        _ => &[],
    }
}

impl Fs {
    /// The control entry of that name, if the directory has one.
    pub(crate) fn find_control(&self, ctx: &Ctx, parent: u64, name: &[u8]) -> FsResult<Option<Found>> {
        let control = |c| -> FsResult<Option<Found>> {
            Ok(Some(Found {
                place: Place::Control(c),
                attr: self.control_node(c)?,
                pinned: None,
            }))
        };
        if parent == ROOT && name == names::CONTROL {
            return control(Control::Root);
        }
        if name != names::LOCK && (parent == ROOT || name == names::CONTROL) {
            // The usual case does not read the inode. Below the root, `.persist` is not a valid name.
            return if name == names::CONTROL {
                errno(libc::ENOENT)
            } else {
                Ok(None)
            };
        }
        match self.place(parent)? {
            Place::Control(c) => match children(c).iter().find(|(n, _)| *n == name) {
                Some((_, child)) => control(*child),
                None => errno(libc::ENOENT),
            },
            Place::Dir(obj) if name == names::LOCK => {
                self.read(ctx, |r| Ok(r.kind(obj)?))?;
                let attr = self.control_attr(NodeKind::File, 0);
                Ok(Some(Found {
                    place: Place::Lock(obj),
                    attr,
                    pinned: None,
                }))
            }
            _ => Ok(None),
        }
    }

    /// The attributes of a control file.
    pub(crate) fn control_node(&self, control: Control) -> FsResult<Attr> {
        let mut attr = match control {
            Control::Root => self.control_attr(NodeKind::Dir, 0),
            // This directory is writable: `mkdir` takes a snapshot.
            Control::Snapshots => {
                let mut attr = self.control_attr(NodeKind::Dir, 0);
                attr.ino = self.number(&Place::Control(control));
                return Ok(attr);
            }
            Control::Stat | Control::Locks => {
                self.control_attr(NodeKind::File, self.control_content(control)?.len() as u64)
            }
        };
        attr.mode &= 0o555;
        attr.ino = self.number(&Place::Control(control));
        Ok(attr)
    }

    /// The text of a control file.
    pub(crate) fn control_content(&self, control: Control) -> FsResult<Vec<u8>> {
        let text = match control {
            Control::Stat => {
                let s = self.store.stat()?;
                format!(
                    "path {}\npid {}\ncheckpoint {}\nfile_pages {}\nfree_pages {}\nlogical_pages {}\ndirty_pages {}\n\
                     processes {}\norphans {}\nundurable_age {}\n",
                    self.store.path().display(),
                    std::process::id(),
                    s.checkpoint,
                    s.file_pages,
                    s.free_pages,
                    s.logical_pages,
                    s.dirty_pages,
                    s.processes,
                    s.orphans,
                    s.undurable_age
                        .map_or_else(|| "none".to_owned(), |age| format!("{:.3}", age.as_secs_f64()))
                )
            }
            Control::Locks => self.describe_locks()?,
            Control::Root | Control::Snapshots => return errno(libc::EISDIR),
        };
        Ok(text.into_bytes())
    }

    /// Figures for `statfs`: the number of 4 KiB blocks in total, and of free ones.
    pub(crate) fn statfs(&self) -> FsResult<(u64, u64)> {
        let stat = self.store.stat()?;
        let free = sys::free_blocks(self.store.path()).unwrap_or(0);
        Ok((stat.file_pages + free, stat.free_pages + free))
    }
}
