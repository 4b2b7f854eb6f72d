//! Forms against their rules: equal values have one, and different values have different ones.

use super::*;
use proptest::prelude::*;

/// Values of one row are equal; values of different rows differ.
const ROWS: &[&[(&str, &str)]] = &[
    &[
        ("tuple", "(1, 2)"),
        ("tuple", "(1.0, 2)"),
        ("tuple", "(True, 2.0)"),
        ("namedtuple:m:P", "(1, 2)"),
        ("tuple", "(decimal('1.0'), fraction('2'))"),
        ("tuple", "(complex('1.0+0.0j'), decimal('0.2E+1'))"),
    ],
    &[
        ("tuple", "(0,)"),
        ("tuple", "(False,)"),
        ("tuple", "(-0.0,)"),
        ("tuple", "(decimal('-0E-10'),)"),
    ],
    &[("tuple", "(1,)")],
    &[("tuple", "((1,),)"), ("tuple", "('namedtuple:m:P'('(1.0,)'),)")],
    &[("tuple", "(1, (2,))")],
    &[("tuple", "((1,), 2)")],
    &[("tuple", "()")],
    &[("tuple", "('1',)")],
    &[("tuple", "(b'1',)")],
    &[("tuple", "(None,)")],
    &[
        ("tuple", "(1e+30,)"),
        ("tuple", "(1000000000000000019884624838656,)"),
    ],
    &[
        ("tuple", "(-1e+16,)"),
        ("tuple", "(-10000000000000000,)"),
        ("tuple", "(decimal('-1E+16'),)"),
    ],
    &[
        ("tuple", "(0.5,)"),
        ("tuple", "(fraction('1/2'),)"),
        ("tuple", "(decimal('0.50'),)"),
    ],
    &[("tuple", "(inf,)"), ("tuple", "(decimal('Infinity'),)")],
    &[("tuple", "(nan,)")],
    &[("tuple", "(date('1'),)")],
    &[("tuple", "(uuid('1'),)")],
    &[("tuple", "('date', '1')")],
    &[("tuple", "('enum:m:C'('RED'),)")],
    &[("tuple", "({1},)"), ("tuple", "({1.0},)")],
    &[("frozenset", "{}")],
    &[
        ("frozenset", "{1, 2}"),
        ("frozenset", "{1, 2.0}"),
        ("frozenset", "{2, True}"),
    ],
    &[
        ("frozenset", "{(1, 2)}"),
        ("frozenset", "{'namedtuple:m:P'('(1, 2)')}"),
    ],
    &[
        ("decimal", "1"),
        ("decimal", "1.00"),
        ("fraction", "1"),
        ("complex", "1.0-0.0j"),
        ("decimal", "10E-1"),
    ],
    &[
        ("decimal", "0"),
        ("decimal", "-0E+999999"),
        ("fraction", "0"),
        ("complex", "-0.0+0.0j"),
    ],
    &[
        ("decimal", "0.1"),
        ("fraction", "1/10"),
        ("decimal", "1.0E-1"),
        ("fraction", "2/20"),
    ],
    &[("decimal", "-0.1"), ("fraction", "-1/10")],
    &[
        ("decimal", "0.25"),
        ("fraction", "1/4"),
        ("complex", "0.25+0.0j"),
        ("fraction", "25/100"),
    ],
    &[("fraction", "1/3"), ("fraction", "21/63")],
    &[
        ("decimal", "0.3333333333333333148296162562"),
        (
            "fraction",
            "833333333333333287074040640500/2500000000000000000000000000000",
        ),
    ],
    &[("complex", "0.0+1.0j"), ("complex", "-0.0+1.0j")],
    &[("complex", "1.0+1.0j")],
    &[("complex", "1e-05-1e-07j")],
    &[("decimal", "-Infinity"), ("complex", "-inf+0.0j")],
    &[
        ("datetime", "2026-11-30T12:00:00"),
        ("datetime", "2026-11-30T12:00:00[fold=1]"),
    ],
    &[
        ("datetime", "2026-11-30T12:00:00+00:00"),
        ("datetime", "2026-11-30T13:00:00+01:00[name=CET]"),
        ("datetime", "2026-12-01T00:00:00.500000+12:00:00.500000"),
        ("datetime", "2026-11-30T12:00:00+00:00[UTC]"),
        ("datetime", "2026-11-30T00:30:00-11:30[fold=1]"),
    ],
    &[
        ("datetime", "2024-02-29T00:00:00+00:00"),
        ("datetime", "2024-03-01T00:00:00+24:00"),
    ],
    &[("datetime", "0001-01-01T00:00:00")],
    &[("datetime", "9999-12-31T23:59:59.999999")],
    &[("time", "12:00:00"), ("time", "12:00:00[fold=1]")],
    &[("time", "12:00:00+00:00"), ("time", "11:00:00-01:00")],
    &[("posixpath", "a/b"), ("pureposixpath", "a/b")],
    &[("posixpath", "/"), ("pureposixpath", "/")],
    &[("posixpath", "//a")],
    &[("posixpath", ".")],
];

#[test]
fn equal_values_have_one_form() {
    for (i, row) in ROWS.iter().enumerate() {
        for (j, other) in ROWS.iter().enumerate() {
            for (a, b) in row.iter().flat_map(|a| other.iter().map(move |b| (a, b))) {
                let (x, y) = (form(a.0, a.1.as_bytes()), form(b.0, b.1.as_bytes()));
                assert!(x.is_some(), "{a:?}");
                assert_eq!(x == y, i == j, "{a:?} {b:?}");
            }
        }
    }
}

