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
use crate::fs::known::locks::ranges::{HeldRange, WHOLE};
use crate::fs::known::locks::request::{Call, Target};
use crate::fs::text::names;
use crate::fs::tree::filesystem::Fs;
use crate::fs::tree::find::Found;
use crate::fs::tree::metadata::attributes::Attr;
use crate::fs::tree::metadata::attributes::NodeKind;
use crate::kernel::processes;
use persist_core::store::LockMode;
use std::fmt::Write as _;

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
}

impl Fs {
    /// The locks of the store, held and requested, one a line; then the ranges of bytes that commands of this mount
    /// hold and request.
    fn describe_locks(&self) -> FsResult<String> {
        let mut out = String::new();
        // Writing to a String cannot fail.
        for l in self.store.locks()? {
            let what = l.path.unwrap_or_else(|| match l.key_hash {
                Some(hash) => format!("object {}, the entry with hash {hash:016x}", l.object.0),
                None => format!("object {}", l.object.0),
            });
            let state = if l.waiting { "awaited" } else { "held" };
            let _ = writeln!(out, "{what} {} {state} {}", l.mode, l.owner);
        }
        for (target, held, state) in self.ranges() {
            let what = target
                .in_store()
                .and_then(|target| self.store.path_of(target))
                .unwrap_or_else(|| "a removed file".to_owned());
            let mode = if held.mode == LockMode::Exclusive {
                "X"
            } else {
                "S"
            };
            let command = processes::command(held.pid).map_or_else(String::new, |c| format!(", \"{c}\""));
            let bytes = match held.range {
                (start, end) if end >= WHOLE.1 => format!("bytes {start}-"),
                (start, end) => format!("bytes {start}-{end}"),
            };
            let _ = writeln!(
                out,
                "{what} {bytes} {mode} {state} the mount (pid {}{command})",
                held.pid
            );
        }
        Ok(out)
    }

    /// The ranges of fcntl locks, and the requests of commands that wait for other commands.
    fn ranges(&self) -> Vec<(Target, HeldRange, &'static str)> {
        self.locks.with(|table| {
            let held = table.files().flat_map(|(target, file)| {
                let ranges = file.ranges(Call::Fcntl).all();
                ranges.map(|held| (target.clone(), held, "held"))
            });
            let awaited = table.waiters.iter().map(|w| {
                let held = HeldRange {
                    owner: w.ask.origin.owner,
                    pid: w.ask.user,
                    range: w.ask.range,
                    mode: w.ask.mode,
                };
                (w.target.clone(), held, "awaited")
            });
            held.chain(awaited).collect()
        })
    }
}
