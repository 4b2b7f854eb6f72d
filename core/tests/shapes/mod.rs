//! Small stores of every shape, for the tests of damaged files.
//!
//! - `mutate`: damage at random.
//! - `same`: comparing two stores.
//! - `log`: a store with a redo log, and damage of the log.
//! - `damage`: changing the bytes of a store's file, with or without the checksums above them.
#![allow(dead_code, unreachable_pub)] // Each test uses its part.

pub mod damage;
pub mod log;
pub mod mutate;
pub mod same;

use persist_core::store::{Actor, In, Key, Obj, Options, Result, Store, Typed, Value, Wait, Writer};
use std::path::Path;

/// The names of all shapes.
pub const ALL: &[&str] = &[
    "empty",
    "scalars",
    "small",
    "large_dict",
    "large_list",
    "nested",
    "cyclic",
    "classes",
    "long",
    "freed",
    "dying",
    "snapshots",
];

/// Create a store of a shape, closed and checkpointed twice.
pub fn make(shape: &str, path: &Path) {
    let store = Store::open(
        path,
        &Options {
            max_age: None,
            ..Options::default()
        },
    )
    .unwrap();
    let root = store.root();
    write(&store, |w| w.set(root, &Key::Str(b"before"), &In::Int(1)));
    match shape {
        "empty" => {}
        "scalars" => scalars(&store),
        "small" => small(&store),
        "large_dict" => large_dict(&store),
        "large_list" => large_list(&store),
        "nested" => nested(&store, 3000),
        "cyclic" => cyclic(&store),
        "classes" => classes(&store),
        "long" => long(&store),
        "freed" => freed(&store),
        "dying" => dying(&store),
        "snapshots" => snapshots(&store),
        other => panic!("no shape {other}"),
    }
    store.sync().unwrap();
    write(&store, |w| {
        w.set(root, &Key::Str(b"after"), &In::str("the last change"))
    });
    store.close().unwrap();
}

pub fn write<R>(store: &Store, f: impl FnMut(&mut Writer<'_>) -> Result<R>) -> R {
    store.write(Actor::Thread, &mut Wait::default(), f).unwrap()
}

fn text(bytes: &[u8]) -> In<'_> {
    In::Str {
        bytes,
        no_newline: false,
    }
}

fn scalars(store: &Store) {
    let root = store.root();
    let big = [0xEE; 40];
    let huge = vec![7; 9000];
    let surrogate = b"lone \xED\xA0\x80 surrogate";
    let typed = |name: &str, payload: &[u8], text| Typed {
        name: name.into(),
        payload: payload.to_vec(),
        text,
    };
    let day = typed("date", b"2026-11-30", true);
    let blob = typed("app.Blob", &[0x80; 9000], false);
    let pair = typed("tuple", b"(1, ('a', None))", true);
    let long = typed("tuple", format!("('{}', 1.0)", "x".repeat(6000)).as_bytes(), true);
    let values: Vec<(&[u8], In<'_>)> = vec![
        (b"none", In::None),
        (b"true", In::Bool(true)),
        (b"int", In::Int(-5)),
        (b"wide", In::Int(i64::MIN)),
        (
            b"big",
            In::BigInt {
                negative: true,
                magnitude: &big,
            },
        ),
        (
            b"huge",
            In::BigInt {
                negative: false,
                magnitude: &huge,
            },
        ),
        (b"float", In::Float(1.5)),
        (b"nan", In::Float(f64::from_bits(0xFFF8_0000_0000_0001))),
        (b"short", text(b"abc")),
        (b"str", text("a string of some length, ä".as_bytes())),
        (b"lone", text(surrogate)),
        (b"bytes", In::Bytes(&[0, 255, 1, 2, 3, 4, 5, 6])),
        (b"raw", In::Bytes(b"")),
        (
            b"bare",
            In::Str {
                bytes: b"no newline behind this",
                no_newline: true,
            },
        ),
        (b"day", In::Typed(&day)),
        (b"blob", In::Typed(&blob)),
        (b"a key that does not fit a word", In::Int(1)),
    ];
    write(store, |w| {
        values.iter().try_for_each(|(k, v)| w.set(root, &Key::Str(k), v))
    });
    write(store, |w| {
        let keys = w.new_dict()?;
        w.set(root, &Key::Str(b"keys"), &In::Obj(keys))?;
        for key in [
            Key::None,
            Key::Bool(true),
            Key::Int(i64::MAX),
            Key::Float(0.5),
            Key::Bytes(b"bytes as a key"),
            Key::Typed(&day),
            Key::Typed(&pair),
            Key::Typed(&long),
            Key::BigInt {
                negative: false,
                magnitude: &big,
            },
        ] {
            w.set(keys, &key, &In::Int(2))?;
        }
        Ok(())
    });
}

