//! The lookup cache of threads (`page/section/lookup.rs`), handles of attributes (`Known`) and the fast path, against a
//! plain model: two openings of one store, so that each sees the changes of the other, and threads that read while
//! another moves entries.
//!
//! Every value contains the key that it belongs to, so a value read from a wrong place is detected at once.

use fastrand::Rng;
use persist_core::store::door::{Known, Member, Short, Word};
use persist_core::store::{Actor, In, Key, Kind, Obj, Options, Reader, Store, Value, Wait};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

const KEYS: i64 = 18;
const HOLDERS: usize = 2;

fn name(k: i64) -> String {
    // All lengths that the cache treats differently, and one that it does not keep.
    let n = k as usize % 18;
    format!(
        "{k:02}{}",
        "abcdefghijklmnopqr".chars().take(n).collect::<String>()
    )
}

fn value(k: i64, n: i64) -> i64 {
    k << 32 | n
}

/// The key of a holder in the root.
fn holder(i: usize) -> String {
    format!("holder {i}")
}

/// The result of the fast path, from an int and from a text alike; None if it cannot decide.
fn said(told: Result<Word, Value>) -> Option<Option<i64>> {
    match told {
        Ok(Word::EMPTY) => None,
        Ok(Word::REMOVED) => Some(None),
        Ok(word) => match word.as_short() {
            Short::Int(n) => Some(Some(n)),
            other => panic!("{other:?}"),
        },
        Err(Value::Str { bytes, .. }) => Some(Some(number(&bytes))),
        Err(other) => panic!("{other:?}"),
    }
}

fn longer(r: &Reader<'_>, word: Word) -> Option<Value> {
    r.value(word).ok()
}

/// The value as a text that does not fit a word.
fn text_of(v: i64) -> String {
    format!("text {v:060}")
}

fn number(text: &[u8]) -> i64 {
    let text = std::str::from_utf8(text).unwrap();
    text.strip_prefix("text ").unwrap().parse().unwrap()
}

struct Both {
    stores: [Store; 2],
    holders: Vec<Obj>,
    /// For each holder in each opening.
    known: Vec<[Known; 2]>,
    model: Vec<HashMap<i64, i64>>,
}

