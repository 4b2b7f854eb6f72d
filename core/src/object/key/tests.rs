//! Keys against their rules: equality, and the hashes that follow from it.

use super::*;
use crate::heap::testing::HeapMem;
use crate::object::value::Typed;

const SEED: u64 = 42;

fn all_forms(typed: &[Typed]) -> Vec<Vec<Key<'_>>> {
    // Keys of one row are equal; keys of different rows differ.
    vec![
        vec![
            Key::Int(1),
            Key::Float(1.0),
            Key::Bool(true),
            Key::BigInt {
                negative: false,
                magnitude: &[1],
            },
        ],
        vec![Key::Int(0), Key::Float(0.0), Key::Float(-0.0), Key::Bool(false)],
        vec![
            Key::Int(-1),
            Key::Float(-1.0),
            Key::BigInt {
                negative: true,
                magnitude: &[1, 0, 0],
            },
        ],
        vec![Key::Int(1 << 60), Key::Float((1u64 << 60) as f64)],
        vec![Key::Int(i64::MIN), Key::Float(-9_223_372_036_854_775_808.0)],
        vec![Key::Int(i64::MAX)],
        vec![
            Key::Float(9_223_372_036_854_775_808.0),
            Key::BigInt {
                negative: false,
                magnitude: &[0, 0, 0, 0, 0, 0, 0, 0x80],
            },
        ],
        vec![
            Key::Float(1e30),
            Key::BigInt {
                negative: false,
                magnitude: &[0, 0, 0, 0, 0, 0, 117, 70, 208, 156, 44, 159, 12],
            },
        ],
        vec![Key::Float(-1e30)],
        vec![Key::Float(f64::MAX)],
        vec![Key::Float(0.5)],
        vec![Key::Float(f64::INFINITY)],
        vec![Key::Float(f64::NAN)],
        vec![Key::Float(f64::from_bits(0xFFF8_0000_0000_0001))],
        vec![Key::Float(5e-324)],
        vec![Key::None],
        vec![Key::Str(b"")],
        vec![Key::Bytes(b"")],
        vec![Key::Str(b"1")],
        vec![Key::Bytes(b"1")],
        vec![Key::Str(b"a longer str, in a segment")],
        vec![Key::Bytes(b"a longer str, in a segment")],
        vec![Key::Str(LONG)],
        vec![Key::Bytes(LONG)],
        vec![Key::BigInt {
            negative: false,
            magnitude: LONG,
        }],
        vec![Key::BigInt {
            negative: true,
            magnitude: LONG,
        }],
        vec![Key::Str(b"(1,)")],
        typed[0..3].iter().map(Key::Typed).collect(),
        typed[3..5].iter().map(Key::Typed).collect(),
        vec![Key::Typed(&typed[5])],
        vec![Key::Typed(&typed[6])],
        vec![Key::Typed(&typed[7])],
        vec![Key::Typed(&typed[8])],
        vec![Key::Typed(&typed[9])],
    ]
}

fn some_typed() -> Vec<Typed> {
    let long = format!("('{}',)", "x".repeat(10_000));
    let of = |name: &str, text: &str| Typed {
        name: name.into(),
        payload: text.into(),
        text: true,
    };
    vec![
        of("tuple", "(1,)"),
        of("tuple", "(1.0,)"),
        of("tuple", "(True,)"),
        of("tuple", "((0, 'a'), b'b')"),
        of("tuple", "((False, 'a'), b'b')"),
        of("tuple", &long),
        of("tuple", "(1"),
        of("date", "(1,)"),
        of("date", "(1.0,)"),
        of("uuid", &long),
    ]
}

static LONG: &[u8] = &[b'x'; 10_000];

#[test]
fn equality_and_hash_follow_python_in_every_stored_form() {
    let mut w = HeapMem::new();
    let typed = some_typed();
    let rows = all_forms(&typed);
    for (i, row) in rows.iter().enumerate() {
        for a in row {
            let word = encode(&mut w, a).unwrap();
            let seed = w.hash_seed();
            assert_eq!(hash_word(&w, word).unwrap(), hash(seed, a), "{a:?}");
            for (j, other) in rows.iter().enumerate() {
                for b in other {
                    assert_eq!(eq(&w, word, b).unwrap(), i == j, "{a:?} {b:?}");
                    assert_eq!(hash(SEED, a) == hash(SEED, b), i == j, "{a:?} {b:?}");
                }
            }
            free(&mut w, word).unwrap();
            w.commit().unwrap();
        }
    }
}