pub fn small(store: &Store) {
    let root = store.root();
    write(store, |w| {
        for i in 0..40i64 {
            let d = w.new_dict()?;
            w.set(root, &Key::Int(i), &In::Obj(d))?;
            let l = w.new_list()?;
            w.set(d, &Key::Str(b"list"), &In::Obj(l))?;
            for j in 0..i as u64 {
                w.insert(l, j, &In::Int(j as i64))?;
            }
            w.set(
                d,
                &Key::Str(b"a name that is long"),
                &text(b"a value that is long"),
            )?;
        }
        Ok(())
    });
}

fn large_dict(store: &Store) {
    let root = store.root();
    let d = write(store, |w| {
        let d = w.new_dict()?;
        w.set(root, &Key::Str(b"large"), &In::Obj(d))?;
        Ok(d)
    });
    for part in 0..20i64 {
        write(store, |w| {
            for i in part * 300..(part + 1) * 300 {
                let key = format!("key number {i}");
                w.set(d, &Key::Str(key.as_bytes()), &In::Int(i))?;
            }
            Ok(())
        });
    }
    // Leaves with few entries, and none.
    write(store, |w| {
        for i in (0..3000).filter(|i| i % 97 != 0) {
            w.remove(d, &Key::Str(format!("key number {i}").as_bytes()))?;
        }
        Ok(())
    });
}

fn large_list(store: &Store) {
    let root = store.root();
    let l = write(store, |w| {
        let l = w.new_list()?;
        w.set(root, &Key::Str(b"items"), &In::Obj(l))?;
        Ok(l)
    });
    for part in 0..40u64 {
        write(store, |w| {
            for i in part * 500..(part + 1) * 500 {
                w.insert(l, i, &In::Int(i as i64))?;
            }
            Ok(())
        });
    }
    write(store, |w| {
        for i in 0..300 {
            w.insert(l, 7000 + i, &text(b"in the middle of it"))?;
        }
        w.remove_items(l, 2000, 5000)
    });
}

/// A list in a list in a list.
pub fn nested(store: &Store, depth: usize) {
    let root = store.root();
    let mut at = write(store, |w| {
        let l = w.new_list()?;
        w.set(root, &Key::Str(b"deep"), &In::Obj(l))?;
        Ok(l)
    });
    let mut left = depth;
    while left > 0 {
        let n = left.min(1000);
        at = write(store, |w| {
            let mut here = at;
            for _ in 0..n {
                let l = w.new_list()?;
                w.insert(here, 0, &In::Obj(l))?;
                here = l;
            }
            Ok(here)
        });
        left -= n;
    }
}

/// Makes the innermost list of a nest refer to the outermost.
pub fn close_cycle(store: &Store, depth: u64) {
    let root = store.root();
    let list = |value| match value {
        Ok(Some(Value::Obj(obj))) => obj,
        other => panic!("no list: {other:?}"),
    };
    let outermost = list(store.read(&mut Wait::default(), |r| r.get(root, &Key::Str(b"deep"))));
    let mut at = outermost;
    for _ in 1..depth {
        at = list(store.read(&mut Wait::default(), |r| r.item(at, 0)));
    }
    write(store, |w| w.insert(at, 0, &In::Obj(outermost)));
}

fn cyclic(store: &Store) {
    let root = store.root();
    write(store, |w| {
        let all: Vec<Obj> = (0..60).map(|_| w.new_dict()).collect::<Result<_>>()?;
        let hub = w.new_list()?;
        w.set(root, &Key::Str(b"hub"), &In::Obj(hub))?;
        for (i, &d) in all.iter().enumerate() {
            w.insert(hub, i as u64, &In::Obj(d))?;
            w.set(d, &Key::Str(b"hub"), &In::Obj(hub))?;
            w.set(d, &Key::Str(b"next"), &In::Obj(all[(i + 1) % all.len()]))?;
            w.set(d, &Key::Str(b"self"), &In::Obj(d))?;
            w.set(d, &Key::Str(b"root"), &In::Obj(root))?;
        }
        Ok(())
    });
}

