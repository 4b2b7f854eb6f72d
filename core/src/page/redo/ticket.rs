//! The target of a thread's next wait for durability, from its last commit (`durable`).

use crate::page::pager::Pager;
use crate::page::pager::state::redo::Ticket;
use std::cell::Cell;

thread_local! {
    /// The target of this thread's next durability wait, from its last commit, and the open store it belongs to.
    static TICKET: Cell<(u64, Ticket)> = const { Cell::new((0, Ticket::Nothing)) };
}

impl Pager {
    /// Record the target of this thread's next wait.
    pub(super) fn issue_ticket(&self, ticket: Ticket) {
        let (serial, left) = TICKET.replace((self.serial(), ticket));
        if serial == self.serial() {
            // The ticket of a commit that was not waited for.
            self.redo().missed_waits.note(left);
        }
    }

    /// Return the target of this thread's next wait, once.
    pub(in crate::page) fn take_ticket(&self) -> Ticket {
        match TICKET.replace((0, Ticket::Nothing)) {
            (serial, ticket) if serial == self.serial() => ticket,
            _ => Ticket::Nothing,
        }
    }
}