/// The published values: changing any of them breaks every existing store.
#[test]
fn the_hash_is_what_was_published() {
    assert_eq!(hash(0, &Key::Str(b"")), 0x2d06_8005_38d3_94c2);
    assert_eq!(hash(0, &Key::Str(b"abc")), 0x78af_5f94_892f_3950);
    let values = [
        hash(SEED, &Key::Str(b"Joe")),
        hash(SEED, &Key::Bytes(b"Joe")),
        hash(SEED, &Key::Int(1)),
        hash(SEED, &Key::Float(0.5)),
        hash(
            SEED,
            &Key::BigInt {
                negative: false,
                magnitude: &[1; 9],
            },
        ),
        hash(
            SEED,
            &Key::BigInt {
                negative: true,
                magnitude: &[1; 9],
            },
        ),
        hash(SEED, &Key::None),
    ];
    assert_eq!(values, PUBLISHED);
}

/// Computed with another implementation of XXH3.
const PUBLISHED: [u64; 7] = [
    0x5be7_94f1_40c9_58b4,
    0x5258_2b3b_7769_6dd8,
    0x9a44_bff3_6e9f_890c,
    0x3d72_ed5b_888d_9d9f,
    0xa928_a6be_7180_3292,
    0xe923_b221_eb56_9434,
    0x86a8_25e8_5e42_4919,
];

#[test]
fn floats_become_ints_exactly() {
    for shift in 0..960 {
        let x = 3.0 * 2f64.powi(shift);
        let mut magnitude = vec![0u8; shift as usize / 8 + 2];
        let v = 3u16 << (shift % 8);
        magnitude[shift as usize / 8..].copy_from_slice(&v.to_le_bytes());
        for negative in [false, true] {
            let x = if negative { -x } else { x };
            let int = Key::BigInt {
                negative,
                magnitude: &magnitude,
            };
            assert_eq!(hash(1, &Key::Float(x)), hash(1, &int), "3 * 2^{shift}");
        }
    }
}

#[test]
fn words_that_are_not_keys_are_refused() {
    let w = HeapMem::new();
    for word in [
        Word::EMPTY,
        Word::REMOVED,
        Word::container(Addr(4096)),
        Word(7 << 48),
    ] {
        assert!(hash_word(&w, word).is_err());
    }
    assert!(hash_word(&w, Word::scalar(Addr(1 << 40))).is_err());
    assert!(eq(&w, Word::scalar(Addr(1 << 40)), &Key::Str(b"abcdefgh")).is_err());
}

/// The published values of keys of other types: changing any of them breaks every existing store.
#[test]
fn the_hash_of_typed_keys_is_what_was_published() {
    let of = |name: &str, text: &str| {
        let typed = Typed {
            name: name.into(),
            payload: text.into(),
            text: true,
        };
        hash(SEED, &Key::Typed(&typed))
    };
    let canonical = b"(+\x01\0\0\0\x01s\x01\0\0\0a)";
    assert_eq!(
        of("tuple", "(1, 'a')"),
        xxhash_rust::xxh3::xxh3_64_with_seed(canonical, SEED ^ 0xC4CE_B9FE_1A85_EC53)
    );
    assert_eq!(
        of("date", "2026-11-30"),
        xxhash_rust::xxh3::xxh3_64_with_seed(b"date\x002026-11-30", SEED ^ 0x94D0_49BB_1331_11EB)
    );
}

#[test]
fn a_typed_key_has_a_longest_content() {
    let mut w = HeapMem::new();
    let of = |len: usize| Typed {
        name: "a.b".into(),
        payload: vec![b'x'; len],
        text: true,
    };
    let (longest, longer) = (of(COPY_MAX), of(COPY_MAX + 1));
    let word = encode(&mut w, &Key::Typed(&longest)).unwrap();
    assert_eq!(
        hash_word(&w, word).unwrap(),
        hash(w.hash_seed(), &Key::Typed(&longest))
    );
    assert!(eq(&w, word, &Key::Typed(&longest)).unwrap());
    assert!(!eq(&w, word, &Key::Typed(&longer)).unwrap());
    let refused = encode(&mut w, &Key::Typed(&longer));
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
}

