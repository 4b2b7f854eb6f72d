//! Scalars: every value survives its round trip in its one form, and damage gives errors.

use super::*;
use crate::heap::testing::HeapMem;
use crate::ids::PageNo;
use crate::object::value::{TYPE_NAME_MAX, Typed};
use proptest::prelude::*;

/// Return the expected result of `decode` for a value.
fn expected(value: &In<'_>) -> Value {
    match *value {
        In::None => Value::None,
        In::Bool(b) => Value::Bool(b),
        In::Int(n) => Value::Int(n),
        In::BigInt { negative, magnitude } => int(negative, magnitude),
        In::Float(x) => Value::Float(x),
        In::Str { bytes, no_newline } => Value::Str {
            bytes: Small::from_slice(bytes),
            no_newline,
        },
        In::Bytes(b) => Value::Bytes(Small::from_slice(b)),
        In::Link(b) => Value::Link(Small::from_slice(b)),
        In::Typed(t) => Value::Typed(Box::new(t.clone())),
        In::Obj(o) => Value::Obj(o),
    }
}

fn live(w: &HeapMem) -> usize {
    (1..w.mem.page_count() as u64)
        .filter_map(|n| heap::page_segments(w, PageNo(n)).ok())
        .map(|all| all.iter().filter(|s| s.allocated).count())
        .sum()
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
        _ => a == b,
    }
}

/// Store, read, verify and free one value.
fn round_trip(w: &mut HeapMem, value: &In<'_>) {
    let word = encode(w, value).unwrap();
    assert!(!word.is_empty());
    w.commit().unwrap();
    let got = decode(w, word).unwrap();
    let content = match *value {
        In::Str { bytes, .. } | In::Bytes(bytes) => Some(bytes),
        _ => None,
    };
    assert_eq!(byte_len(w, word).unwrap(), content.map(|c| c.len() as u64));
    if let Value::Large(large) = got {
        let mut buf = vec![0; large.len as usize];
        assert_eq!(blob::large_read(w, &large, 0, &mut buf).unwrap(), buf.len());
        match (large.kind, value) {
            (LargeKind::Int { negative: n }, In::BigInt { negative, magnitude }) => {
                assert!(n == *negative && trim(magnitude) == buf);
            }
            (LargeKind::Str { no_newline: n }, In::Str { bytes, no_newline }) => {
                assert!(n == *no_newline && *bytes == buf);
            }
            (LargeKind::Bytes, In::Bytes(bytes)) => assert!(*bytes == buf),
            (LargeKind::Typed { text }, In::Typed(t)) => {
                assert!(text == t.text && t.payload == buf);
                assert_eq!(large_name(w, large.addr).unwrap(), t.name);
            }
            other => panic!("{other:?}"),
        }
    } else {
        assert!(same(&got, &expected(value)), "{got:?} for {value:?}");
    }
    let mut n = 0;
    segments(w, word, &mut |a, used| {
        n += 1;
        assert!(heap::size_of(w, a)? >= used);
        Ok(())
    })
    .unwrap();
    assert_eq!(n, live(w));
    match short_view(w, word).unwrap() {
        Some(view) => {
            assert!(n == 1 && view.bytes.len() <= SHORT_MAX);
            if let Some(content) = content {
                assert_eq!(view.bytes, content);
            }
            assert_eq!(
                view.flags & ASCII != 0,
                view.kind == ScalarKind::Str && view.bytes.is_ascii()
            );
        }
        None => assert_eq!(n > 1, as_blob(w, word).unwrap().is_some()),
    }
    free(w, word).unwrap();
    w.commit().unwrap();
    assert_eq!(live(w), 0);
}

