//! Texts of tuples against their rules: one text for each value, and one canonical form for equal values.

use super::*;
use proptest::prelude::*;

fn normal(text: &str) -> bool {
    is_normal(text.as_bytes(), text.starts_with('{'), &|_, _, _| true)
}

#[test]
fn texts_in_their_one_form_are_accepted_and_others_are_not() {
    let long = format!("(0x1{},)", "0".repeat(512));
    for text in [
        "()",
        "(1,)",
        "(1, 2)",
        "((), ((),))",
        "{}",
        "{1, 2}",
        "{(1,), 1}",
        "({},)",
        "(None, True, False)",
        "(0, -1, 18446744073709551616)",
        "(1.0, 1e+16, 1e-05, 0.0001, inf, -inf, nan, -0.0)",
        "(nan:fff8000000000000,)",
        r"('', 'a\'b', '\\', '\n\r\t\x00\x1b', '\udc80', 'é', 'a, b)')",
        r"(b'', b'\xff\'', b'a')",
        "(date('2026-11-30'), 'a.b'(b'c'), 'x'(''))",
        "('\"',)",
        &long,
    ] {
        // 'x' is a name that is bare.
        assert_eq!(normal(text), !text.contains("'x'("), "{text}");
    }
    for text in [
        "",
        "(",
        ")",
        "(1)",
        "(1, 2,)",
        "( 1,)",
        "(1,2)",
        "(,)",
        "(1,) ",
        " (1,)",
        "1",
        "'a'",
        "{1,}",
        "{2, 1}",
        "{1, 1}",
        "(01,)",
        "(-0,)",
        "(+1,)",
        "(1_0,)",
        "(0x1,)",
        "(1.00,)",
        "(1e16,)",
        "(.5,)",
        "(1e5,)",
        "(NaN,)",
        "(-nan,)",
        "(nan:7ff8000000000000,)",
        "(nan:7ff0000000000000,)",
        r"('\x41',)",
        r"('\u0041',)",
        "('\n',)",
        r"('\q',)",
        "('a,)",
        r"(b'\u0041',)",
        "(b'é',)",
        "(date(1),)",
        "(date('a',)",
        "(Date('a'),)",
        "((1, 2)",
        "(1, 2))",
        "(''(''),)",
        "(x,)",
        "(1}",
        "{1)",
        "(\"a\",)",
    ] {
        assert!(!normal(text), "{text}");
    }
    assert!(!is_normal(b"(1,)", true, &|_, _, _| true) && !is_normal(b"{1}", false, &|_, _, _| true));
    assert!(!is_normal(b"('\xed\xa0\x80',)", false, &|_, _, _| true));
    assert!(!is_normal(b"(date('x'),)", false, &|name, content, text| (
        name, content, text
    ) != (
        "date", b"x", true
    )));
}

#[test]
fn depth_is_bounded() {
    let nested = |n: usize| format!("{}{}", "(".repeat(n), &",)".repeat(n)[1..]);
    assert!(normal(&nested(DEPTH)));
    assert!(!normal(&nested(DEPTH + 1)) && !normal(&"(".repeat(1 << 20)));
}

/// The text of an int below zero or not, by another way.
fn decimal(magnitude: &[u8]) -> String {
    let mut digits = vec![0u8];
    for byte in magnitude.iter().rev() {
        let mut carry = u32::from(*byte);
        for digit in &mut digits {
            let n = u32::from(*digit) * 256 + carry;
            (*digit, carry) = ((n % 10) as u8, n / 10);
        }
        while carry > 0 {
            digits.push((carry % 10) as u8);
            carry /= 10;
        }
    }
    digits.iter().rev().map(|d| char::from(b'0' + d)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_text_is_a_panic(text in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = is_normal(&text, false, &|_, _, _| true);
    }

    #[test]
    fn no_text_of_these_signs_is_a_panic(text in "[(){},' b0-9ne.x\\\\adf:-]{0,40}") {
        let nested = format!("({text},)");
        prop_assert!(!normal(&text) || normal(&nested));
    }

    #[test]
    fn ints_are_read(magnitude in proptest::collection::vec(any::<u8>(), 0..256)) {
        let mut magnitude = magnitude;
        trim(&mut magnitude);
        prop_assert_eq!(number(&decimal(&magnitude)), Some(Token::Int(false, magnitude)));
    }

    #[test]
    fn floats_are_read(bits: u64) {
        let x = f64::from_bits(bits);
        prop_assume!(!x.is_nan());
        let Some(Token::Float(read)) = number(&float_text(x)) else { panic!("{}", float_text(x)) };
        prop_assert_eq!(read.to_bits(), bits);
    }
}