#[test]
fn keys_of_different_types_have_one_exact_order() {
    let typed = |name: &str, text: &str| Value::Typed(Box::new(typed_of(name, text)));
    let long = format!("1{}", "0".repeat(307));
    let big = |n: u32| Value::BigInt {
        negative: false,
        magnitude: [&[0; 40][..], &n.to_le_bytes()].concat().into(),
    };
    let numbers = vec![
        vec![Value::Float(f64::NEG_INFINITY), typed("decimal", "-Infinity")],
        vec![typed("decimal", &format!("-{long}"))],
        vec![Value::Int(i64::MIN)],
        vec![typed("fraction", "-4/3")],
        vec![typed("decimal", "-1.3333333333333333333333333333333")],
        vec![Value::Float(-4.0 / 3.0)],
        vec![typed("decimal", "-1E-300")],
        vec![
            Value::Int(0),
            Value::Float(-0.0),
            typed("decimal", "-0.00"),
            typed("fraction", "0"),
        ],
        vec![Value::Float(5e-324)],
        vec![typed("decimal", "1E-308")],
        vec![Value::Float(f64::MIN_POSITIVE)],
        vec![typed("decimal", "0.1"), typed("fraction", "1/10")],
        vec![Value::Float(0.1)],
        vec![typed("decimal", "0.10000000000000001")],
        vec![typed("fraction", "1/3")],
        vec![
            Value::Float(0.5),
            typed("decimal", "0.50"),
            typed("fraction", "1/2"),
        ],
        vec![Value::Bool(true), Value::Int(1), typed("decimal", "1.0")],
        vec![typed("decimal", "9007199254740992.5")],
        vec![Value::Int(9_007_199_254_740_993)],
        vec![typed("fraction", "27021597764222980/3")],
        vec![Value::Float(9_007_199_254_740_994.0)],
        vec![Value::Int(i64::MAX)],
        vec![Value::Float(9_223_372_036_854_775_808.0)],
        vec![big(1)],
        vec![typed("decimal", &long)],
        vec![Value::Float(f64::MAX)],
        vec![Value::Float(f64::INFINITY), typed("decimal", "Infinity")],
    ];
    let families = [
        numbers,
        vec![
            vec![typed("datetime", "2026-01-01T00:00:00+02:00")],
            vec![
                typed("datetime", "2025-12-31T23:00:00+00:00"),
                typed("datetime", "2026-01-01T01:00:00+02:00"),
            ],
            vec![typed("datetime", "2025-12-31T23:00:00.000001+00:00")],
        ],
        vec![
            vec![typed("datetime", "0001-01-01T00:00:00")],
            vec![typed("datetime", "2026-01-01T00:00:00")],
        ],
        vec![
            vec![typed("date", "0001-01-01")],
            vec![typed("date", "2026-01-01")],
            vec![typed("date", "9999-12-31")],
        ],
        vec![
            vec![typed("time", "00:00:00")],
            vec![typed("time", "10:00:00.500000")],
        ],
        vec![
            vec![typed("time", "12:00:00+02:00")],
            vec![typed("time", "11:00:00+00:00")],
        ],
        vec![
            vec![typed("timedelta", "P-2DT3600S")],
            vec![typed("timedelta", "P-2DT3600.000001S")],
            vec![typed("timedelta", "P10DT0S")],
        ],
        vec![
            vec![typed("uuid", "00000000-0000-0000-0000-000000000001")],
            vec![typed("uuid", "a0000000-0000-0000-0000-000000000000")],
        ],
        vec![vec![Value::Bytes(b"a"[..].into())]],
    ];
    let all: Vec<(usize, usize, &Value)> = families
        .iter()
        .enumerate()
        .flat_map(|(f, rows)| {
            rows.iter()
                .enumerate()
                .flat_map(move |(r, row)| row.iter().map(move |value| (f, r, value)))
        })
        .collect();
    for &(f, r, a) in &all {
        for &(g, s, b) in &all {
            let expected = (f == g).then(|| r.cmp(&s));
            assert_eq!(
                order(&a.as_key().unwrap(), &b.as_key().unwrap()),
                expected,
                "{a:?} {b:?}"
            );
        }
        for none in [
            Value::None,
            Value::Float(f64::NAN),
            typed("complex", "1.0+0.0j"),
            typed("tuple", "(1,)"),
            typed("enum:m:C", "RED"),
        ] {
            let none = none.as_key().unwrap();
            assert_eq!(order(&none, &none), None);
            assert_eq!(order(&none, &a.as_key().unwrap()), None);
            assert_eq!(order(&a.as_key().unwrap(), &none), None);
        }
    }
}

fn typed_of(name: &str, text: &str) -> Typed {
    Typed {
        name: name.into(),
        payload: text.as_bytes().to_vec(),
        text: true,
    }
}