fn classes(store: &Store) {
    let root = store.root();
    write(store, |w| {
        for i in 0..60i64 {
            let name = [
                "shop:Person",
                "shop:Thing",
                "",
                "a.very.long.module.name:AndAClassInIt",
            ][i as usize % 4];
            let o = w.new_object(name)?;
            w.set(root, &Key::Str(format!("object {i}").as_bytes()), &In::Obj(o))?;
            w.set(o, &Key::Str(b"name"), &text(b"what it is called"))?;
            w.set(o, &Key::Str(b"an attribute with a long name"), &In::Int(i))?;
            if i % 5 == 0 {
                // The order differs from the class's: the object gets its own body.
                w.remove(o, &Key::Str(b"name"))?;
                w.set(o, &Key::Str(b"name"), &In::Int(i))?;
            }
            if i == 7 {
                for j in 0..90 {
                    w.set(o, &Key::Str(format!("attribute {j}").as_bytes()), &In::Int(j))?;
                }
            }
        }
        let sorted = w.new_dict()?;
        w.set(root, &Key::Str(b"sorted"), &In::Obj(sorted))?;
        w.set_class(sorted, Some("SortedDict"))?;
        for i in 0..50i64 {
            w.set(sorted, &Key::Int(i * 37 % 50), &In::Int(i))?;
        }
        for (i, name) in ["shop:Inventory", "set", ""].into_iter().enumerate() {
            let (d, l) = (w.new_dict()?, w.new_list()?);
            w.set(root, &Key::Str(format!("dict {i}").as_bytes()), &In::Obj(d))?;
            w.set(d, &Key::Str(b"list"), &In::Obj(l))?;
            w.set_class(d, Some(name))?;
            w.set_class(l, Some(name))?;
            w.insert(l, 0, &In::Obj(d))?;
        }
        Ok(())
    });
}

fn long(store: &Store) {
    let root = store.root();
    let words = "many words, and some ä ö ü € 𝄞 among them. ".repeat(3000);
    let bytes: Vec<u8> = (0..2_100_000u32).map(|i| ((i * 31) >> 3) as u8).collect();
    write(store, |w| {
        w.set(root, &Key::Str(b"text"), &text(words.as_bytes()))
    });
    write(store, |w| w.set(root, &Key::Str(b"bytes"), &In::Bytes(&bytes)));
    write(store, |w| {
        w.set(root, &Key::Str(b"page"), &In::Bytes(&bytes[..5000]))
    });
    write(store, |w| {
        w.set(root, &Key::Str(&words.as_bytes()[..6000]), &In::Int(6))
    });
    let number = In::BigInt {
        negative: true,
        magnitude: &bytes[1..100_000],
    };
    write(store, |w| w.set(root, &Key::Str(b"number"), &number));
}

fn freed(store: &Store) {
    let root = store.root();
    for part in 0..4i64 {
        write(store, |w| {
            for i in 0..400 {
                let d = w.new_dict()?;
                w.set(root, &Key::Int(part * 400 + i), &In::Obj(d))?;
                w.set(d, &Key::Str(b"text"), &text(&[b'x'; 700]))?;
            }
            Ok(())
        });
    }
    for i in (0..1600).filter(|i| i % 50 != 0) {
        write(store, |w| w.remove(root, &Key::Int(i)));
    }
    store.gc().unwrap();
}

fn snapshots(store: &Store) {
    small(store);
    let root = store.root();
    for n in 0..4i64 {
        store.snapshot(&format!("number {n}")).unwrap();
        write(store, |w| w.set(root, &Key::Int(n), &In::Int(n)));
    }
    store.drop_snapshot("number 1").unwrap();
}

/// Removed content that is not freed yet.
fn dying(store: &Store) {
    large_dict(store);
    nested(store, 500);
    let bytes = vec![3; 600_000];
    let root = store.root();
    write(store, |w| w.set(root, &Key::Str(b"bytes"), &In::Bytes(&bytes)));
    write(store, |w| {
        let (a, b) = (w.new_dict()?, w.new_dict()?);
        w.set(a, &Key::Str(b"b"), &In::Obj(b))?;
        w.set(b, &Key::Str(b"a"), &In::Obj(a))?;
        w.set(root, &Key::Str(b"a"), &In::Obj(a))?;
        w.set(root, &Key::Str(b"b"), &In::Obj(b))
    });
    for key in [&b"a"[..], b"b", b"deep", b"bytes", b"large"] {
        write(store, |w| w.remove(root, &Key::Str(key)));
    }
}
