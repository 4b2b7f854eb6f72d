//! Which snapshots a store may have after a power cut, and what they hold.

use crate::common::{Model, compare};
use persist_core::store::Store;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The models at checkpoints, by number.
pub type States = BTreeMap<u64, Arc<Model>>;

/// Snapshots that there are or were.
#[derive(Clone, Default)]
pub struct Kept {
    /// Names and checkpoints, from a checkpoint on.
    pub lists: BTreeMap<u64, Vec<(String, u64)>>,
    /// What they hold, by checkpoint.
    pub models: States,
}

impl Kept {
    /// As of a checkpoint.
    pub fn list(&self, checkpoint: u64) -> Vec<(String, u64)> {
        let last = self.lists.range(..=checkpoint).next_back();
        last.map_or_else(Vec::new, |l| l.1.clone())
    }

    /// What there is if a checkpoint is the last.
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

    /// Panics unless a store that opened at a checkpoint has just these snapshots, whole.
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

/// Panics unless a snapshot is whole and holds one of these.
fn holds(store: &Store, name: &str, any: &[Arc<Model>], what: &str) {
    let what = format!("{what}: snapshot {name}");
    let opened = store
        .open_snapshot(name)
        .unwrap_or_else(|e| panic!("{what}: {e}"));
    let found = Model::read(&opened)
        .unwrap_or_else(|e| panic!("{what}: reading: {e}"))
        .text();
    let at = any.iter().position(|m| m.text() == found).unwrap_or(0);
    // If it is none of them this says where it differs.
    compare(&opened, &any[at], &what);
    opened.check_pages().unwrap_or_else(|e| panic!("{what}: {e}"));
}

/// Snapshots where it is not known which checkpoint a store opens at: what each may hold, by name.
#[derive(Clone, Default)]
pub struct Named {
    /// That are there for sure.
    pub there: BTreeMap<String, Vec<Arc<Model>>>,
    /// That are being taken or dropped, or were dropped in this life. Only with a damaged meta page can the
    /// last kind still be there.
    pub perhaps: BTreeMap<String, Vec<Arc<Model>>>,
    pub gone: BTreeMap<String, Vec<Arc<Model>>>,
}

impl Named {
    /// Panics unless a store has these snapshots, whole. With its newest meta page `damaged` it may have those of
    /// the checkpoint before.
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
            let any = any.unwrap_or_else(|| panic!("{what}: nobody made the snapshot {name}"));
            holds(store, name, any, what);
        }
    }

    /// A store was opened that has these.
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
