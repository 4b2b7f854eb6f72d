//! The names of tasks that have used locks or transactions, for messages of all processes. An owner is a thread's slot
//! and the number of a task, which only its own process could name. A task records its name before its first lock or
//! transaction in a store, so a lock costs no more. (A thread's slot has room for one of its tasks only, and a lock
//! without records for no name.)
//!
//! 1. A record proves nothing and is for messages only. It belongs to the task whose identity its checksum covers.
//!    Tasks that share a place replace each other's records; the earlier one then has no name in messages.
//! 2. Records are written without the latch. The checksum also covers the name, so a reader accepts no mixture of two
//!    records.
//! 3. The generation of a process's slot changes with each process in it, so a record that remains from a dead process
//!    belongs to no task.
//!
//! A record:
//!
//! | OFFSET | SIZE | CONTENT |
//! | --- | --- | --- |
//! | 0 | 8 | xxh3 of the task's identity and of the name's words |
//! | 8 | 56 | the name, UTF-8, cut to this length, followed by zeros |

use crate::page::shared::layout::{TASK_NAME_RECORDS, TASK_NAMES};
use crate::page::shared::shm::Shm;
use std::sync::atomic::{AtomicU64, Ordering};
use xxhash_rust::xxh3::xxh3_64;

/// Words of a name; a longer name is cut.
const NAME_WORDS: usize = 7;
const RECORD: usize = 8 * (NAME_WORDS + 1);

/// The identity of a task.
#[derive(Clone, Copy, Debug)]
pub(in crate::page) struct TaskId {
    pub(in crate::page) process: u16,
    pub(in crate::page) generation: u32,
    /// The thread's slot.
    pub(in crate::page) slot: u32,
    pub(in crate::page) task: u64,
}

impl TaskId {
    fn words(self) -> [u64; 2] {
        [
            u64::from(self.generation) << 32 | u64::from(self.process),
            self.task << 16 | u64::from(self.slot & 0xffff),
        ]
    }

    fn index(self) -> usize {
        sum(self.words()) as usize % TASK_NAME_RECORDS
    }

    /// Return the checksum of the task's record with this name.
    fn sum(self, name: [u64; NAME_WORDS]) -> u64 {
        let mut all = [0; NAME_WORDS + 2];
        all[..2].copy_from_slice(&self.words());
        all[2..].copy_from_slice(&name);
        sum(all)
    }
}

fn sum<const N: usize>(words: [u64; N]) -> u64 {
    xxh3_64(words.map(u64::to_le_bytes).as_flattened())
}

impl Shm {
    fn name_record(&self, id: TaskId) -> &[AtomicU64] {
        self.words(TASK_NAMES + id.index() * RECORD, RECORD / 8)
    }

    /// Record the name of a task. An empty name says that it has none.
    pub(in crate::page) fn set_task_name(&self, id: TaskId, name: &str) {
        let mut kept = name.len().min(8 * NAME_WORDS);
        while !name.is_char_boundary(kept) {
            kept -= 1;
        }
        let mut words = [0; NAME_WORDS];
        for (i, byte) in name.as_bytes()[..kept].iter().enumerate() {
            words[i / 8] |= u64::from(*byte) << (8 * (i % 8));
        }
        let record = self.name_record(id);
        for (at, word) in record[1..].iter().zip(words) {
            at.store(word, Ordering::Relaxed);
        }
        record[0].store(id.sum(words), Ordering::Relaxed);
    }

    /// Return whether the name of a task is recorded.
    pub(in crate::page) fn has_task_name(&self, id: TaskId) -> bool {
        self.name_words(id).is_some()
    }

    /// Return the name of a task. None if it is not recorded; empty if the task has none.
    pub(in crate::page) fn task_name(&self, id: TaskId) -> Option<String> {
        let words = self.name_words(id)?;
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let name = String::from_utf8_lossy(&bytes);
        Some(name.trim_end_matches('\0').to_owned())
    }

    fn name_words(&self, id: TaskId) -> Option<[u64; NAME_WORDS]> {
        let record = self.name_record(id);
        let sum = record[0].load(Ordering::Relaxed);
        let mut words = [0; NAME_WORDS];
        for (word, at) in words.iter_mut().zip(&record[1..]) {
            *word = at.load(Ordering::Relaxed);
        }
        (sum == id.sum(words)).then_some(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A_TASK: TaskId = TaskId {
        process: 3,
        generation: 1,
        slot: 5,
        task: 7,
    };

    fn sidecar() -> Shm {
        let shm = Shm::map(tempfile::tempfile().unwrap()).unwrap();
        shm.allocate_fixed().unwrap();
        shm
    }

    #[test]
    fn a_name_belongs_to_one_task_and_is_cut_between_characters() {
        let shm = sidecar();
        assert_eq!(shm.task_name(A_TASK), None);
        shm.set_task_name(A_TASK, "worker");
        assert_eq!(shm.task_name(A_TASK).as_deref(), Some("worker"));
        let other = TaskId {
            generation: 2,
            ..A_TASK
        };
        assert_eq!(shm.task_name(other), None);
        shm.set_task_name(A_TASK, "");
        assert_eq!(shm.task_name(A_TASK).as_deref(), Some(""));
        shm.set_task_name(A_TASK, &"é".repeat(40));
        assert_eq!(shm.task_name(A_TASK), Some("é".repeat(28)));
        shm.set_task_name(A_TASK, &format!("-{}", "é".repeat(40)));
        assert_eq!(shm.task_name(A_TASK), Some(format!("-{}", "é".repeat(27))));
    }

    /// A record with a word of another one, or with any other content, belongs to no task.
    #[test]
    fn a_mixture_of_two_records_is_not_accepted() {
        let shm = sidecar();
        shm.set_task_name(A_TASK, "the first one");
        for word in 0..RECORD / 8 {
            let at = &shm.name_record(A_TASK)[word];
            let old = at.swap(u64::from_le_bytes(*b"\xffother \0"), Ordering::Relaxed);
            assert_eq!(shm.task_name(A_TASK), None);
            at.store(old, Ordering::Relaxed);
        }
        assert_eq!(shm.task_name(A_TASK).as_deref(), Some("the first one"));
    }
}
