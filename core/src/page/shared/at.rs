//! The header words of the sidecar, as byte offsets in its first page (`shm`). The words up to `CLEAN` keep their place
//! and meaning in all layouts, so that this version can judge a sidecar left by another version.
//!
//! Each word in the table below belongs to one wing; the other wings call its methods. Two modules are exceptions and
//! name every word: `recovery`, which takes over a sidecar, and `session::sidecar`, which makes one.
//! `tests/system/test_tidy.py` checks this, and that the table is complete. The wings share the other words: the state
//! of the store.
//!
//! | WING | ITS WORDS |
//! | --- | --- |
//! | `shared` | `PROCESSES_HIGH`, `HAS_UNDO`, `HAS_LIST`, `HAS_MAP`, `HAS_TABLE`, `HAS_LOG` |
//! | `pager` | `LATCH`, `LATCH_WAITERS` |
//! | `pages` | `CURSOR`, `INTENT` |
//! | `section` | `LATCH_TICKETS`, `GATE`, `GATE_WAITERS`, `STRUCTURE` |
//! | `redo` | `LOG_LEADER`, `LOG_WAITERS`, `LOG_READY`, `LOG_WRITTEN`, `LOG_DURABLE`, `LOG_HOLD`, `LOG_END`, `LOG_CHAIN` |
//! | `redo` | `LOG_NEXT_END`, `LOG_NEXT_CHAIN`, `LOG_NEXT_READY`, `LOG_GENERATION`, `LOG_NAMED`, `LOG_NEW`, `LOG_OLD` |
//! | `redo` | `LOG_REPLAY`, `CK_LOG`, `CK_LOG_OLD` |
//! | `checkpoint` | `CK_LOGICAL`, `CK_NEXT_ID`, `CK_ROOT`, `CK_ROOT_SUM`, `CK_DIRTY`, `CK_CATALOGUE`, `CK_CATALOGUE_SUM` |
//! | `checkpoint` | `CK_REQUEST`, `CK_KEEP`, `UNFLUSHED`, `CATALOGUE_SUM`, `OLD_ROOT`, `OLD_ROOT_SUM`, `OLD_CATALOGUE` |
//! | `checkpoint` | `OLD_CATALOGUE_SUM`, `REBUILD_AT`, `REBUILD_FROM`, `REBUILD_DONE`, `REBUILD_TREE`, `KEEP`, `KEEP_TIME` |
//! | `helper` | `DIRTY_AT`, `HELPER`, `HELP_CALL`, `HELP_NOW` |
//! | `session` | `LAYOUT`, `READY`, `DEV`, `INO` |
//! | `session` | `BOOT`, `ATTACHED` |
//! | `recovery` | `TAKING` |

pub(crate) const MAGIC: usize = 0;
pub(crate) const LAYOUT: usize = 8;
/// Written last when the sidecar is made.
pub(crate) const READY: usize = 16;
pub(crate) const BOOT: usize = 24;
pub(crate) const DEV: usize = 32;
pub(crate) const INO: usize = 40;
pub(crate) const UUID: usize = 48; // and 56
pub(crate) const NONCE: usize = 64;
/// The attachment of the disk on which it was made (`raw::boot`); 0: not known.
pub(crate) const ATTACHED: usize = 72;
/// The signature: checksum of the words before it, which never change.
pub(crate) const IDENTITY: usize = 80;
/// The seal: a checksum of the header and of the beginnings of the regions, if a checkpoint holds every completed
/// change and no process has used the sidecar since; else 0.
pub(crate) const CLEAN: usize = 88;
/// 1: the state left by dead processes was validated and is being rebuilt (`takeover`).
pub(crate) const TAKING: usize = 96;

