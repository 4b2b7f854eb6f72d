//! Contents of each type against their rules.

use super::arrays::is_array;
use super::*;
use proptest::prelude::*;

#[test]
fn contents_of_each_type() {
    for (name, good, bad) in [
        (
            "date",
            &["2026-11-30", "0001-01-01", "2024-02-29"][..],
            &["2026-02-29", "2026-1-1", "0000-01-01", "2026-13-01", ""][..],
        ),
        (
            "time",
            &[
                "12:00:00",
                "12:00:00.000001",
                "12:00:00+01:00",
                "12:00:00[fold=1]",
                "12:00:00[Europe/Berlin]",
            ],
            &[
                "12:00",
                "24:00:00",
                "12:00:00.0",
                "12:00:00.000000",
                "12:00:00Z",
                "12:00:00[name=x]",
            ],
        ),
        (
            "datetime",
            &[
                "2026-11-30T12:00:00",
                "2026-11-30T12:00:00+01:00[Europe/Berlin][fold=1]",
                "2026-11-30T12:00:00-00:00:01",
                "2026-11-30T12:00:00+01:00[name=CET]",
            ],
            &[
                "2026-11-30 12:00:00",
                "2026-11-30",
                "2026-11-30T12:00:00[",
                "2026-11-30T12:00:00[]",
                "2026-11-30T12:00:00-00:00",
                "2026-11-30T12:00:00[fold=1][Europe/Berlin]",
                "2026-11-30T12:00:00+01:00[X][name=Y]",
                "2026-11-30T12:00:00+24:00",
                "2026-11-30T12:00:00x",
            ],
        ),
        (
            "timedelta",
            &["P0DT0S", "P-1DT86399.999999S"],
            &["P1D", "P0DT86400S", "P1000000000DT0S", "P0DT0.0S", "P00DT0S"],
        ),
        (
            "decimal",
            &[
                "1",
                "-1.50",
                "1E+5",
                "1.2E-7",
                "NaN",
                "-sNaN12",
                "-Infinity",
                "0E-10",
            ],
            &[
                "",
                "1e5",
                ".5",
                "1.",
                "inf",
                "1E5",
                "+1",
                "1E+9999999999999999999",
                "NaN01",
                "1_0",
            ],
        ),
        (
            "fraction",
            &["1/2", "-3", "0x10/3"],
            &["1/0", "1/-2", "1.5", "", "/", "1_0/3", "1 /2"],
        ),
        (
            "uuid",
            &["12345678-1234-1234-1234-123456789abc"],
            &[
                "12345678-1234-1234-1234-123456789AB",
                "123456781234123412341234567890ab",
            ],
        ),
        (
            "complex",
            &["1.0+2.0j", "-0.0-0.0j", "1e-05-1e+16j", "inf+nanj"],
            &["1+2j", "1.0j", "j", "(1.0+2.0j)", "1.0+-2.0j"],
        ),
        (
            "range",
            &["range(0, 10, 1)", "range(5, -5, -2)"],
            &[
                "range(0, 10)",
                "range(0, 1, 0)",
                "range(0, 1.0, 1)",
                "range(a, 1, 1)",
            ],
        ),
        (
            "tuple",
            &["(1, 'a')", "(date('2026-11-30'),)", "(decimal('1'), (1,))"],
            &["(1)", "{1}", "(date('x'),)", "(bytearray('x'),)"],
        ),
        ("frozenset", &["{1, 2}", "{}"], &["{2, 1}", "(1,)"]),
        ("namedtuple:m:C", &["(1, 2)"], &["x"]),
        ("numpy.float64", &["1.5", "nan", "-inf"], &["x", "1"]),
        ("numpy.uint8", &["255"], &["256", "-1", "01"]),
        ("numpy.datetime64[ns]", &["-5"], &["2026-11-30"]),
        ("app.Money", &["anything", ""], &[]),
    ] {
        for text in good {
            let file = format!(" {text} \n");
            let spaced = if has_form(name) { &file } else { *text };
            let value = parse(name, true, spaced.as_bytes(), false);
            assert_eq!(
                value.map(|v| v.payload),
                Some(text.as_bytes().to_vec()),
                "{name} {text}"
            );
        }
        for text in bad {
            assert_eq!(parse(name, true, text.as_bytes(), false), None, "{name} {text}");
        }
    }
}

#[test]
fn names_in_the_xattr_are_bijective() {
    for (name, text, there) in [
        ("date", true, "date"),
        ("bytearray", false, "bytearray"),
        ("app.Blob", false, "bytes:app.Blob"),
        ("app.Blob", true, "app.Blob"),
        ("bytearray", true, "text:bytearray"),
        ("date", false, "bytes:date"),
    ] {
        assert_eq!(shown(name, text), there);
        assert_eq!(named(there.as_bytes()), Some((name.to_owned(), text)));
    }
    for none in [
        "",
        "foo",
        "int",
        "dict",
        "bytes:",
        "text:date",
        "bytes:bytearray",
        "\0.",
        &"a.".repeat(200),
    ] {
        assert_eq!(named(none.as_bytes()), None, "{none}");
    }
}

#[test]
fn files_of_arrays() {
    let file = |descr: &str, shape: &str, data: usize| {
        let head = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': ({shape}), }}   \n");
        [
            &b"\x93NUMPY\x01\0"[..],
            &(head.len() as u16).to_le_bytes(),
            head.as_bytes(),
            &vec![0; data],
        ]
        .concat()
    };
    for (descr, shape, data) in [
        ("'<f8'", "3,", 24),
        ("'|u1'", "", 1),
        ("'<M8[ns]'", "2, 3", 48),
        ("'<U2'", "0,", 0),
        ("[('a', '<i4'), ('', '|V4'), ('b', '<f8', (2, 3))]", "2,", 2 * 56),
        ("[('a', [('b', '|u1'), ('c', '|u1')])]", "3,", 6),
        ("'<m8[25s]'", "1,", 8),
    ] {
        assert!(is_array(&file(descr, shape, data)), "{descr}");
        assert!(!is_array(&file(descr, shape, data + 1)), "{descr}");
    }
    for (descr, shape, data) in [
        ("'|O'", "1,", 8),
        ("[('a', '|O')]", "1,", 8),
        ("[('a', '<i4'), ('a', '<i4')]", "1,", 8),
        ("[('', '<i4')]", "1,", 4),
        ("[]", "1,", 0),
        ("[('a', '<i4')", "1,", 4),
        ("'<f3'", "1,", 3),
        ("x", "1,", 1),
        ("'<f8'", "-1,", 8),
    ] {
        assert!(!is_array(&file(descr, shape, data)), "{descr}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_content_is_a_panic(name in 0usize..12, content in "[0-9TP:.+\\-\\[\\]a-zA-Z(), ']{0,30}") {
        let all: Vec<&str> = FORMS.iter().copied().chain(["numpy.float32"]).collect();
        if let Some(value) = parse(all[name], true, content.as_bytes(), false) {
            prop_assert_eq!(parse(all[name], true, &render(&value, false), false), Some(value));
        }
        let _ = is_array(content.as_bytes());
    }
}
