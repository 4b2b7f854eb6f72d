"""The items of the engine's public modules that its documentation shows. Needs nothing built."""

from __future__ import annotations

import re
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent.parent / "core/src"

# What a program needs. Items for the doors are `#[doc(hidden)]`, and modules below `store` are not public.
ITEMS = {
    "error.rs": "Error Result",
    "store/mod.rs": """
        Actor Block Durability Entry In Key Kind Large LargeKind LockHandle LockInfo LockMode LockTarget Obj ObjectId
        Options Reader Snapshot Stat Step Store Typed Value Wait Writer
        Error Result
    """,
    "check/mod.rs": "Finding Report Salvaged Watch check check_store salvage",
    "backup/mod.rs": "Done Input Options Restoring backup backup_to restore",
}


def shown(code: str) -> set[str]:
    """Return the names of the public items of a file that documentation shows, also those from other modules."""
    code = re.sub(r"(?m)^#\[doc\(hidden\)\]\n(#\[[^\n]*\n)*pub [^\n]*", "", code)
    names = set(re.findall(r"(?m)^pub (?:struct|enum|trait|type|fn|mod|const|static) (\w+)", code))
    for used in re.findall(r"(?m)^pub use ([^;]+);", code):
        path, _, group = used.partition("{")
        for name in (group or path.split("::")[-1]).rstrip("} \n").split(","):
            names.add(name.split(" as ")[-1].strip())
    return names


def test_documentation_shows_what_a_program_needs() -> None:
    for file, items in ITEMS.items():
        assert shown((SOURCE / file).read_text()) == set(items.split()), file


def test_public_modules_are_few_and_have_examples() -> None:
    code = re.sub(r"#\[cfg[^\n]*\]\npub mod", "", (SOURCE / "lib.rs").read_text())
    public = set(re.findall(r"(?m)^pub mod (\w+);", code))
    assert public == {"store", "check", "backup", "error"}
    for file in ITEMS:
        assert "//! ```\n//! use persist_core::" in (SOURCE / file).read_text(), file


def test_an_item_more_is_found() -> None:
    """The check sees items of each form, and no hidden one."""
    code = """
pub use a::b::{C, D as E};
pub use f::G;
#[doc(hidden)]
pub use h::I;
#[doc(hidden)]
#[derive(Clone)]
pub struct J;
pub(crate) struct K;
pub fn l() {}
"""
    assert shown(code) == {"C", "E", "G", "l"}
