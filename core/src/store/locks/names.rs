//! The names that messages use for the owner and the target of a lock. A target is named by its path in the
//! store, as Python writes it (`root['Joe'].age`).
//!
//! 1. Names are for messages only. If the path cannot be read within `MAX_WAIT`, or the container is gone,
//!    the message keeps the container's number.
//! 2. Names are made outside sections and without the latch.

use crate::lock::{Owner, OwnerKind, Target};
use crate::object::path;
use crate::page::Pager;
use crate::raw::process;
use crate::store::{Error, Key, LockTarget, Obj, Store, Wait};
use std::time::Duration;

/// How long reading a name may wait. Beside a busy writer, the reader gets the committed state after 20 ms.
const MAX_WAIT: Duration = Duration::from_millis(100);

/// Return the name of a lock's owner.
pub(in crate::store) fn describe(pager: &Pager, o: &Owner) -> String {
    // The id of a thread's owner is the thread's slot and the task.
    let (slot, task) = (u32::from(o.id as u16), o.id >> 16);
    let named = match o.kind {
        OwnerKind::Thread => pager.describe_task(o.slot, o.generation, slot, task),
        _ => None,
    };
    let what = match o.kind {
        OwnerKind::Thread if task != 0 => named.as_deref().unwrap_or("a task"),
        OwnerKind::Thread => "a thread",
        OwnerKind::Flock if o.caller != 0 => return describe_caller(pager, o, "flock"),
        OwnerKind::Posix if o.caller != 0 => return describe_caller(pager, o, "fcntl"),
        OwnerKind::Flock => "the mount (flock)",
        OwnerKind::Posix => "the mount (fcntl)",
        OwnerKind::Command => "the mount (a command that writes)",
    };
    let described = match o.kind {
        OwnerKind::Thread => pager.describe_thread(o.slot, o.generation, slot),
        _ => pager.describe_process(o.slot, o.generation),
    };
    match described {
        Some(process) => format!("{what} of {process}"),
        None => format!("{what} of a process that has ended"),
    }
}

/// Return the name of a process that uses the mount: `the mount (flock, pid 17, "sleep")`.
fn describe_caller(pager: &Pager, o: &Owner, call: &str) -> String {
    let pid = o.caller;
    match pager.pid_of(o.slot, o.generation) {
        Some(_) => match process::command(pid) {
            Some(command) => format!("the mount ({call}, pid {pid}, \"{command}\")"),
            None => format!("the mount ({call}, pid {pid}, which has ended; its file is still open)"),
        },
        None => {
            format!("the mount ({call}, pid {pid} of another pid namespace, or of a mount that has ended)")
        }
    }
}

impl Store {
    /// Return whether a task runs (`set_task`) that messages could name if it gave its name.
    #[doc(hidden)]
    #[must_use]
    pub fn lacks_task_name(&self) -> bool {
        self.pager().lacks_task_name()
    }

    /// Give the running task a name, for messages of all processes that meet its locks or transactions. An empty name
    /// says that it has none. The names of many tasks replace each other: see `lacks_task_name`.
    #[doc(hidden)]
    pub fn name_task(&self, name: &str) {
        self.pager().name_task(name);
    }

    /// Return the path of a lock target, for messages: `root['Joe'].age`. None if it cannot be read within
    /// `MAX_WAIT`.
    #[must_use]
    pub fn path_of(&self, target: LockTarget<'_>) -> Option<String> {
        self.name_of(&self.target(&target), target.obj, target.key.as_ref())
    }

    /// Return the path of a target. `key` is its key, if known; otherwise the entry is searched by the key's
    /// hash.
    #[cold]
    pub(in crate::store) fn name_of(
        &self,
        target: &Target,
        obj: Obj,
        key: Option<&Key<'_>>,
    ) -> Option<String> {
        self.read(&mut Wait::at_most(MAX_WAIT), |r| {
            r.kind(obj)?;
            Ok(match (key, target.key) {
                (Some(key), _) => path::of_key(r, obj.addr, key),
                (None, Some(hash)) => path::of_hash(r, obj.addr, hash),
                (None, None) => path::of(r, obj.addr),
            })
        })
        .ok()
        .flatten()
    }

    /// Return the error with the target's path in place of its number.
    #[cold]
    pub(in crate::store) fn with_name(
        &self,
        mut e: Error,
        target: &Target,
        obj: Obj,
        key: Option<&Key<'_>>,
    ) -> Error {
        if let Error::Timeout { what, .. } | Error::Deadlock { what, .. } | Error::NotLocked { what } = &mut e
            // With several stores, the message names the file too.
            && let Some(rest) = what.strip_prefix(&target.to_string())
            && (rest.is_empty() || rest.starts_with(" of "))
            && let Some(name) = self.name_of(target, obj, key)
        {
            *what = name + rest;
        }
        e
    }
}
