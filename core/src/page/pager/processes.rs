//! The other processes that use an open store: which are alive, and their descriptions. A dead one is recovered by
//! `recovery`, which is handed in (`above`).

use crate::error::Result;
use crate::page::pager::Pager;
use crate::page::shared::layout;
use crate::page::shared::regions::task_names::TaskId;
use crate::page::shared::users::slots::{BYTE_PROCESS, strictest};
use crate::page::sync::latch::Owner;
use crate::page::sync::task;
use crate::raw::process;

impl Pager {
    /// Return the pid in a process slot, if the slot still has that generation and the pid identifies that process
    /// here.
    #[must_use]
    pub fn pid_of(&self, process: u16, generation: u32) -> Option<u32> {
        self.noted_pid(process, generation).and_then(process::pid_here)
    }

    /// Return a description of the process in a slot, for messages, if the slot still has that generation.
    #[must_use]
    pub fn describe_process(&self, process: u16, generation: u32) -> Option<String> {
        self.noted_pid(process, generation).map(process::describe)
    }

    /// Return a description of a thread of a process, as `describe_process` does. `slot`: the thread's.
    #[must_use]
    pub(crate) fn describe_thread(&self, process: u16, generation: u32, slot: u32) -> Option<String> {
        let named = self.noted_pid(process, generation)?;
        let has_slot = (slot as usize) < layout::THREAD_SLOTS
            && self.shm.is_slot_of(slot, usize::from(process), generation);
        Some(match has_slot {
            true => process::describe_thread(named, self.shm.thread_id_of(slot)),
            false => process::describe(named),
        })
    }

    /// Return whether a task runs whose name is not recorded in this store.
    pub(crate) fn lacks_task_name(&self) -> bool {
        self.task_id().is_some_and(|id| !self.shm.has_task_name(id))
    }

    /// Record the name of the running task in this store, for messages of all processes.
    pub(crate) fn name_task(&self, name: &str) {
        if let Some(id) = self.task_id() {
            self.shm.set_task_name(id, name);
        }
    }

    /// Return the identity of the running task; None if the thread runs none, or has no slot.
    fn task_id(&self) -> Option<TaskId> {
        let task = task::current();
        if task == 0 || self.is_frozen() {
            return None;
        }
        let (slot, process, generation) = self.identity().ok()?;
        Some(TaskId {
            process,
            generation,
            slot,
            task,
        })
    }

    /// Return the name of a task of a process's thread, quoted for messages: `task "worker"`. None if the task gave no
    /// name.
    #[must_use]
    pub(crate) fn describe_task(
        &self,
        process: u16,
        generation: u32,
        slot: u32,
        task: u64,
    ) -> Option<String> {
        let id = TaskId {
            process,
            generation,
            slot,
            task,
        };
        let name = self.shm.task_name(id).filter(|name| !name.is_empty())?;
        Some(format!("task \"{}\"", name.escape_debug()))
    }

    fn noted_pid(&self, process: u16, generation: u32) -> Option<u64> {
        let p = process as usize;
        if p >= layout::PROCESS_SLOTS || self.shm.process_generation(p) != generation {
            return None;
        }
        Some(self.shm.process_pid(p))
    }

    /// Return whether the process of this slot and generation is gone (recovered, or dead and not recovered yet).
    #[must_use]
    pub fn is_dead(&self, process: u16, generation: u32) -> bool {
        let p = process as usize;
        if p >= layout::PROCESS_SLOTS {
            return true;
        }
        self.shm.process_generation(p) != generation
            || !self.shm.is_process_present(p)
            || self.process_is_dead(p)
    }

    /// Return whether no other process is present.
    pub(crate) fn is_only_process(&self) -> bool {
        let me = self.process();
        (0..self.shm.process_slots()).all(|p| p == me || !self.shm.is_process_present(p))
    }

    /// Return whether all other present processes came by a fork: they may end without ever closing.
    pub(crate) fn others_are_forks(&self) -> bool {
        let me = self.process();
        (0..self.shm.process_slots()).all(|p| {
            p == me || !self.shm.is_process_present(p) || self.shm.came_by_fork(p) || self.process_is_dead(p)
        })
    }