#[test]
fn numbers_round_trip() {
    let mut w = HeapMem::new();
    for v in [In::None, In::Bool(true), In::Bool(false)] {
        round_trip(&mut w, &v);
    }
    for n in [
        0,
        1,
        -1,
        i64::MAX,
        i64::MIN,
        1 << 47,
        -(1 << 47),
        (1 << 47) - 1,
        -(1 << 47) - 1,
        1 << 55,
    ] {
        round_trip(&mut w, &In::Int(n));
    }
    for bits in [
        0,
        1 << 63,
        0x7FF8_0000_0000_0001,
        0xFFF8_0000_0000_0000,
        u64::MAX,
        0xFFF7_0000_0000_0001,
    ] {
        round_trip(&mut w, &In::Float(f64::from_bits(bits)));
    }
    // 10,000 decimal digits are 4,153 bytes; 70,000 bytes are `Large`.
    for len in [0, 1, 8, 9, 16, SHORT_MAX, SHORT_MAX + 1, 4153, 70_000] {
        for negative in [false, true] {
            for last in [1, 0x80, 0xFF, 0] {
                let mut magnitude = vec![0x5A; len];
                if let Some(b) = magnitude.last_mut() {
                    *b = last;
                }
                round_trip(
                    &mut w,
                    &In::BigInt {
                        negative,
                        magnitude: &magnitude,
                    },
                );
            }
        }
    }
}

#[test]
fn links_round_trip_and_others_are_refused() {
    let mut w = HeapMem::new();
    for len in [1, 4, 5, 6, 255, SHORT_MAX, SHORT_MAX + 1, LINK_MAX] {
        round_trip(&mut w, &In::Link(&vec![b'x'; len]));
    }
    round_trip(&mut w, &In::Link(b"../\xFF\xED\xA0\x80 \n"));
    for target in [&b""[..], b"a\0b", &[b'x'; LINK_MAX + 1]] {
        assert!(matches!(
            encode(&mut w, &In::Link(target)),
            Err(Error::Invalid { .. })
        ));
    }
    assert_eq!(live(&w), 0);
}

#[test]
fn a_damaged_link_is_an_error_and_no_key() {
    let mut w = HeapMem::new();
    let word = encode(&mut w, &In::Link(b"target")).unwrap();
    assert!(crate::object::key::hash_word(&w, word).is_err());
    let at = word.as_scalar().unwrap();
    w.set_bytes(at + 10, &[0]).unwrap();
    assert!(decode(&w, word).is_err());
    assert!(verify(&w, word).is_err());
}

#[test]
fn ints_have_one_form() {
    let mut w = HeapMem::new();
    let big = |negative, magnitude| In::BigInt { negative, magnitude };
    assert_eq!(
        encode(&mut w, &big(true, &[0, 0, 0])).unwrap(),
        Word::int(0).unwrap()
    );
    assert_eq!(
        encode(&mut w, &big(true, &[7, 0])).unwrap(),
        Word::int(-7).unwrap()
    );
    let edge = (1u64 << 63).to_le_bytes();
    let word = encode(&mut w, &big(true, &edge)).unwrap();
    assert_eq!(decode(&w, word).unwrap(), Value::Int(i64::MIN));
    let word = encode(&mut w, &big(false, &edge)).unwrap();
    assert!(matches!(
        decode(&w, word).unwrap(),
        Value::BigInt { negative: false, .. }
    ));
}

#[test]
fn strings_and_bytes_of_every_length_round_trip() {
    let mut w = HeapMem::new();
    for len in [
        0,
        1,
        5,
        6,
        40,
        48,
        49,
        SHORT_MAX,
        SHORT_MAX + 1,
        4031,
        4032,
        4033,
        COPY_MAX,
        COPY_MAX + 1,
        70_000,
    ] {
        let ascii: Vec<u8> = (0..len).map(|i| b'a' + (i % 26) as u8).collect();
        for no_newline in [false, true] {
            round_trip(
                &mut w,
                &In::Str {
                    bytes: &ascii,
                    no_newline,
                },
            );
        }
        round_trip(&mut w, &In::Bytes(&ascii));
        round_trip(&mut w, &In::Bytes(&vec![0xFF; len]));
        if len >= 3 {
            let mut lone = ascii.clone();
            lone[len - 3..].copy_from_slice(&[0xED, 0xB2, 0x80]);
            round_trip(
                &mut w,
                &In::Str {
                    bytes: &lone,
                    no_newline: false,
                },
            );
        }
    }
    round_trip(&mut w, &In::str("né\0\u{10FFFF}"));
}

