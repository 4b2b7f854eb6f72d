//! The layout of the lock manager's words, and the bits inside them.
//!
//! Invariants:
//! 1. All zero words are an empty table.
//! 2. A link is a record's number in its pool plus 1; 0 is none. Two links share a word (lo, hi).
//! 3. A free record's word 0 is (next free, 0); its other words keep their old values.
//!
//! The region, in 8-byte words (native byte order: it never leaves the machine):
//!
//! | OFFSET | SIZE | CONTENT |
//! | --- | --- | --- |
//! | 0 | 1 | `UNDO_LEN`: records in the undo log; 0: no mutation is under way |
//! | 1 | 1 | `PENDING`: link of the container whose queue has yet to be granted from |
//! | 2 | 1 | `ABANDONED`: not 0 when waiters gave up without the latch |
//! | 3 | 1 | `WAITING`: requests in queues |
//! | 4 | 1 | `DEFERRED`: not 0 when releases were noted without the latch |
//! | 8 + 4p | 4 | pool p: first free, records ever used, records in use, - |
//! | 64 | 4096 | `BUCKETS`: first lockable of each hash bucket |
//! | 4160 | 1024 | `OWNER_BUCKETS`: first owner of each hash bucket |
//! | 5184 | 1024 | `UNDO`: (word, old value); word >= `WORDS` is counter `word - WORDS` |
//! | 6208 | 65536 | pool 0: 8192 lockables |
//! | 71744 | 65536 | pool 1: 8192 holds |
//! | 137280 | 32768 | pool 2: 4096 owners |
//! | 170048 | 8192 | pool 3: 1024 waiters |
//! | 178240 | 8192 | `NOTES`: 1024 deferred releases (`deferred`) |
//! | 186432 | 1024 | `THINS`: 256 thin locks (`thin`) |
//!
//! Lockable (a container or an entry that an owner holds or waits for):
//!
//! | WORD | LO | HI |
//! | --- | --- | --- |
//! | 0 | next in bucket | entry: its container |
//! | 1 | id of the container | |
//! | 2 | entry: hash of the key | |
//! | 3 | first hold | 1 container, 2 entry |
//! | 4 | container: first waiter | last waiter |
//!
//! Hold (one owner on one lockable):
//!
//! | WORD | LO | HI |
//! | --- | --- | --- |
//! | 0 | next hold of the lockable | lockable |
//! | 1 | next hold of the owner | previous |
//! | 2 | owner | 1 if the owner is a mount's |
//! | 3 | shared levels | exclusive levels (all from the first exclusive one on) |
//! | 4 | container: entries held shared | entries held exclusively |
//! | 5 | reservations | container: reservations of entries |
//!
//! Owner: word 0 next in bucket; 1 slot (16 bits), kind (16), generation (32); 2 id; 3 first hold,
//! first waiter; 4 the caller's process (lo), for messages.
//!
//! Waiter (its number is that of its signal):
//!
//! | WORD | LO | HI |
//! | --- | --- | --- |
//! | 0 | previous in queue | next |
//! | 1 | container | owner |
//! | 2 | hash of the key | |
//! | 3 | `STATE_*` and `FLAG_*` bits | |
//! | 4 | waiting since, ns from 1970; once granted: id of the container | |
//! | 5 | sequence number of the ticket; never goes back | |
//! | 6 | next waiter of the owner | previous |
//! | 7 | the sequence number again, once its waiter gave up without the latch | |

/// Pool numbers.
pub(in crate::lock) const LOCKABLE: usize = 0;
pub(in crate::lock) const HOLD: usize = 1;
pub(in crate::lock) const OWNER: usize = 2;
pub(in crate::lock) const WAITER: usize = 3;

/// Words in a record of any pool.
pub(in crate::lock) const RECORD: usize = 8;
/// Records in each pool.
pub(in crate::lock) const CAP: [usize; 4] = [8192, 8192, 4096, 1024];
/// The name of a pool in the error when it is full.
pub(in crate::lock) const POOL_NAME: [&str; 4] =
    ["locked objects", "locks", "owners of locks", "waiters for locks"];

pub(in crate::lock) const UNDO_LEN: usize = 0;
pub(in crate::lock) const PENDING: usize = 1;
pub(in crate::lock) const ABANDONED: usize = 2;
pub(in crate::lock) const WAITING: usize = 3;
pub(in crate::lock) const DEFERRED: usize = 4;
pub(in crate::lock) const POOLS: usize = 8;
pub(in crate::lock) const POOL_FREE: usize = 0;
pub(in crate::lock) const POOL_HIGH: usize = 1;
pub(in crate::lock) const POOL_USED: usize = 2;