    /// Return whether any present process requires completed changes to be durable. If the shared word does not show
    /// it, count again, because the word may be briefly out of date.
    pub(crate) fn any_process_wants_commits(&self) -> bool {
        self.shm.strictest_durability() > 1 || strictest(&self.shm) > 1
    }

    /// Return the process slot that owns a thread slot.
    pub(crate) fn process_of(&self, slot: u32) -> Option<usize> {
        self.shm.process_of_slot(slot)
    }

    /// Return a description of a thread slot's owner, for messages.
    pub(crate) fn describe_slot(&self, slot: u32) -> String {
        match self.process_of(slot) {
            Some(p) => process::describe_thread(self.shm.process_pid(p), self.shm.thread_id_of(slot)),
            None => "a thread that has ended".to_owned(),
        }
    }

    /// Return whether the process in a slot is dead: its byte is not locked.
    pub(crate) fn process_is_dead(&self, process: usize) -> bool {
        if !self.shm.is_process_present(process) {
            return false;
        }
        self.membership
            .probe
            .is_free(BYTE_PROCESS + process as u64)
            .unwrap_or(false)
    }

    /// Return a description of the latch's owner, for messages.
    pub(crate) fn describe_owner(&self, owner: Option<Owner>) -> String {
        let Some(owner) = owner else {
            return "a process that has released it in the meantime; try again".to_owned();
        };
        let p = owner.process();
        if p >= layout::PROCESS_SLOTS {
            return "an unknown process".to_owned();
        }
        let (process, generation, slot) = (p as u16, owner.generation(), owner.slot());
        let Some(thread) = self.describe_thread(process, generation, slot) else {
            return process::describe(self.shm.process_pid(p));
        };
        let task = match (slot as usize) < layout::THREAD_SLOTS && self.shm.depth_of_other(slot) != 0 {
            true => self.describe_task(process, generation, slot, self.shm.task_of_transaction(slot)),
            false => None,
        };
        task.map_or_else(|| thread.clone(), |task| format!("{task} of {thread}"))
    }

    /// If the owner of this thread slot is dead, recover its process. Return true if everything it held may be free
    /// now. `holding`: the caller's slot, if the caller holds the latch.
    pub(crate) fn check_owner_alive(&self, slot: u32, holding: Option<u32>) -> Result<bool> {
        match self.process_of(slot) {
            Some(p) if self.process_is_dead(p) => self.recover_dead(p, holding),
            _ => Ok(false),
        }
    }

    /// As `check_owner_alive`, for the latch's owner.
    pub(crate) fn check_latch_owner_alive(&self, owner: Owner) -> Result<bool> {
        let p = owner.process();
        if p >= layout::PROCESS_SLOTS {
            return Ok(false);
        }
        if !self.shm.is_process_present(p) || self.shm.process_generation(p) != owner.generation() {
            self.latch().free_unused(owner);
            return Ok(true);
        }
        match self.process_is_dead(p) {
            true => self.recover_dead(p, None),
            false => Ok(false),
        }
    }

    /// Recover every dead process found in the slots.
    pub(crate) fn recover_dead_processes(&self, holding: Option<u32>) -> Result<()> {
        loop {
            let (mut recovered, mut left) = (false, false);
            for p in 0..self.shm.process_slots() {
                if self.shm.is_process_present(p) && self.process_is_dead(p) {
                    match self.recover_dead(p, holding)? {
                        true => recovered = true,
                        false => left = true,
                    }
                }
            }
            // A process that is recovered now held the latch: repeat.
            if !(recovered && left) {
                return Ok(());
            }
        }
    }

    /// Recover what a dead process left. Return true if everything it held may be free now. `holding`: the caller's
    /// slot, if the caller holds the latch.
    fn recover_dead(&self, process: usize, holding: Option<u32>) -> Result<bool> {
        (self.above.recover_process)(self, process, holding)
    }
}