/// The current epoch.
pub(crate) const EPOCH: usize = 128;
/// The last durable checkpoint, and its page table: root page | height << 32, checksum.
pub(crate) const DURABLE: usize = 136;
pub(crate) const ROOT: usize = 144;
pub(crate) const ROOT_SUM: usize = 152;
/// Checksum of the meta page of the last durable checkpoint.
pub(crate) const META_SUM: usize = 160;
/// Number of physical pages for which the file has blocks.
pub(crate) const FILE_PAGES: usize = 168;
/// Where the search for a free physical page continues.
pub(crate) const CURSOR: usize = 176;
/// Free physical pages (a hint; recounted at recovery).
pub(crate) const FREE_COUNT: usize = 184;
/// Number of logical pages ever used: the entries of the live table that may be read.
pub(crate) const LOGICAL: usize = 192;
pub(crate) const NEXT_ID: usize = 200;
pub(crate) const POISON: usize = 208;
/// Pages below this number existed when the sidecar was made and are not allocated until the free map is rebuilt; 0:
/// rebuilt.
pub(crate) const REBUILD_BELOW: usize = 216;
/// Logical page where the rebuild continues.
pub(crate) const REBUILD_AT: usize = 224;
/// Number of completed changes; in a cache line of its own.
pub(crate) const CHANGES: usize = 256;

/// The latch: 0, or thread slot + 1 of its owner. In a cache line of its own.
pub(crate) const LATCH: usize = 320;
pub(crate) const LATCH_WAITERS: usize = 328;
/// The waiter for which the latch is reserved, and the number of the newest ticket (`turn`).
pub(crate) const LATCH_TURN: usize = 336;
pub(crate) const LATCH_TICKETS: usize = 344;
/// The gate's word (`gate`). In a cache line of its own.
pub(crate) const GATE: usize = 384;
pub(crate) const GATE_WAITERS: usize = 392;
/// Changes whenever entries may have moved (`section::lookup`).
pub(crate) const STRUCTURE: usize = 400;
/// Thread slots ever used.
pub(crate) const SLOTS_HIGH: usize = 448;
/// Process slots ever used.
pub(crate) const PROCESSES_HIGH: usize = 456;

/// Number of ended threads that could not release their locks (`slots`); 0: none.
pub(crate) const ENDED: usize = 464;

/// Copy-on-write intent (`cow`): state, logical page, old entry, new entry.
pub(crate) const INTENT: usize = 512;
pub(crate) const UNDO_LEN: usize = 576;
/// Whether changes go to the redo log (`redo`). It lies next to the word that every commit stores to.
pub(crate) const LOG_MODE: usize = 584;
/// Changes whenever records of the undo log stop counting (`undo`).
pub(crate) const UNDO_ERA: usize = 592;

/// Checkpoint (`checkpoint`): its owner, its phase, and the values taken at the flip.
pub(crate) const CK_OWNER: usize = 640;
pub(crate) const CK_PHASE: usize = 648;
pub(crate) const CK_EPOCH: usize = 656;
pub(crate) const CK_LOGICAL: usize = 664;
pub(crate) const CK_NEXT_ID: usize = 672;
pub(crate) const CK_ROOT: usize = 680;
pub(crate) const CK_ROOT_SUM: usize = 688;
/// Number of entries of the old list whose pages are already free.
pub(crate) const CK_FREED: usize = 696;
/// Lengths of the dirty lists, by epoch mod 3.
pub(crate) const LIST_LEN: usize = 704; // 3 words
/// Number of dirty entries of the ended epoch that are data pages (the checkpointer added the others).
pub(crate) const CK_DIRTY: usize = 728;

/// Bytes allocated of each growing region.
pub(crate) const HAS_UNDO: usize = 768;
pub(crate) const HAS_LIST: usize = 776; // 3 words
pub(crate) const HAS_MAP: usize = 800;
pub(crate) const HAS_TABLE: usize = 808;
/// The strictest durability that any process with the store open asked for: 0 none, 1 checkpoints are flushed, 2 every
/// commit is.
pub(crate) const STRICTEST: usize = 816;
/// 1: the last checkpoint may not have been flushed (no process present asked for it then).
pub(crate) const UNFLUSHED: usize = 824;

