//! Contents of large values that Python objects of this process hold: reading one again copies nothing.
//!
//! 1. A content belongs to an id. Every change gives a large value a new id, and no id is given out twice, also not
//!    after a rollback (`Large::id`). So what is found under the id that an entry has now is what the entry contains.
//!    Address and length are compared too: a damaged store may have an id twice.
//! 2. A content is memory of this process and never changes. It needs neither the store nor its file: it stays valid
//!    beside writers, after `close()`, and in a forked child.
//! 3. The table keeps no content alive. What is left of dead ones is swept when the table has doubled.
//! 4. The lock is tried, not waited for: in a forked child a thread that does not exist there may hold it. Without the
//!    table a value is copied once more.

use persist_core::store::Large;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError, Weak};

/// Number of entries up to which dead ones are not swept.
const LEAST: usize = 64;

/// The content of a value, and the name of its type (empty: bytes).
#[derive(Clone)]
pub(crate) struct Content {
    pub(crate) name: Arc<str>,
    pub(crate) bytes: Arc<Vec<u8>>,
}

/// See the module header.
#[derive(Default)]
pub(crate) struct Contents(Mutex<Held>);

/// A content that may be held.
struct Known {
    name: Arc<str>,
    bytes: Weak<Vec<u8>>,
}

#[derive(Default)]
struct Held {
    known: HashMap<[u64; 3], Known>,
    /// Number of entries at which dead ones are swept.
    sweep: usize,
}

fn key(large: &Large) -> [u64; 3] {
    [large.addr.0, large.id, large.len]
}

impl Held {
    fn get(&self, large: &Large) -> Option<Content> {
        let known = self.known.get(&key(large))?;
        Some(Content {
            name: Arc::clone(&known.name),
            bytes: known.bytes.upgrade()?,
        })
    }
}

impl Contents {
    fn lock(&self) -> Option<MutexGuard<'_, Held>> {
        match self.0.try_lock() {
            Ok(held) => Some(held),
            Err(TryLockError::Poisoned(held)) => Some(held.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// The content of a value, if it is held.
    pub(crate) fn get(&self, large: &Large) -> Option<Content> {
        self.lock()?.get(large)
    }

    /// Return the content of a value that was read, and find it here as long as it is held. If another thread has read
    /// it too, the content is that thread's.
    pub(crate) fn keep(&self, large: &Large, name: &str, bytes: Vec<u8>) -> Content {
        let made = || Content {
            name: name.into(),
            bytes: Arc::new(bytes),
        };
        let Some(mut held) = self.lock() else {
            return made();
        };
        if let Some(there) = held.get(large) {
            return there;
        }
        if held.known.len() >= held.sweep.max(LEAST) {
            held.known.retain(|_, known| known.bytes.strong_count() > 0);
            held.sweep = held.known.len() * 2;
        }
        let content = made();
        let known = Known {
            name: Arc::clone(&content.name),
            bytes: Arc::downgrade(&content.bytes),
        };
        held.known.insert(key(large), known);
        content
    }
}