impl Both {
    fn write(
        &self,
        s: usize,
        f: impl FnMut(&mut persist_core::store::Writer<'_>) -> persist_core::Result<()>,
    ) {
        self.stores[s]
            .write(Actor::Thread, &mut Wait::default(), f)
            .unwrap();
    }

    fn fresh_holder(&self, s: usize, i: usize) -> Obj {
        let (mut made, root) = (None, self.stores[s].root());
        self.write(s, |w| {
            let o = match i % 2 {
                0 => w.new_dict()?,
                _ => w.new_object("module:Class")?,
            };
            w.set(root, &Key::Str(holder(i).as_bytes()), &In::Obj(o))?;
            made = Some(o);
            Ok(())
        });
        made.unwrap()
    }

    fn look(&self, s: usize, i: usize, k: i64) {
        let (text, want) = (name(k), self.model[i].get(&k));
        let key = Key::Str(text.as_bytes());
        let (store, holder) = (&self.stores[s], self.holders[i]);
        for attribute in [true, false] {
            let told = match attribute {
                true => store.fast_get(holder, Member::Attribute(key, &self.known[i][s]), longer),
                false => store.fast_get(holder, Member::Key(key), longer),
            };
            if let Some(found) = said(told) {
                assert_eq!(found.as_ref(), want, "remembered of {text} in {i}");
            }
        }
        let found = self.stores[s]
            .read(&mut Wait::default(), |r| r.get(self.holders[i], &key))
            .unwrap();
        let found = found.map(|v| match v {
            Value::Int(n) => n,
            Value::Str { bytes, .. } => number(&bytes),
            other => panic!("{other:?}"),
        });
        assert_eq!(found.as_ref(), want, "{text} in {i}");
        let name = self::holder(i);
        match store.fast_get(store.root(), Member::Key(Key::Str(name.as_bytes())), longer) {
            Ok(Word::EMPTY) => {}
            Err(Value::Obj(there)) => assert_eq!(there, holder),
            other => panic!("{other:?}"),
        }
    }
}

fn run(seed: u64, steps: usize) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.store");
    let open = || Store::open(&path, &Options::default()).unwrap();
    let mut rng = Rng::with_seed(seed);
    let mut both = Both {
        stores: [open(), open()],
        holders: Vec::new(),
        known: (0..HOLDERS).map(|_| Default::default()).collect(),
        model: vec![HashMap::new(); HOLDERS],
    };
    for i in 0..HOLDERS {
        let o = both.fresh_holder(0, i);
        both.holders.push(o);
    }
    let (mut at_once, mut s) = (0, 0);
    for n in 0..steps as i64 {
        if rng.u8(0..20) == 0 {
            s = 1 - s;
        }
        let (i, k) = (rng.usize(0..HOLDERS), rng.i64(0..KEYS));
        let (text, o, v) = (name(k), both.holders[i], value(k, n));
        let key = Key::Str(text.as_bytes());
        match rng.u16(0..300) {
            0..250 => {
                let known = both.model[i].contains_key(&k);
                let word = Word::small(&In::Int(v));
                let done = match rng.bool() {
                    true => both.stores[s].fast_set(o, Member::Key(key), word),
                    false => both.stores[s].fast_set(o, Member::Attribute(key, &both.known[i][s]), word),
                };
                if done {
                    assert!(known, "replaced what is not there");
                    at_once += 1;
                } else {
                    let text = text_of(v);
                    let value = if n % 12 == 0 { In::str(&text) } else { In::Int(v) };
                    both.write(s, |w| w.set(o, &key, &value));
                }
                both.model[i].insert(k, v);
            }
            250..270 => {
                both.write(s, |w| w.remove(o, &key).map(drop));
                both.model[i].remove(&k);
            }
            270..275 => {
                // Several changes in one section: a cached place is invalid after a change in it.
                let other = name((k + 1) % KEYS);
                both.write(s, |w| {
                    w.remove(o, &key)?;
                    w.set(o, &Key::Str(other.as_bytes()), &In::Int(value((k + 1) % KEYS, n)))?;
                    w.set(o, &key, &In::Int(v))
                });
                both.model[i].insert((k + 1) % KEYS, value((k + 1) % KEYS, n));
                both.model[i].insert(k, v);
            }
            275..280 => {
                both.write(s, |w| w.clear(o));
                both.model[i].clear();
            }
            280..285 => {
                // The memory of the old one is reused.
                both.holders[i] = both.fresh_holder(s, i);
                both.known[i] = Default::default();
                both.model[i].clear();
            }
            285..290 => {
                both.write(s, |w| {
                    let kind = if w.kind(o)? == Kind::Dict {
                        Kind::Object
                    } else {
                        Kind::Dict
                    };
                    w.convert(o, kind, "module:Other")
                });
            }
            _ => {
                let store = &both.stores[s];
                store.begin(&mut Wait::default()).unwrap();
                both.write(s, |w| w.remove(o, &key).map(drop));
                let new = name((k + 7) % KEYS);
                both.write(s, |w| {
                    w.set(o, &Key::Str(new.as_bytes()), &In::Int(value((k + 7) % KEYS, n)))
                });
                assert!(
                    !store.fast_set(o, Member::Key(key), Word::small(&In::Int(v))),
                    "within a transaction"
                );
                let told = store.fast_get(
                    o,
                    Member::Attribute(Key::Str(new.as_bytes()), &both.known[i][s]),
                    longer,
                );
                assert!(!matches!(told, Ok(Word::REMOVED)), "it is there");
                assert!(
                    !store.fast_set(
                        o,
                        Member::Attribute(Key::Str(new.as_bytes()), &both.known[i][s]),
                        Word::small(&In::Int(v)),
                    ),
                    "within a transaction"
                );
                // The place is cached only until the end of the section.
                let found = store.read(&mut Wait::default(), |r| r.contains(o, &Key::Str(new.as_bytes())));
                assert!(found.unwrap());
                if rng.bool() {
                    store.commit().unwrap();
                    both.model[i].remove(&k);
                    both.model[i].insert((k + 7) % KEYS, value((k + 7) % KEYS, n));
                } else {
                    store.rollback().unwrap();
                }
            }
        }
        for _ in 0..4 {
            both.look(s, rng.usize(0..HOLDERS), rng.i64(0..KEYS));
        }
    }
    assert!(at_once > steps / 20, "hardly anything was remembered: {at_once}");
    both.stores[0].check().unwrap();
}

#[test]
fn cached_lookups_agree_with_the_store() {
    for seed in 0..6 {
        run(seed, 3000);
    }
}