/// The snapshot catalogue of the last durable checkpoint: first page | pages << 32, checksum.
pub(crate) const CATALOGUE: usize = 1024;
pub(crate) const CATALOGUE_SUM: usize = 1032;
/// The snapshot catalogue of the checkpoint being made.
pub(crate) const CK_CATALOGUE: usize = 1040;
pub(crate) const CK_CATALOGUE_SUM: usize = 1048;
/// The checkpoint before the last durable one (while one is being made: the last): its page table and its catalogue.
pub(crate) const OLD_ROOT: usize = 1056;
pub(crate) const OLD_ROOT_SUM: usize = 1064;
pub(crate) const OLD_CATALOGUE: usize = 1072;
pub(crate) const OLD_CATALOGUE_SUM: usize = 1080;
/// The change that the checkpoint makes to the catalogue (`snapshot`): nothing, add, drop.
pub(crate) const CK_REQUEST: usize = 1088;
/// The rebuild of the free map: the checkpoint it began at, the last snapshot recorded completely, and the tree that
/// `REBUILD_AT` lies in.
pub(crate) const REBUILD_FROM: usize = 1096;
pub(crate) const REBUILD_DONE: usize = 1104;
pub(crate) const REBUILD_TREE: usize = 1112;
/// The checkpoint that the next one lists as a snapshot (`checkpoint::before_recovery`; 0: none), and the time of the
/// takeover that asked for it.
pub(crate) const KEEP: usize = 1120;
pub(crate) const KEEP_TIME: usize = 1128;
/// The part of `KEEP` that the current checkpoint took at its flip.
pub(crate) const CK_KEEP: usize = 1136;
/// Redo log, group commit (`redo::group`): the leader; in a cache line of its own.
pub(crate) const LOG_LEADER: usize = 2048;
pub(crate) const LOG_WAITERS: usize = 2056;
pub(crate) const LOG_READY: usize = 2112;
pub(crate) const LOG_WRITTEN: usize = 2120;
pub(crate) const LOG_DURABLE: usize = 2128;
pub(crate) const LOG_HOLD: usize = 2136;
/// Redo log: end and chain of the committed records, and their values if the commit in progress completes.
pub(crate) const LOG_END: usize = 2176;
pub(crate) const LOG_CHAIN: usize = 2184;
pub(crate) const LOG_NEXT_END: usize = 2192;
pub(crate) const LOG_NEXT_CHAIN: usize = 2200;
pub(crate) const LOG_NEXT_READY: usize = 2208;
/// The generation of the log's file; 0: no usable file exists.
pub(crate) const LOG_GENERATION: usize = 2240;
/// The generation that the newest durable meta page names.
pub(crate) const LOG_NAMED: usize = 2248;
/// Where the suffixes begin that the newest durable meta page and the one before it need.
pub(crate) const LOG_NEW: usize = 2256;
pub(crate) const LOG_OLD: usize = 2264;
/// `REPLAY`: the log's content is still to be applied to the checkpoint; else 0.
pub(crate) const LOG_REPLAY: usize = 2272;
pub(crate) const HAS_LOG: usize = 2280;
/// Values that the current checkpoint took at its flip: its place in the log (3 words), and the `LOG_NEW` of that time.
pub(crate) const CK_LOG: usize = 2304;
pub(crate) const CK_LOG_OLD: usize = 2328;

/// The bound on loss (`helper`): when the first change of an epoch was made, by epoch mod 3 (nanoseconds since 1970,
/// for statistics only).
pub(crate) const DIRTY_AT: usize = 2560; // 3 words
/// The shortest `max_age` that a present process asked for, in milliseconds; 0: none.
pub(crate) const MAX_AGE: usize = 2584;
/// The process whose helper makes the checkpoints, as in the latch's word; 0: none. In a cache line of its own.
pub(crate) const HELPER: usize = 2624;
/// Helpers sleep on this word. It changes with the first change of an epoch and with a request for a checkpoint.
pub(crate) const HELP_CALL: usize = 2688;
/// A checkpoint is due now: the dirty list is long, or a writer reached its end.
pub(crate) const HELP_NOW: usize = 2696;
/// Number of steps that owners of the checkpoint have made. An owner that makes none for long counts as stopped.
pub(crate) const CK_HEARTBEAT: usize = 2752;