#[test]
fn text_is_generalized_utf8() {
    let good: [&[u8]; 6] = [
        b"",
        b"\xED\xA0\x80",
        b"\xED\xA0\x80\xED\xB0\x80",
        b"a\xED\xBF\xBFb\xC3\xA9",
        b"\xED\x9F\xBF\xEE\x80\x80",
        b"\xF4\x8F\xBF\xBF",
    ];
    let bad: [&[u8]; 9] = [
        b"\x80",
        b"\xED\xA0",
        b"\xED",
        b"\xED\xA0\xC0",
        b"\xC0\x80",
        b"\xF4\x90\x80\x80",
        b"a\xFF",
        b"\xE2\x82",
        b"\xED\xC0\x80",
    ];
    let mut w = HeapMem::new();
    for (texts, right) in [(good.as_slice(), true), (bad.as_slice(), false)] {
        for text in texts {
            assert_eq!(is_text(text), right, "{text:?}");
            // Also cover the end of a part that is checked at a time.
            for before in [
                0,
                1,
                10,
                CHECKED - 5,
                CHECKED - 3,
                CHECKED - 2,
                CHECKED - 1,
                CHECKED,
                CHECKED * 2 - 1,
            ] {
                let mut long = vec![b'x'; before];
                long.extend_from_slice(text);
                for after in ["", "yyyyyyyyyy"] {
                    long.extend_from_slice(after.as_bytes());
                    assert_eq!(is_text(&long), right, "{text:?} after {before}");
                    let got = encode(
                        &mut w,
                        &In::Str {
                            bytes: &long,
                            no_newline: false,
                        },
                    );
                    assert_eq!(got.is_ok(), right, "{text:?} after {before}");
                }
            }
            w.rollback();
        }
    }
}

#[test]
fn readers_are_let_in_while_text_is_checked() {
    for text in ["x", "é", "жизнь", "\u{10FFFF}a"] {
        let mut w = HeapMem::new();
        let bytes = text.repeat(CHECKED * 20 / text.len());
        check_text(&mut w, bytes.as_bytes()).unwrap();
        assert!((18..=20).contains(&w.yields), "{}", w.yields);
    }
}

#[test]
fn words_without_a_value_are_damage() {
    let w = HeapMem::new();
    for word in [
        0,
        4,
        5,
        1 << 47,
        6 << 48,
        7 << 48,
        4 << 48,
        4 << 48 | 4160,
        5 << 48 | 12345,
    ] {
        assert!(
            matches!(decode(&w, Word(word)), Err(Error::Corrupt { .. })),
            "{word:#x}"
        );
    }
    // Inline bytes that are not text.
    assert!(decode(&w, Word::str(b"\xFF", 0).unwrap()).is_err());
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..100),
        1 => (0..100_000usize, any::<u8>()).prop_map(|(n, b)| vec![b; n]),
        2 => any::<String>().prop_map(String::into_bytes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn all_values_round_trip(bytes in any_bytes(), n in any::<i64>(), bits in any::<u64>(), sign in any::<bool>()) {
        let mut w = HeapMem::new();
        round_trip(&mut w, &In::Int(n >> (bits % 64)));
        round_trip(&mut w, &In::Float(f64::from_bits(bits)));
        round_trip(&mut w, &In::Bytes(&bytes));
        round_trip(&mut w, &In::BigInt { negative: sign, magnitude: &bytes });
        if is_text(&bytes) {
            round_trip(&mut w, &In::Str { bytes: &bytes, no_newline: sign });
        }
        prop_assert!(std::str::from_utf8(&bytes).is_err() || is_text(&bytes));
    }

    #[test]
    fn damage_gives_errors_or_other_data(
        values in prop::collection::vec(any_bytes(), 1..12),
        damage in prop::collection::vec((any::<u64>(), any::<u8>()), 1..60),
        words in prop::collection::vec(any::<u64>(), 0..20),
    ) {
        let mut w = HeapMem::new();
        let mut all: Vec<Word> = values.iter().map(|v| encode(&mut w, &In::Bytes(v)).unwrap()).collect();
        all.extend(words.iter().flat_map(|&x| [x, x % (7 << 48), (4 << 48) | (x % (1 << 16))]).map(Word));
        w.commit().unwrap();
        for &(at, value) in &damage {
            let at = match all[at as usize % values.len()].as_scalar() {
                Some(addr) if at % 2 == 0 => addr.0 + at / 2 % 40,
                _ => at / 2 % (w.mem.page_count() as u64 * 4096),
            };
            let _ = w.set_bytes(Addr(at), &[value]);
        }
        for &word in &all {
            let _ = decode(&w, word);
            let _ = byte_len(&w, word);
            let _ = short_view(&w, word);
            let _ = segments(&w, word, &mut |_, _| Ok(()));
            let _ = free(&mut w, word);
        }
        let _ = heap::apply_frees(&mut w);
    }
}

