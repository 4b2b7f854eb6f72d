//! The classes of dicts and lists that the doors know by themselves: the containers of Python that are neither a
//! plain dict nor a plain list. Their names have no module, so that no class of a program has one of them. What belongs
//! to a class is in brackets after it: `deque[10]` holds at most ten items, `defaultdict[builtins:list]` makes a list.

use super::header::Kind;

/// A dict whose keys are kept in order.
pub const SORTED: &str = "SortedDict";

/// Return the kind of container that a class of this name is, if it is one that the doors know.
#[must_use]
pub fn builtin_kind(class: &str) -> Option<Kind> {
    let name = match class.split_once('[') {
        Some((name, rest)) if rest.ends_with(']') => name,
        Some(_) => return None,
        None => class,
    };
    match name {
        "set" | "OrderedDict" | "Counter" | "defaultdict" => Some(Kind::Dict),
        "deque" => Some(Kind::List),
        _ if class == SORTED => Some(Kind::Dict),
        _ => None,
    }
}
