//! Which directories the kernel keeps whole: all their entries with attributes, from a listing that had them.
//!
//! This decides only how the next listing is answered, with attributes or without. The leases decide what the kernel
//! may keep. Where the guess is wrong, the kernel looks up what it does not keep.

use super::by_number::ByNumber;
use std::time::Duration;

/// The most directories. Beyond it, all are dropped.
const MAX: usize = 1 << 16;
/// How long a program may take from its listing to its last look at an entry.
const SLACK: u64 = 200_000_000;
/// The part of the entries that the kernel may have forgotten.
const PART: u64 = 8;

/// One reply to a request for entries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reply {
    /// The time (`lease_clock`).
    pub(crate) now: u64,
    from: u64,
    /// The position after the last entry.
    pub(crate) next: u64,
    /// The number of entries, and of those that the kernel does not keep.
    entries: u64,
    unkept: u64,
    /// Until when it keeps the others.
    until: u64,
    /// How much the kernel was told to forget before (`Held::forgotten`).
    forgotten: u64,
}

impl Reply {
    pub(crate) fn new(now: u64, from: u64, forgotten: u64) -> Reply {
        Reply {
            now,
            from,
            next: from,
            entries: 0,
            unkept: 0,
            until: u64::MAX,
            forgotten,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.next == self.from
    }

    /// Count an entry that the kernel may keep for this long.
    pub(crate) fn shown(&mut self, ttl: Duration) {
        self.entries += 1;
        if ttl.is_zero() {
            self.unkept += 1;
        } else {
            self.until = self.until.min(self.now + ttl.as_nanos() as u64);
        }
    }
}

/// What the kernel has of a directory.
struct Directory {
    /// All replies of the listing so far.
    all: Reply,
    is_whole: bool,
}

/// The table, by inode.
#[derive(Default)]
pub(crate) struct Listed {
    table: ByNumber<u64, Directory>,
}

impl Listed {
    /// Return whether the kernel keeps a directory whole, for a listing that begins with this reply.
    pub(crate) fn is_kept(&self, ino: u64, reply: &Reply) -> bool {
        self.table.get(&ino).is_some_and(|known| {
            let all = &known.all;
            // The count begins again with other leases (a remount).
            let forgotten = reply.forgotten.checked_sub(all.forgotten);
            known.is_whole
                && reply.now.saturating_add(SLACK) < all.until
                && forgotten.is_some_and(|forgotten| all.unkept + forgotten <= all.entries / PART)
        })
    }

    /// Record a reply to a listing. `is_last`: there are no more entries.
    pub(crate) fn replied(&mut self, ino: u64, reply: &Reply, is_last: bool) {
        let mut all = *reply;
        if reply.from > 2 {
            match self.table.get(&ino) {
                Some(known) if known.all.next == reply.from && !known.is_whole => {
                    all.entries += known.all.entries;
                    all.unkept += known.all.unkept;
                    all.until = all.until.min(known.all.until);
                    all.forgotten = known.all.forgotten;
                }
                // Another listing of the directory runs as well, or the beginning had no attributes.
                _ => return,
            }
        }
        if self.table.len() >= MAX {
            self.table.clear();
        }
        let is_whole = is_last && all.until != u64::MAX;
        self.table.insert(ino, Directory { all, is_whole });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(1);

    /// A reply at a time, with entries that the kernel keeps so long.
    fn reply(now: u64, from: u64, ttls: &[Duration]) -> Reply {
        let mut reply = Reply::new(now, from, 0);
        for ttl in ttls {
            reply.shown(*ttl);
            reply.next += 1;
        }
        reply
    }

    #[test]
    fn a_directory_is_kept_after_its_whole_listing_and_until_its_first_entry_expires() {
        let mut listed = Listed::default();
        let start = |now| Reply::new(now, 2, 0);
        listed.replied(7, &reply(0, 2, &[LONG; 10]), false);
        assert!(!listed.is_kept(7, &start(0)), "the end is missing");
        listed.replied(7, &reply(0, 20, &[LONG; 10]), true);
        assert!(!listed.is_kept(7, &start(0)), "entries in between are missing");
        listed.replied(7, &reply(0, 12, &[LONG, LONG / 2]), true);
        assert!(listed.is_kept(7, &start(0)));
        assert!(!listed.is_kept(7, &start(400_000_000)), "too soon before the end");
        assert!(!listed.is_kept(8, &start(0)));
    }

    #[test]
    fn a_count_of_other_leases_says_nothing() {
        let mut listed = Listed::default();
        let mut before = reply(0, 2, &[LONG; 80]);
        before.forgotten = 5;
        listed.replied(7, &before, true);
        assert!(listed.is_kept(7, &Reply::new(0, 2, 5)));
        assert!(!listed.is_kept(7, &Reply::new(0, 2, 4)));
    }

    #[test]
    fn what_the_kernel_has_forgotten_counts() {
        let mut listed = Listed::default();
        listed.replied(7, &reply(0, 2, &[LONG; 80]), true);
        assert!(listed.is_kept(7, &Reply::new(0, 2, 10)));
        assert!(!listed.is_kept(7, &Reply::new(0, 2, 11)));
        let mut ttls = [LONG; 80];
        ttls[..11].fill(Duration::ZERO);
        listed.replied(7, &reply(0, 2, &ttls), true);
        assert!(!listed.is_kept(7, &Reply::new(0, 2, 0)));
        listed.replied(7, &reply(0, 2, &[]), true);
        assert!(
            !listed.is_kept(7, &Reply::new(0, 2, 0)),
            "nothing is kept of an empty directory"
        );
    }
}
