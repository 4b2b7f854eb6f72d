//! What threads remember of where entries lie (`page/memo.rs`), and handles of where attributes do (`Known`), against
//! a plain model: two openings of one
//! store, so that each meets what the other changed, and threads that read while another moves things.
//!
//! Every value says which key it belongs to: one read from a wrong place is told at once.

use fastrand::Rng;
use persist_core::store::{Actor, In, Key, Kind, Known, Obj, Options, Short, Store, Value, Wait, Word};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

const KEYS: i64 = 18;
const HOLDERS: usize = 2;

fn name(k: i64) -> String {
    // Of every length that is remembered differently, and one that is not.
    let n = k as usize % 18;
    format!(
        "{k:02}{}",
        "abcdefghijklmnopqr".chars().take(n).collect::<String>()
    )
}

fn value(k: i64, n: i64) -> i64 {
    k << 32 | n
}

struct Both {
    stores: [Store; 2],
    holders: Vec<Obj>,
    /// Of each holder in each opening.
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
            .write(Actor::Thread, &mut Wait::forever(), f)
            .unwrap();
    }

    fn fresh_holder(&self, s: usize, i: usize) -> Obj {
        let (mut made, root) = (None, self.stores[s].root());
        self.write(s, |w| {
            let o = match i % 2 {
                0 => w.new_dict()?,
                _ => w.new_object("module:Class")?,
            };
            w.set(root, &Key::Int(i as i64), &In::Obj(o))?;
            made = Some(o);
            Ok(())
        });
        made.unwrap()
    }

    fn look(&self, s: usize, i: usize, k: i64) {
        let (text, want) = (name(k), self.model[i].get(&k));
        let key = Key::Str(text.as_bytes());
        let (store, holder) = (&self.stores[s], self.holders[i]);
        for word in [
            store.glance_attribute(holder, &key, &self.known[i][s]),
            store.glance(holder, &key),
        ] {
            if !word.is_empty() {
                let found = match word.as_short() {
                    Short::Int(n) => Some(n),
                    _ => None,
                };
                assert_eq!(found.as_ref(), want, "remembered of {text} in {i}");
            }
        }
        let found = self.stores[s]
            .read(&mut Wait::forever(), |r| r.get(self.holders[i], &key))
            .unwrap();
        let found = found.map(|v| match v {
            Value::Int(n) => n,
            other => panic!("{other:?}"),
        });
        assert_eq!(found.as_ref(), want, "{text} in {i}");
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
                    true => both.stores[s].set_at_once(o, &key, word),
                    false => both.stores[s].set_attribute_at_once(o, &key, word, &both.known[i][s]),
                };
                if done {
                    assert!(known, "replaced what is not there");
                    at_once += 1;
                } else {
                    both.write(s, |w| w.set(o, &key, &In::Int(v)));
                }
                both.model[i].insert(k, v);
            }
            250..270 => {
                both.write(s, |w| w.remove(o, &key).map(drop));
                both.model[i].remove(&k);
            }
            270..275 => {
                // Several changes of one section: what was noted before it holds no more within it.
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
                // The memory of the old one is used again.
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
                store.begin(&mut Wait::forever()).unwrap();
                both.write(s, |w| w.remove(o, &key).map(drop));
                let new = name((k + 7) % KEYS);
                both.write(s, |w| {
                    w.set(o, &Key::Str(new.as_bytes()), &In::Int(value((k + 7) % KEYS, n)))
                });
                assert!(
                    !store.set_at_once(o, &key, Word::small(&In::Int(v))),
                    "within a transaction"
                );
                let _ = store.glance_attribute(o, &Key::Str(new.as_bytes()), &both.known[i][s]);
                assert!(
                    !store.set_attribute_at_once(
                        o,
                        &Key::Str(new.as_bytes()),
                        Word::small(&In::Int(v)),
                        &both.known[i][s]
                    ),
                    "within a transaction"
                );
                // Noted where it lies only until the end.
                let found = store.read(&mut Wait::forever(), |r| r.contains(o, &Key::Str(new.as_bytes())));
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
fn what_is_remembered_is_what_is_there() {
    for seed in 0..6 {
        run(seed, 3000);
    }
}

#[test]
fn readers_never_meet_a_value_of_another_key() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("a.store"), &Options::default()).unwrap();
    let root = store.root();
    let write = |f: &mut dyn FnMut(&mut persist_core::store::Writer<'_>) -> persist_core::Result<()>| {
        store
            .write(Actor::Thread, &mut Wait::forever(), |w| f(w))
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
                    let word = store.glance(root, &key);
                    if !word.is_empty() {
                        let Short::Int(n) = word.as_short() else {
                            panic!("{word:?}")
                        };
                        assert_eq!(n >> 32, k, "{text}");
                        seen += 1;
                    } else if let Some(Value::Int(n)) =
                        store.read(&mut Wait::forever(), |r| r.get(root, &key)).unwrap()
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
            } else if !store.set_at_once(root, &key, Word::small(&In::Int(value(k, n)))) {
                write(&mut |w| w.set(root, &key, &In::Int(value(k, n))));
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}
