//! The Python objects that represent containers: their types, without methods, and their construction.
//!
//! `values` and `graphs`, which find containers, import these types. The methods (`dict`, `list`, `object`) are above
//! both, so that no import cycle is needed.
//!
//! - `proxy`: the record in each of them. `links`: the stored containers that an instance stands for. `place`: that of
//!   a dict or list, or its entries before it is stored. `dict`, `list`, `object`: the types. `places`: storing an
//!   instance of a dict or list.
//! - `wrapped`: the base of sets and deques, and the classes that the store knows by themselves.
//! - `found`: from a container that a section found to its object. `classes`: the class of a stored object.
//! - `programs`: what names the classes of a main program.
//! - `registered`: classes that do not derive from `Object`.
//! - `reference`: what a pickle of a proxy holds.

pub(crate) mod classes;
pub(crate) mod dict;
pub(crate) mod found;
pub(crate) mod links;
pub(crate) mod list;
pub(crate) mod object;
pub(crate) mod place;
pub(crate) mod places;
pub(crate) mod programs;
pub(crate) mod proxy;
pub(crate) mod reference;
pub(crate) mod registered;
pub(crate) mod wrapped;