fn typed_of(name: &str, payload: &[u8], text: bool) -> Typed {
    Typed {
        name: name.into(),
        payload: payload.to_vec(),
        text,
    }
}

#[test]
fn typed_values_round_trip_in_every_size() {
    let mut w = HeapMem::new();
    let long = "n".repeat(TYPE_NAME_MAX);
    for name in ["date", "é", &long] {
        for len in [
            0,
            1,
            5,
            SHORT_MAX - 256,
            SHORT_MAX - 4,
            SHORT_MAX,
            SHORT_MAX + 1,
            COPY_MAX,
            COPY_MAX + 1,
        ] {
            for text in [false, true] {
                round_trip(&mut w, &In::Typed(&typed_of(name, &vec![b'x'; len], text)));
            }
        }
    }
    round_trip(&mut w, &In::Typed(&typed_of("t", &[0xFF, 0], false)));
    round_trip(&mut w, &In::Typed(&typed_of("t", b"\xed\xa0\x80", true)));
}

#[test]
fn typed_values_with_wrong_parts_are_refused() {
    let mut w = HeapMem::new();
    for wrong in [
        typed_of("", b"x", true),
        typed_of(&"n".repeat(TYPE_NAME_MAX + 1), b"x", true),
        typed_of("t", b"\xff", true),
        typed_of("t", &[b"x".repeat(70_000), b"\xff".to_vec()].concat(), true),
    ] {
        let refused = encode(&mut w, &In::Typed(&wrong));
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    }
    w.commit().unwrap();
    assert_eq!(live(&w), 0);
}

#[test]
fn damaged_typed_values_are_errors() {
    let mut w = HeapMem::new();
    // (offset, new byte): no name, a name longer than the value, a name that is not UTF-8, content that is not text.
    for change in [(2, 0), (2, 200), (8, 0xFF), (12, 0xFF)] {
        for len in [20, 10_000] {
            let word = encode(&mut w, &In::Typed(&typed_of("date", &vec![b'x'; len], true))).unwrap();
            w.commit().unwrap();
            let blob = as_blob(&w, word).unwrap().is_some();
            let offset = match change.0 {
                8 if blob => blob::ROOT_SIZE,
                12 if blob => continue,
                offset => offset,
            };
            if change == (2, 200) && blob {
                // A root that is no longer than its segment.
                continue;
            }
            let addr = word.as_scalar().unwrap();
            w.set_bytes(addr + offset as u64, &[change.1]).unwrap();
            for read in [decode(&w, word).map(drop), verify(&w, word)] {
                assert!(
                    matches!(read, Err(Error::Corrupt { .. })),
                    "{change:?} {len} {read:?}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn typed_values_survive(
        name in "[ -~é]{1,60}",
        payload in proptest::collection::vec(any::<u8>(), 0..6000),
        text: bool,
    ) {
        let mut w = HeapMem::new();
        let value = typed_of(&name, &payload, text);
        if !text || is_text(&payload) {
            round_trip(&mut w, &In::Typed(&value));
        } else {
            prop_assert!(encode(&mut w, &In::Typed(&value)).is_err());
        }
    }
}
