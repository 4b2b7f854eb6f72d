//! The content of a store, as text, and whether it is sound in every layer.

use persist_core::heap;
use persist_core::ids::PageNo;
use persist_core::page::access::Pages;
use persist_core::page::superblock;
use persist_core::store::{Actor, In, Key, Kind, Obj, ObjectId, Reader, Result, Store, Value, Wait};
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

/// A store's whole content, and how much of the heap it takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    /// Every container that is reachable from the root, with its entries.
    pub content: String,
    /// Allocated segments, and their bytes.
    pub segments: (u64, u64),
    /// The snapshots: name, and content.
    pub snapshots: Vec<(String, String)>,
}

impl State {
    /// Reads everything.
    pub fn of(store: &Store) -> State {
        let read = store.read(&mut Wait::default(), |r| {
            Ok(State {
                content: content(r, store.root())?,
                segments: segments(r)?,
                snapshots: Vec::new(),
            })
        });
        let mut state = read.expect("read all");
        // Snapshots that keep the state of dead processes are not part of a state: they depend on the deaths.
        let all = store.snapshots().expect("list the snapshots");
        for s in all
            .into_iter()
            .filter(|s| !s.name.starts_with("before-recovery-"))
        {
            let opened = store.open_snapshot(&s.name).expect("open a snapshot");
            opened.check().expect("a sound snapshot");
            opened.check_pages().expect("a whole snapshot");
            let read = opened.read(&mut Wait::default(), |r| content(r, opened.root()));
            state.snapshots.push((s.name, read.expect("read a snapshot")));
        }
        state
    }
}

fn content(r: &Reader<'_>, root: Obj) -> Result<String> {
    let mut out = String::new();
    let mut names: HashMap<ObjectId, usize> = HashMap::new();
    let mut queue = vec![root];
    names.insert(root.id, 0);
    let mut next = 0;
    while next < queue.len() {
        let obj = queue[next];
        let mut value = |v: &Value| -> Result<String> {
            Ok(match v {
                Value::Obj(o) => {
                    let n = names.len();
                    let name = *names.entry(o.id).or_insert_with(|| {
                        queue.push(*o);
                        n
                    });
                    format!("#{name}")
                }
                Value::Large(large) => {
                    let mut bytes = vec![0; large.len as usize];
                    let mut at = 0;
                    while at < bytes.len() {
                        let n = r.large_read(large, at as u64, &mut bytes[at..])?;
                        assert!(n > 0, "a large value ends early");
                        at += n;
                    }
                    format!("large {:?} {:x}", large.kind, xxhash_rust::xxh3::xxh3_64(&bytes))
                }
                other => format!("{other:?}"),
            })
        };
        let kind = r.kind(obj)?;
        write!(
            out,
            "#{next} {kind:?} {:?} refs {} len {}:",
            r.class(obj)?,
            r.refs(obj)?,
            r.len(obj)?
        )
        .expect("text");
        if kind == Kind::List {
            let mut items = Vec::new();
            r.items(obj, 0, usize::MAX, &mut items)?;
            for item in &items {
                write!(out, " {}", value(item)?).expect("text");
            }
            if let Some(dict) = r.waiting(obj)? {
                write!(out, " waiting {}", value(&Value::Obj(dict))?).expect("text");
            }
        } else {
            let mut cursor = 0;
            while let Some(entry) = r.next(obj, cursor)? {
                cursor = entry.cursor;
                write!(out, " {:?}={}", entry.key, value(&entry.value)?).expect("text");
            }
        }
        out.push('\n');
        next += 1;
    }
    Ok(out)
}

/// The free pages. They may look like pages of the heap.
fn free_pages(r: &Reader<'_>) -> Result<HashSet<u64>> {
    let mut free = HashSet::new();
    let mut trunk = r.u64_at(superblock::FREE_PAGE)?;
    while trunk != 0 {
        free.insert(trunk);
        let at = PageNo(trunk).addr();
        for i in 0..r.u64_at(at + superblock::TRUNK_COUNT)? {
            free.insert(r.u64_at(at + (superblock::TRUNK_NAMES + 8 * i))?);
        }
        trunk = r.u64_at(at)?;
    }
    Ok(free)
}

fn segments(r: &Reader<'_>) -> Result<(u64, u64)> {
    let (mut count, mut bytes) = (0, 0);
    let free = free_pages(r)?;
    for page in (1..r.u64_at(superblock::NEXT_PAGE)?).map(PageNo) {
        if !free.contains(&page.0) && heap::is_heap_page(r, page) {
            for s in heap::page_segments(r, page)?.iter().filter(|s| s.allocated) {
                count += 1;
                bytes += s.size as u64;
            }
        }
    }
    Ok((count, bytes))
}

/// Assert that every layer is sound, no lock is held, nothing is lost, and the store continues to work.
pub fn sound(store: &Store) -> std::result::Result<(), String> {
    let say = |e: persist_core::Error| e.to_string();
    store.check().map_err(say)?;
    // A thread that makes checkpoints, of this process or of another one, may be recovering the dead owner now.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let locks = store.locks().map_err(say)?;
        if locks.is_empty() {
            break;
        }
        if std::time::Instant::now() > deadline {
            return Err(format!("locks are left: {locks:?}"));
        }
        store.sync().map_err(say)?;
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    // A value so large that every page that seems free is used, before a checkpoint in progress continues.
    let probe = Key::Str(b"a probe that was not there before");
    let set = |bytes: &[u8]| {
        store.write(Actor::Thread, &mut Wait::default(), |w| {
            w.set(store.root(), &probe, &In::Bytes(bytes))
        })
    };
    let before = State::of(store);
    set(&vec![0xa5; 300_000]).map_err(say)?;
    pages(store)?;
    for round in 0..3 {
        set(&[round; 300]).map_err(say)?;
        store.sync().map_err(say)?;
    }
    store
        .write(Actor::Thread, &mut Wait::default(), |w| {
            w.remove(store.root(), &probe)
        })
        .map_err(say)?;
    for _ in 0..8 {
        // Content that is freed in steps.
        store.gc().map_err(say)?;
    }
    store.check().map_err(say)?;
    let after = State::of(store);
    if (&after.content, &after.snapshots) != (&before.content, &before.snapshots) {
        return Err(format!("changed by using it:\n{after:?}\nbefore:\n{before:?}"));
    }
    pages(store)
}

fn pages(store: &Store) -> std::result::Result<(), String> {
    let report = store.check_pages().map_err(|e| e.to_string())?;
    if report.lost != 0 {
        return Err(format!("pages are lost: {report:?}"));
    }
    Ok(())
}
