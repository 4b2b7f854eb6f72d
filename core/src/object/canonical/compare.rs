//! The order of values that have a form, as Python compares them: numbers of all types by their exact values, moments
//! with an offset among each other, and those without.

use super::form::Form;
use super::numbers::Ratio;
use std::cmp::Ordering;

/// A number, exactly.
enum Number {
    /// An infinity; true for the negative one.
    Infinite(bool),
    Ratio(Ratio),
}

impl Number {
    fn of(form: &Form) -> Option<Number> {
        match form {
            Form::Float(bits) if f64::from_bits(*bits).is_infinite() => {
                Some(Number::Infinite(f64::from_bits(*bits) < 0.0))
            }
            form => Ratio::of(form).map(Number::Ratio),
        }
    }
}

fn beyond(negative: bool) -> Ordering {
    if negative {
        Ordering::Less
    } else {
        Ordering::Greater
    }
}

/// Return the order of two forms; None if there is none.
pub(crate) fn compare(a: &Form, b: &Form) -> Option<Ordering> {
    if let (Some((a, here)), Some((b, there))) = (moment(a), moment(b)) {
        return (a == b).then(|| here.cmp(&there));
    }
    Some(match (Number::of(a)?, Number::of(b)?) {
        (Number::Infinite(a), Number::Infinite(b)) => b.cmp(&a),
        (Number::Infinite(negative), Number::Ratio(_)) => beyond(negative),
        (Number::Ratio(_), Number::Infinite(negative)) => beyond(negative).reverse(),
        (Number::Ratio(a), Number::Ratio(b)) => a.compare(&b),
    })
}

/// Return the tag and the microseconds of a datetime or time.
fn moment(form: &Form) -> Option<(u8, i64)> {
    match form {
        Form::Other(bytes) => match bytes.split_first() {
            Some((tag @ (b'd' | b'e' | b'h' | b'i'), rest)) => {
                let micros = <[u8; 8]>::try_from(rest.get(4..)?).ok()?;
                Some((*tag, i64::from_le_bytes(micros)))
            }
            _ => None,
        },
        Form::Int(..) | Form::Float(_) => None,
    }
}
