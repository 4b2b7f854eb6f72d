//! The snapshots that a store may have after a power failure, and their content.

use crate::common::{Model, compare};
use persist_core::store::Store;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The models at checkpoints, by number.
pub type States = BTreeMap<u64, Arc<Model>>;

/// Snapshots that exist or existed.
#[derive(Clone, Default)]
pub struct Kept {
    /// Names and checkpoints; each list is valid from a checkpoint on.
    pub lists: BTreeMap<u64, Vec<(String, u64)>>,
    /// Their content, by checkpoint.
    pub models: States,
}

impl Kept {
    /// The list at a checkpoint.
    pub fn list(&self, checkpoint: u64) -> Vec<(String, u64)> {
        let last = self.lists.range(..=checkpoint).next_back();
        last.map_or_else(Vec::new, |l| l.1.clone())
    }

    /// The snapshots that exist if this checkpoint is the last.
    pub fn until(&self, checkpoint: u64) -> Kept {
        let upto = |states: &States| {
            states
                .range(..=checkpoint)
                .map(|(n, m)| (*n, m.clone()))
                .collect()
        };
        Kept {
            lists: self
                .lists
                .range(..=checkpoint)
                .map(|(n, l)| (*n, l.clone()))
                .collect(),
            models: upto(&self.models),
        }
    }

    /// Panic unless a store that opened at a checkpoint has exactly these snapshots, whole.
    pub fn compare(&self, store: &Store, checkpoint: u64, what: &str) {
        let found = store
            .snapshots()
            .unwrap_or_else(|e| panic!("{what}: snapshots: {e}"));
        let found: Vec<(String, u64)> = found.into_iter().map(|s| (s.name, s.checkpoint)).collect();
        assert_eq!(found, self.list(checkpoint), "{what}");
        for (name, number) in found {
            holds(store, &name, std::slice::from_ref(&self.models[&number]), what);
        }
    }
}

/// Panic unless a snapshot is whole and equals one of these models.
fn holds(store: &Store, name: &str, any: &[Arc<Model>], what: &str) {
    let what = format!("{what}: snapshot {name}");
    let opened = store
        .open_snapshot(name)
        .unwrap_or_else(|e| panic!("{what}: {e}"));
    let found = Model::read(&opened)
        .unwrap_or_else(|e| panic!("{what}: reading: {e}"))
        .text();
    let at = any.iter().position(|m| m.text() == found).unwrap_or(0);
    // If it equals none, this reports where it differs.
    compare(&opened, &any[at], &what);
    opened.check_pages().unwrap_or_else(|e| panic!("{what}: {e}"));
}

/// Snapshots of a store that may open at several checkpoints: the possible contents of each, by name.
#[derive(Clone, Default)]
pub struct Named {
    /// Snapshots that certainly exist.
    pub there: BTreeMap<String, Vec<Arc<Model>>>,
    /// Snapshots that are being taken or dropped, or were dropped in this life. The last kind can still exist only with
    /// a damaged meta page.
    pub perhaps: BTreeMap<String, Vec<Arc<Model>>>,
    pub gone: BTreeMap<String, Vec<Arc<Model>>>,
}

impl Named {
    /// Panic unless a store has these snapshots, whole. If its newest meta page is `damaged`, it may have those of the
    /// checkpoint before.
    pub fn compare(&self, store: &Store, damaged: bool, what: &str) {
        let found: Vec<String> = store
            .snapshots()
            .unwrap_or_else(|e| panic!("{what}: snapshots: {e}"))
            .into_iter()
            .map(|s| s.name)
            .collect();
        for name in self.there.keys() {
            assert!(
                damaged || found.contains(name),
                "{what}: {name} is not among {found:?}"
            );
        }
        for name in &found {
            let any = self.there.get(name).or_else(|| self.perhaps.get(name));
            let any = any.or_else(|| self.gone.get(name).filter(|_| damaged));
            let any = any.unwrap_or_else(|| panic!("{what}: no run made the snapshot {name}"));
            holds(store, name, any, what);
        }
    }

    /// Record that a store was opened that has these snapshots.
    pub fn found(&mut self, names: &[String]) {
        let mut all = std::mem::take(self);
        for name in names {
            let known = [&mut all.there, &mut all.perhaps, &mut all.gone]
                .into_iter()
                .find_map(|m| m.remove(name));
            self.there.insert(name.clone(), known.unwrap_or_default());
        }
    }
}
