//! The list of the store's locks, for diagnostics: paths and owners.
//!
//! 1. The lock table knows containers by id. Their paths are found by a walk over the store from the root, in many
//!    short sections, for `SEARCH` at most. A container that was not found then has no path in the list.
//! 2. The list is made in one section of the lock table; names are made afterwards.

use crate::ids::ObjectId;
use crate::lock::waiting::env::Env;
use crate::store::locks::handles::LockInfo;
use crate::store::locks::names::describe;
use crate::store::{Kind, Obj, Result, Store, Value, Wait};
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

/// How long the containers of locks are searched for.
const SEARCH: Duration = Duration::from_secs(2);
/// Entries read in one section.
const BATCH: usize = 256;

impl Store {
    /// Return all held and awaited locks, with the paths of what they lock.
    ///
    /// # Errors
    /// Those of the latch.
    pub fn locks(&self) -> Result<Vec<LockInfo>> {
        let all = self.latched(None, |table| table.list())?;
        let found = self.find_containers(all.iter().map(|l| l.holder.target.id).collect());
        Ok(all
            .into_iter()
            .map(|l| LockInfo {
                object: l.holder.target.id,
                key_hash: l.holder.target.key,
                path: found
                    .get(&l.holder.target.id)
                    .and_then(|obj| self.name_of(&l.holder.target, *obj, None)),
                owner: describe(self.pager(), &l.holder.owner),
                mode: format!("{:?}", l.holder.mode).to_uppercase(),
                count: l.count,
                waiting: l.holder.waiting,
            })
            .collect())
    }

    /// Search the store for containers with these ids. A container that is changed at the same time may be missed.
    fn find_containers(&self, mut wanted: HashSet<ObjectId>) -> HashMap<ObjectId, Obj> {
        let deadline = Instant::now() + SEARCH;
        let mut found = HashMap::new();
        let mut seen = HashSet::from([self.root().id]);
        // A container, and where its walk continues.
        let mut queue = VecDeque::from([(self.root(), 0)]);
        while let Some((obj, cursor)) = queue.pop_front() {
            if wanted.remove(&obj.id) {
                found.insert(obj.id, obj);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if wanted.is_empty() || left.is_zero() {
                break;
            }
            // What cannot be read has no name here; the list of locks is complete all the same.
            let Ok((children, next)) = self.children(obj, cursor, left) else {
                continue;
            };
            queue.extend(children.into_iter().filter(|c| seen.insert(c.id)).map(|c| (c, 0)));
            if let Some(next) = next {
                queue.push_front((obj, next));
            }
        }
        found
    }

    /// Return the containers in a batch of a container's entries, and where the next batch begins. Waits for `left` at
    /// most.
    fn children(&self, obj: Obj, cursor: u64, left: Duration) -> Result<(Vec<Obj>, Option<u64>)> {
        self.read(&mut Wait::at_most(left), |r| {
            let (mut values, mut at) = (Vec::new(), cursor);
            if r.kind(obj)? == Kind::List {
                r.items(obj, cursor, BATCH, &mut values)?;
                at += values.len() as u64;
            } else {
                while values.len() < BATCH
                    && let Some(entry) = r.next(obj, at)?
                {
                    at = entry.cursor;
                    values.push(entry.value);
                }
            }
            let more = (values.len() == BATCH).then_some(at);
            let children = values.into_iter().filter_map(|v| match v {
                Value::Obj(child) => Some(child),
                _ => None,
            });
            Ok((children.collect(), more))
        })
    }
}