#[test]
fn numbers_have_the_form_of_the_float_or_int_that_they_equal() {
    let exact = |x: f64| numbers::float(x);
    assert_eq!(form("decimal", b"0.5"), Some(Form::Float(0.5f64.to_bits())));
    assert_eq!(form("decimal", b"-1E+2"), Some(exact(-100.0)));
    assert_eq!(form("fraction", b"-3/1024"), Some(exact(-3.0 / 1024.0)));
    assert_eq!(form("complex", b"1e+300+0.0j"), Some(exact(1e300)));
    let least = format!("1/{}", 1u128 << 120);
    assert_eq!(form("fraction", least.as_bytes()), Some(exact(2f64.powi(-120))));
    // One bit more than a float has.
    let odd = format!("{}/2", (1u64 << 53) + 1);
    assert!(matches!(form("fraction", odd.as_bytes()), Some(Form::Other(_))));
    let all = format!("{}/2", (1u64 << 53) - 1);
    assert_eq!(
        form("fraction", all.as_bytes()),
        Some(exact(((1u64 << 53) - 1) as f64 / 2.0))
    );
}

#[test]
fn what_has_no_form() {
    for (name, text) in [
        ("decimal", "NaN"),
        ("decimal", "sNaN1"),
        ("decimal", ""),
        ("decimal", "."),
        ("decimal", "x"),
        ("decimal", "1E"),
        ("decimal", "1E+309"),
        ("decimal", "1E-309"),
        ("decimal", "1E+99999999999999999999"),
        ("fraction", "1/0"),
        ("fraction", "1.5"),
        ("fraction", "1/-2"),
        ("fraction", "/"),
        ("complex", "nan+0.0j"),
        ("complex", "1.0"),
        ("complex", "j"),
        ("datetime", "2026-11-30"),
        ("datetime", "2026-11-30T12:00:00+01:00[Europe/Berlin]"),
        ("datetime", "2026-13-30T12:00:00"),
        ("datetime", "2026-1-30T12:00:00"),
        ("time", "12"),
        ("time", "12:00:00.5"),
        ("time", "1:00:00"),
        ("posixpath", "a//b"),
        ("posixpath", "a/"),
        ("posixpath", "./a"),
        ("posixpath", ""),
        ("posixpath", "///a"),
        ("purewindowspath", "a"),
        ("range", "range(0, 1, 1)"),
        ("date", "2026-11-30"),
        ("tuple", "{1}"),
        ("frozenset", "(1,)"),
        ("frozenset", "{1, 1.0}"),
        ("tuple", "(decimal('NaN'),)"),
        ("tuple", "(date(b'1'),)"),
        ("tuple", "('app.x'('1'),)"),
        ("tuple", "(1"),
        ("tuple", "1"),
    ] {
        assert_eq!(form(name, text.as_bytes()), None, "{name} {text}");
    }
    let long = format!("1/{}", "9".repeat(400));
    assert_eq!(form("fraction", long.as_bytes()), None);
    assert!(
        can_be_key("date", b"2026-11-30") && can_be_key("enum:m:C", b"RED") && can_be_key("decimal", b"1")
    );
    assert!(!can_be_key("app.x", b"") && !can_be_key("range", b"range(0, 1, 1)"));
}

#[test]
fn named_tuples_in_texts_are_bounded() {
    let mut text = String::from("(1,)");
    for _ in 0..12 {
        let quoted = text.replace('\\', "\\\\").replace('\'', "\\'");
        text = format!("('namedtuple:m:P'('{quoted}'),)");
    }
    let plain = format!("{}1{}", "(".repeat(13), ",)".repeat(13));
    assert_eq!(form("tuple", text.as_bytes()), form("tuple", plain.as_bytes()));
    assert!(form("tuple", plain.as_bytes()).is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_text_is_a_panic(
        name in "decimal|fraction|complex|datetime|time|posixpath|tuple|frozenset|namedtuple:m:P",
        text in "[(){},' b0-9ne.x\\\\adf:+\\-EjT/\\[\\]]{0,40}",
    ) {
        let _ = form(&name, text.as_bytes());
    }

    #[test]
    fn a_fraction_has_one_form(n in -2000i64..2000, d in 1i64..2000, by in 1i64..1 << 40) {
        let of = |n: i64, d: i64| form("fraction", format!("{n}/{d}").as_bytes());
        prop_assert_eq!(of(n, d), of(n * by, d * by));
        let (mut common, mut rest) = (n.abs(), d);
        while rest != 0 {
            (common, rest) = (rest, common % rest);
        }
        if ((d / common) as u64).is_power_of_two() {
            prop_assert_eq!(of(n, d), Some(numbers::float(n as f64 / d as f64)));
        }
    }

    #[test]
    fn a_float_and_its_exact_decimal_are_one(bits: u64) {
        let x = f64::from_bits(bits);
        prop_assume!(x.is_finite() && x.abs() > 1e-60 && x.abs() < 1e300);
        // Rust writes all digits of a float that are asked for.
        let text = format!("{x:.300}");
        prop_assume!(text.parse::<f64>() == Ok(x));
        let exact = text.trim_end_matches('0').trim_end_matches('.');
        prop_assert_eq!(form("decimal", exact.as_bytes()), Some(numbers::float(x)));
    }
}
