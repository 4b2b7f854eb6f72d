//! The words of the sidecar's header (its first page), and which file owns each.
//!
//! A word is a private constant of its owner; other files use the owner's methods. The words up to 128 keep their place
//! and meaning in all layouts, so that this version can judge a sidecar left by another version.
//! `tests/system/test_tidy.py` checks that the table agrees with the constants, that each word has one owner, and that
//! no two words overlap.
//!
//! | OFFSET | SIZE | WORD | OWNER |
//! | --- | --- | --- | --- |
//! | 0 | 8 | `SIDECAR` | `shared::shm` |
//! | 8 | 8 | `LAYOUT` | `shared::header::identity` |
//! | 16 | 8 | `READY` | `shared::header::identity` |
//! | 24 | 8 | `BOOT` | `shared::header::identity` |
//! | 32 | 8 | `DEV` | `shared::header::identity` |
//! | 40 | 8 | `INO` | `shared::header::identity` |
//! | 48 | 16 | `UUID` | `shared::header::identity` |
//! | 64 | 8 | `NONCE` | `shared::shm` |
//! | 72 | 8 | `ATTACHED` | `shared::header::identity` |
//! | 80 | 8 | `IDENTITY` | `shared::header::seal` |
//! | 88 | 8 | `CLEAN` | `shared::header::seal` |
//! | 96 | 8 | `TAKING` | `recovery::takeover` |
//! | 128 | 8 | `EPOCH` | `shared::header::live` |
//! | 136 | 8 | `DURABLE` | `shared::header::last_checkpoint` |
//! | 144 | 16 | `ROOT` | `shared::header::last_checkpoint` |
//! | 160 | 8 | `META_SUM` | `shared::header::last_checkpoint` |
//! | 168 | 8 | `FILE_PAGES` | `shared::regions::free_pages` |
//! | 176 | 8 | `CURSOR` | `shared::regions::free_pages` |
//! | 184 | 8 | `FREE_COUNT` | `shared::regions::free_pages` |
//! | 192 | 8 | `LOGICAL` | `shared::header::live` |
//! | 200 | 8 | `NEXT_ID` | `shared::header::live` |
//! | 208 | 8 | `POISON` | `shared::header::poison` |
//! | 216 | 8 | `REBUILD_BELOW` | `shared::regions::free_pages` |
//! | 224 | 8 | `REBUILD_AT` | `checkpoint::free_map` |
//! | 256 | 8 | `CHANGES` | `shared::header::live` |
//! | 264 | 8 | `WATCHED` | `shared::regions::feed` |
//! | 320 | 8 | `LATCH` | `shared::header::latch` |
//! | 328 | 8 | `LATCH_WAITERS` | `shared::header::latch` |
//! | 336 | 8 | `LATCH_TURN` | `shared::header::latch` |
//! | 344 | 8 | `LATCH_TICKETS` | `shared::header::latch` |
//! | 384 | 8 | `GATE` | `shared::header::gate` |
//! | 392 | 8 | `GATE_WAITERS` | `shared::header::gate` |
//! | 400 | 8 | `STRUCTURE` | `shared::header::live` |
//! | 448 | 8 | `SLOTS_HIGH` | `shared::users::threads` |
//! | 456 | 8 | `PROCESSES_HIGH` | `shared::users::slots` |
//! | 464 | 8 | `ENDED_THREADS` | `shared::users::threads` |
//! | 512 | 48 | `INTENT` | `pages::cow` |
//! | 576 | 8 | `UNDO` | `shared::regions::undo` |
//! | 584 | 8 | `LOG_MODE` | `shared::header::log_mode` |
//! | 640 | 8 | `CK_OWNER` | `shared::header::checkpoint_owner` |
//! | 648 | 8 | `CK_PHASE` | `shared::header::next_checkpoint` |
//! | 656 | 8 | `CK_EPOCH` | `shared::header::next_checkpoint` |
//! | 664 | 8 | `CK_LOGICAL` | `shared::header::next_checkpoint` |
//! | 672 | 8 | `CK_NEXT_ID` | `shared::header::next_checkpoint` |
//! | 680 | 16 | `CK_ROOT` | `shared::header::next_checkpoint` |
//! | 696 | 8 | `CK_FREED` | `shared::header::next_checkpoint` |
//! | 704 | 24 | `LIST_LEN` | `shared::regions::free_pages` |
//! | 728 | 8 | `CK_DIRTY` | `shared::header::next_checkpoint` |
//! | 768 | 8 | `HAS_UNDO` | `shared::shm` |
//! | 776 | 24 | `HAS_LIST` | `shared::shm` |
//! | 800 | 8 | `HAS_MAP` | `shared::shm` |
//! | 808 | 8 | `HAS_TABLE` | `shared::shm` |
//! | 816 | 8 | `STRICTEST` | `shared::users::slots` |
//! | 824 | 8 | `UNFLUSHED` | `shared::header::last_checkpoint` |
//! | 1024 | 16 | `CATALOGUE` | `shared::header::last_checkpoint` |
//! | 1040 | 16 | `CK_CATALOGUE` | `shared::header::next_checkpoint` |
//! | 1056 | 16 | `OLD_ROOT` | `shared::header::last_checkpoint` |
//! | 1072 | 16 | `OLD_CATALOGUE` | `shared::header::last_checkpoint` |
//! | 1088 | 8 | `CK_REQUEST` | `checkpoint::snapshot` |
//! | 1096 | 8 | `REBUILD_FROM` | `checkpoint::free_map` |
//! | 1104 | 8 | `REBUILD_DONE` | `checkpoint::free_map` |
//! | 1112 | 8 | `REBUILD_TREE` | `checkpoint::free_map` |
//! | 1120 | 8 | `KEEP` | `checkpoint::before_recovery` |
//! | 1128 | 8 | `KEEP_TIME` | `checkpoint::before_recovery` |
//! | 1136 | 8 | `CK_KEEP` | `checkpoint::before_recovery` |
//! | 2048 | 8 | `LOG_LEADER` | `redo::words` |
//! | 2056 | 8 | `LOG_WAITERS` | `redo::words` |
//! | 2112 | 8 | `LOG_READY` | `redo::words` |
//! | 2120 | 8 | `LOG_WRITTEN` | `redo::words` |
//! | 2128 | 8 | `LOG_DURABLE` | `redo::words` |
//! | 2136 | 8 | `LOG_HOLD` | `redo::words` |
//! | 2176 | 8 | `LOG_END` | `redo::words` |
//! | 2184 | 8 | `LOG_CHAIN` | `redo::words` |
//! | 2192 | 8 | `LOG_NEXT_END` | `redo::words` |
//! | 2200 | 8 | `LOG_NEXT_CHAIN` | `redo::words` |
//! | 2208 | 8 | `LOG_NEXT_READY` | `redo::words` |
//! | 2240 | 8 | `LOG_GENERATION` | `redo::words` |
//! | 2248 | 8 | `LOG_NAMED` | `redo::words` |
//! | 2256 | 8 | `LOG_NEW` | `redo::words` |
//! | 2264 | 8 | `LOG_OLD` | `redo::words` |
//! | 2272 | 8 | `LOG_REPLAY` | `redo::words` |
//! | 2280 | 8 | `HAS_LOG` | `shared::shm` |
//! | 2304 | 24 | `CK_LOG` | `redo::words` |
//! | 2328 | 8 | `CK_LOG_OLD` | `redo::words` |
//! | 2560 | 24 | `DIRTY_AT` | `shared::header::helpers` |
//! | 2584 | 8 | `MAX_AGE` | `shared::users::slots` |
//! | 2624 | 8 | `HELPER` | `shared::header::helpers` |
//! | 2688 | 8 | `HELP_CALL` | `shared::header::helpers` |
//! | 2696 | 8 | `HELP_NOW` | `shared::header::helpers` |
//! | 2752 | 8 | `CK_HEARTBEAT` | `shared::header::checkpoint_owner` |
//! | 2816 | 8 | `RING_HEAD` | `shared::regions::feed` |
//! | 2824 | 8 | `RING_STAGED` | `shared::regions::feed` |
//! | 2832 | 8 | `RING_RESERVED` | `shared::regions::feed` |
//! | 2880 | 8 | `RING_TURN` | `shared::regions::feed` |
//! | 2888 | 8 | `RING_WAITERS` | `shared::regions::feed` |
//! | 2944 | 8 | `LEASED` | `shared::regions::leases` |
//! | 2952 | 8 | `LEASE_GRANTS` | `shared::regions::leases` |
//! | 3008 | 16 | `LEASE_CALL` | `shared::regions::leases` |
//! | 3072 | 16 | `LEASE_HOLDER` | `shared::regions::leases` |
//! | 3136 | 8 | `NEWEST_VIEW` | `shared::regions::views` |
//! | 3200 | 8 | `VIEW_COUNT` | `shared::regions::views` |
//! | 3208 | 8 | `VIEWS_ENDED` | `shared::regions::views` |
//! | 3216 | 8 | `KEPT_SEEN` | `shared::regions::views` |
//! | 3224 | 8 | `KEPT_FROM` | `shared::regions::views` |
//! | 3232 | 8 | `KEPT_END` | `shared::regions::views` |
//! | 3240 | 8 | `HAS_KEPT` | `shared::shm` |
//! | 3248 | 8 | `LIST_CUTS` | `shared::regions::free_pages` |

/// A word of the header.
#[derive(Clone, Copy)]
pub(in crate::page) struct Word(usize);

impl Word {
    /// Return the word at an offset. Only for the constants of the owners.
    pub(in crate::page) const fn at(offset: usize) -> Word {
        Word(offset)
    }

    /// Return the word `i` words after this one, of an owner that has several in a row.
    #[inline(always)]
    pub(in crate::page) const fn nth(self, i: usize) -> Word {
        Word(self.0 + 8 * i)
    }

    /// Return its place in the file.
    #[inline(always)]
    pub(in crate::page) const fn offset(self) -> usize {
        self.0
    }
}

/// A header that words can be read from: the mapped sidecar, or the beginning of a sidecar's file.
pub(in crate::page) trait Words {
    /// Return the value of a word.
    fn value(&self, word: Word) -> u64;
}