const BUCKET_BITS: u32 = 12;
const OWNER_BUCKET_BITS: u32 = 10;
pub(in crate::lock) const BUCKETS: usize = 64;
pub(in crate::lock) const BUCKET_COUNT: usize = 1 << BUCKET_BITS;
pub(in crate::lock) const OWNER_BUCKETS: usize = BUCKETS + BUCKET_COUNT;
pub(in crate::lock) const OWNER_BUCKET_COUNT: usize = 1 << OWNER_BUCKET_BITS;
pub(in crate::lock) const UNDO: usize = OWNER_BUCKETS + OWNER_BUCKET_COUNT;
/// Capacity of the undo log, in records. The largest mutation needs about 60.
pub(in crate::lock) const UNDO_CAP: usize = 512;
/// First word of each pool.
pub(in crate::lock) const BASE: [usize; 4] = {
    let start = UNDO + 2 * UNDO_CAP;
    let holds = start + CAP[LOCKABLE] * RECORD;
    let owners = holds + CAP[HOLD] * RECORD;
    [start, holds, owners, owners + CAP[OWNER] * RECORD]
};

/// Notes of deferred releases.
pub(in crate::lock) const NOTES: usize = BASE[WAITER] + CAP[WAITER] * RECORD;
pub(in crate::lock) const NOTE_COUNT: usize = 1024;

/// Thin locks.
pub(in crate::lock) const THINS: usize = NOTES + NOTE_COUNT * RECORD;
pub(in crate::lock) const THIN_COUNT: usize = 256;
pub(in crate::lock) const THIN_WORDS: usize = 4;
/// The value of a bucket's counter while its only lock is thin.
pub(in crate::lock) const THIN: u32 = 1 << 31;

/// Words of the region (1.4 MiB).
pub const WORDS: usize = THINS + THIN_COUNT * THIN_WORDS;
/// Wait signals: one futex word for each waiter.
pub const SIGNALS: usize = CAP[WAITER];
/// Counters: one for each bucket of container ids.
pub const COUNTERS: usize = BUCKET_COUNT;

const _: () = assert!(
    BASE[LOCKABLE] == 6208 && BASE[WAITER] == 170048 && NOTES == 178240 && THINS == 186432,
    "the table above is out of date"
);

/// The kinds of lockable in word 3.
pub(in crate::lock) const KIND_CONTAINER: u32 = 1;
pub(in crate::lock) const KIND_ENTRY: u32 = 2;

/// The states and flags in word 3 of a waiter.
pub(in crate::lock) const STATE_MASK: u64 = 0xff;
pub(in crate::lock) const STATE_FREE: u64 = 0;
pub(in crate::lock) const STATE_WAITING: u64 = 1;
pub(in crate::lock) const STATE_GRANTED: u64 = 2;
pub(in crate::lock) const FLAG_EXCLUSIVE: u64 = 1 << 8;
pub(in crate::lock) const FLAG_KEY: u64 = 1 << 9;
pub(in crate::lock) const FLAG_CHANGE: u64 = 1 << 10;
pub(in crate::lock) const FLAG_MOUNT: u64 = 1 << 11;
/// The mode that a converting owner held before the grant (restored if its waiter has given up).
pub(in crate::lock) const FLAG_WAS_SHARED: u64 = 1 << 12;
pub(in crate::lock) const FLAG_WAS_EXCLUSIVE: u64 = 1 << 13;

/// Modes as bits of a set.
pub(in crate::lock) const IS: u8 = 1;
pub(in crate::lock) const IX: u8 = 2;
pub(in crate::lock) const S: u8 = 4;
pub(in crate::lock) const X: u8 = 8;

/// Return the set of modes that conflict with one mode.
#[inline]
pub(in crate::lock) fn clashes(mode: u8) -> u8 {
    match mode {
        IS => X,
        IX => S | X,
        S => IX | X,
        _ => IS | IX | S | X,
    }
}

/// Return the bucket of a lockable; for a container, also the index of its counter.
#[inline]
pub(in crate::lock) fn bucket(id: u64, key: Option<u64>) -> usize {
    let mut hash = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    if let Some(key) = key {
        hash = (hash ^ key).wrapping_mul(0xd6e8_feb8_6659_fd93);
        hash ^= hash >> 32;
        hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    (hash >> (64 - BUCKET_BITS)) as usize
}

/// Return the bucket of an owner, from words 1 and 2 of its record.
#[inline]
pub(in crate::lock) fn owner_bucket(identity: u64, id: u64) -> usize {
    let hash = (identity.wrapping_mul(0xd6e8_feb8_6659_fd93) ^ id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (hash >> (64 - OWNER_BUCKET_BITS)) as usize
}

#[inline]
pub(in crate::lock) fn lo(word: u64) -> u32 {
    word as u32
}

#[inline]
pub(in crate::lock) fn hi(word: u64) -> u32 {
    (word >> 32) as u32
}

#[inline]
pub(in crate::lock) fn pack(lo: u32, hi: u32) -> u64 {
    u64::from(lo) | u64::from(hi) << 32
}
