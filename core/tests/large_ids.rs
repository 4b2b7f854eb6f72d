//! The id of a large value stands for its content: whatever changes, in place or as a whole, in transactions and after
//! rollbacks, one id never has two contents. So a program may keep a content under its id (`Large::id`).

use persist_core::store::door::{COPY_MAX, Edit};
use persist_core::store::{Actor, In, Key, Large, Options, Reader, Result, Step, Store, Value, Wait};
use std::collections::HashMap;

const A: Key<'static> = Key::Str(b"a");
/// Values of more bytes are `Large`.
const SHORT: usize = COPY_MAX;

type Seen = HashMap<(u64, u64, u64), Vec<u8>>;

fn content(r: &Reader<'_>, large: &Large) -> Result<Vec<u8>> {
    let mut bytes = vec![0; large.len as usize];
    let n = r.large_read(large, 0, &mut bytes)?;
    bytes.truncate(n);
    Ok(bytes)
}

/// Compare the value with the model, and its id with all ids before.
fn check(store: &Store, model: &[u8], seen: &mut Seen) {
    let found = store.read(&mut Wait::default(), |r| match r.get(store.root(), &A)? {
        Some(Value::Large(large)) => Ok(Some((large, content(r, &large)?))),
        Some(Value::Bytes(bytes)) => {
            assert!(bytes[..] == *model && model.len() <= SHORT);
            Ok(None)
        }
        other => panic!("{other:?}"),
    });
    if let Some((large, bytes)) = found.unwrap() {
        assert!(bytes == model, "another content than that of the model");
        let before = seen.entry((large.addr.0, large.id, large.len)).or_insert(bytes);
        assert!(before == model, "id {} has two contents", large.id);
    }
}

/// Change the value, in place or as a whole.
fn change(store: &Store, model: &mut Vec<u8>, rng: &mut fastrand::Rng) {
    let fill = rng.u8(..);
    if rng.u8(..4) == 0 {
        *model = vec![fill; rng.usize(SHORT..5 * SHORT)];
        let done = store.write(Actor::Thread, &mut Wait::default(), |w| {
            w.set(store.root(), &A, &In::Bytes(model))
        });
        return done.unwrap();
    }
    let offset = rng.usize(..=model.len());
    let bytes = vec![fill; rng.usize(..9000)];
    let end = model.len().max(offset + bytes.len());
    let len = (rng.u8(..4) == 0).then(|| rng.usize(SHORT / 2..end + 5000));
    let edit = Edit {
        offset: offset as u64,
        bytes: &bytes,
        len: len.map(|n| n as u64),
        no_newline: None,
    };
    let step = Step::Key(Value::Str {
        bytes: b"a"[..].into(),
        no_newline: false,
    });
    let done = store.write(Actor::Thread, &mut Wait::default(), |w| {
        w.edit(store.root(), &step, &edit)
    });
    done.unwrap();
    model.resize(end, 0);
    model[offset..offset + bytes.len()].copy_from_slice(&bytes);
    model.resize(len.unwrap_or(end), 0);
}

#[test]
fn an_id_never_has_two_contents() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.store");
    let mut rng = fastrand::Rng::with_seed(80);
    let (mut seen, mut model) = (Seen::new(), vec![0; 2 * SHORT]);
    for opening in 0..4 {
        let store = Store::open(&path, &Options::default()).unwrap();
        if opening == 0 {
            store
                .write(Actor::Thread, &mut Wait::default(), |w| {
                    w.set(store.root(), &A, &In::Bytes(&model))
                })
                .unwrap();
        }
        // A mark of a block, and the model before it.
        let mut blocks = Vec::new();
        for _ in 0..120 {
            match rng.u8(..8) {
                0 if blocks.len() < 3 => {
                    store.begin(&mut Wait::default()).unwrap();
                    blocks.push(model.clone());
                }
                1 => {
                    if blocks.pop().is_some() {
                        store.commit().unwrap();
                    }
                }
                2 | 3 => {
                    if let Some(before) = blocks.pop() {
                        store.rollback().unwrap();
                        model = before;
                    }
                }
                _ => change(&store, &mut model, &mut rng),
            }
            check(&store, &model, &mut seen);
        }
        while let Some(before) = blocks.pop() {
            store.rollback().unwrap();
            model = before;
        }
        check(&store, &model, &mut seen);
        store.close().unwrap();
    }
    assert!(seen.len() > 150, "{} ids", seen.len());
}
