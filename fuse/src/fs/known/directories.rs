//! What the mount knows of directories besides their containers: times of change, and numbers of subdirectories.
//!
//! 1. A container has one time for its entries and their contents. The time of a directory does not move when a command
//!    changes the content of a file in it: the table keeps the time that the directory had.
//! 2. What is kept holds as long as the container's time and number of entries stay (`Stamp`). Each change of a
//!    container sets a later time. A change of entries through this mount also removes the time that is kept, and a
//!    count is kept only after a change of this mount that is done, or if the last change is older than a tick of the
//!    clock: an operation that is undone may change the time. A tool may set a time that the container had before,
//!    through this mount or another one. So the state also contains when a tool has set the time, which never comes
//!    again. It stands in the directory's record.
//! 3. The size is bounded: beyond `MAX` directories, all are dropped. A directory then has the time of its container,
//!    which is the same or later.

use super::by_number::ByNumber;
use persist_core::store::{Obj, ObjectId};

/// The most directories.
const MAX: usize = 1 << 17;

/// A state of a container: its time of change in nanoseconds since 1970, its number of entries, and when a tool has set
/// the time (0: never).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stamp {
    pub(crate) time: u64,
    pub(crate) len: u64,
    pub(crate) set: u64,
}

/// What is known of one directory.
struct Directory {
    container: Obj,
    time: Option<(Stamp, u64)>,
    subdirectories: Option<(Stamp, u32)>,
}

/// The table of directories.
#[derive(Default)]
pub(crate) struct Directories {
    table: ByNumber<ObjectId, Directory>,
}

impl Directories {
    /// The time of a directory whose container is in this state, if it is another one than that of the container.
    pub(crate) fn time(&self, container: ObjectId, stamp: Stamp) -> Option<u64> {
        let (of, time) = self.table.get(&container)?.time?;
        (of == stamp).then_some(time)
    }

    /// Keep the time of a directory.
    pub(crate) fn keep_time(&mut self, container: Obj, stamp: Stamp, time: u64) {
        self.at(container).time = Some((stamp, time));
    }

    /// True if a number of subdirectories is kept for some state of the container.
    pub(crate) fn has_subdirectories(&self, container: ObjectId) -> bool {
        let known = self.table.get(&container);
        known.is_some_and(|known| known.subdirectories.is_some())
    }

    /// The number of subdirectories, if it is known for this state of the container.
    pub(crate) fn subdirectories(&self, container: ObjectId, stamp: Stamp) -> Option<u32> {
        let (of, count) = self.table.get(&container)?.subdirectories?;
        (of == stamp).then_some(count)
    }

    /// Keep the number of subdirectories.
    pub(crate) fn keep_subdirectories(&mut self, container: Obj, stamp: Stamp, count: u32) {
        self.at(container).subdirectories = Some((stamp, count));
    }

    /// Forget the time of a directory whose entries this mount changes.
    pub(crate) fn forget_time(&mut self, container: ObjectId) {
        if let Some(directory) = self.table.get_mut(&container) {
            directory.time = None;
        }
    }

    /// Forget a container that is gone.
    pub(crate) fn forget(&mut self, container: ObjectId) {
        self.table.remove(&container);
    }

    /// All times that are kept.
    pub(crate) fn times(&self) -> Vec<(Obj, Stamp, u64)> {
        let time = |d: &Directory| d.time.map(|(stamp, time)| (d.container, stamp, time));
        self.table.values().filter_map(time).collect()
    }

    fn at(&mut self, container: Obj) -> &mut Directory {
        if self.table.len() >= MAX && !self.table.contains_key(&container.id) {
            self.table.clear();
        }
        self.table.entry(container.id).or_insert(Directory {
            container,
            time: None,
            subdirectories: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use persist_core::store::door::Addr;

    fn container(id: u64) -> Obj {
        Obj {
            addr: Addr(id * 64),
            id: ObjectId(id),
        }
    }

    #[test]
    fn what_is_kept_holds_for_one_state() {
        let mut table = Directories::default();
        let stamp = Stamp {
            time: 5,
            len: 2,
            set: 0,
        };
        table.keep_time(container(1), stamp, 3);
        table.keep_subdirectories(container(1), stamp, 7);
        assert_eq!(table.time(ObjectId(1), stamp), Some(3));
        assert_eq!(table.subdirectories(ObjectId(1), stamp), Some(7));
        for other in [
            Stamp { time: 6, ..stamp },
            Stamp { len: 3, ..stamp },
            Stamp { set: 1, ..stamp },
        ] {
            assert_eq!(table.time(ObjectId(1), other), None);
            assert_eq!(table.subdirectories(ObjectId(1), other), None);
        }
        table.forget_time(ObjectId(1));
        assert_eq!(table.time(ObjectId(1), stamp), None);
        assert_eq!(table.subdirectories(ObjectId(1), stamp), Some(7));
        table.forget(ObjectId(1));
        assert_eq!(table.subdirectories(ObjectId(1), stamp), None);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut table = Directories::default();
        for id in 1..MAX as u64 + 10 {
            table.keep_time(
                container(id),
                Stamp {
                    time: id,
                    len: 0,
                    set: 0,
                },
                1,
            );
        }
        assert!(table.table.len() <= MAX && table.times().len() == table.table.len());
    }
}
