//! The objects that are pinned for nodes: a flag in the node if it is its own object, otherwise an entry in a table.

use super::super::by_number::ByNumber;
use super::node::{Node, PINNED};
use super::place::Place;
use persist_core::store::Obj;

/// The object that is pinned for a node.
pub(super) fn pin(pins: &ByNumber<u64, Obj>, number: u64, node: &Node) -> Option<Obj> {
    match node.has(PINNED) {
        true => node.own(),
        false if pins.is_empty() => None,
        false => pins.get(&number).copied(),
    }
}

/// Record that an object is pinned for a node that has no pin.
pub(super) fn set_pin(pins: &mut ByNumber<u64, Obj>, number: u64, node: &mut Node, obj: Obj) {
    if node.own() == Some(obj) {
        node.set(PINNED, true);
    } else {
        pins.insert(number, obj);
    }
}

/// Take the pin of a node.
pub(super) fn take_pin(pins: &mut ByNumber<u64, Obj>, number: u64, node: &mut Node) -> Option<Obj> {
    let pinned = pin(pins, number, node);
    if node.has(PINNED) {
        node.set(PINNED, false);
    } else if pinned.is_some() {
        pins.remove(&number);
    }
    pinned
}

/// Let a node mean another place. It keeps its pin.
pub(super) fn set_place(pins: &mut ByNumber<u64, Obj>, number: u64, node: &mut Node, place: Place) {
    let own = node.own().filter(|_| node.has(PINNED));
    node.set_place(place);
    if let Some(obj) = own
        && node.own() != own
    {
        node.set(PINNED, false);
        set_pin(pins, number, node, obj);
    }
}
