//! Access to the layers below the store, and to functions that enter, read and write a section by hand.
#![forbid(unsafe_code)]
#![allow(unused, unreachable_code)]
use persist_core::store::{Actor, In, Key, Options, Reader, Store, Value, Wait, Writer};
use persist_core::page::Pager; //~ E0603
use persist_core::page::access::{Pages, PagesMut}; //~ E0603
use persist_core::heap; //~ E0603
use persist_core::lock::Table; //~ E0603
use persist_core::object::graph; //~ E0603
use persist_core::raw; //~ E0603
use persist_core::ids::PageNo; //~ E0603
use persist_core::{backup, check, error};

fn main() {
    let _: Option<(check::Report, backup::Done, error::Error)> = None;
}