#[test]
fn readers_never_see_a_value_of_another_key() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("a.store"), &Options::default()).unwrap();
    let root = store.root();
    let write = |f: &mut dyn FnMut(&mut persist_core::store::Writer<'_>) -> persist_core::Result<()>| {
        store
            .write(Actor::Thread, &mut Wait::default(), |w| f(w))
            .unwrap();
    };
    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        for t in 0..2u64 {
            let (store, done) = (&store, &done);
            threads.spawn(move || {
                let mut rng = Rng::with_seed(t);
                let mut seen = 0u64;
                while !done.load(Ordering::Relaxed) || seen == 0 {
                    let k = rng.i64(0..KEYS);
                    let text = name(k);
                    let key = Key::Str(text.as_bytes());
                    let told = store.fast_get(root, Member::Key(key), longer);
                    if let Some(Some(n)) = said(told) {
                        assert_eq!(n >> 32, k, "{text}");
                        seen += 1;
                    } else if let Some(Value::Int(n)) =
                        store.read(&mut Wait::default(), |r| r.get(root, &key)).unwrap()
                    {
                        assert_eq!(n >> 32, k, "{text}");
                    }
                }
            });
        }
        let mut rng = Rng::with_seed(99);
        for n in 0..20_000 {
            let k = rng.i64(0..KEYS);
            let text = name(k);
            let key = Key::Str(text.as_bytes());
            if rng.u8(0..10) < 3 {
                write(&mut |w| w.remove(root, &key).map(drop));
            } else if !store.fast_set(root, Member::Key(key), Word::small(&In::Int(value(k, n)))) {
                let (v, text) = (value(k, n), text_of(value(k, n)));
                write(&mut |w| w.set(root, &key, &if n % 2 == 0 { In::Int(v) } else { In::str(&text) }));
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn items_of_the_fast_path_are_those_of_the_list() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Store::open(dir.path().join("a.store"), &Options::default()).unwrap();
    let stores = [open(), open()];
    let (mut rng, mut model, mut at_once) = (Rng::with_seed(5), Vec::new(), 0);
    let mut list = None;
    let write =
        |s: usize, f: &mut dyn FnMut(&mut persist_core::store::Writer<'_>) -> persist_core::Result<()>| {
            stores[s]
                .write(Actor::Thread, &mut Wait::default(), |w| f(w))
                .unwrap();
        };
    write(0, &mut |w| {
        let o = w.new_list()?;
        w.set(stores[0].root(), &Key::Str(b"list"), &In::Obj(o))?;
        list = Some(o);
        Ok(())
    });
    let list = list.unwrap();
    for n in 0..6000i64 {
        let (s, len) = (rng.usize(0..2), model.len() as i64);
        // The fast path applies to a thread that has used the entry before.
        let there = stores[s].read(&mut Wait::default(), |r| r.len(list));
        assert_eq!(there.unwrap(), len as u64);
        let text = text_of(n);
        let item = if n % 3 == 0 { In::str(&text) } else { In::Int(n) };
        match rng.u8(0..10) {
            0..4 => {
                let at = rng.i64(0..=len);
                write(s, &mut |w| w.insert(list, at as u64, &item));
                model.insert(at as usize, n);
            }
            4 if len > 0 => {
                let at = rng.i64(0..len);
                write(s, &mut |w| w.remove_items(list, at as u64, at as u64 + 1));
                model.remove(at as usize);
            }
            _ => {
                let index = rng.i64(-len - 2..len + 2);
                let at = if index < 0 { len + index } else { index };
                let there = (0..len).contains(&at);
                if stores[s].fast_set(list, Member::Item(index), Word::small(&In::Int(n))) {
                    assert!(there, "replaced what is not there");
                    at_once += 1;
                } else if there {
                    write(s, &mut |w| w.set_item(list, at as u64, &item));
                }
                if there {
                    model[at as usize] = n;
                }
            }
        }
        let len = model.len() as i64;
        for index in [rng.i64(-len - 2..len + 2), rng.i64(-len - 2..len + 2)] {
            let at = if index < 0 { len + index } else { index };
            let want = usize::try_from(at).ok().and_then(|at| model.get(at));
            let found = said(stores[s].fast_get(list, Member::Item(index), longer));
            let found = found.unwrap_or_else(|| panic!("step {n}, opening {s}, {index} of {len}"));
            assert_eq!(found.as_ref(), want, "item {index} of {len}");
        }
    }
    assert!(at_once > 500, "hardly anything was done at once: {at_once}");
    stores[0].check().unwrap();
}
