//! Where a value to store was met, for errors: `value['a'][2]`.

use persist_core::store::Kind;
use pyo3::prelude::*;

use super::{Gather, Named, Slot, Visited};
use crate::python::notes;

impl<'py> Gather<'py> {
    /// Name the place of the value in the exception of its encoder.
    #[cold]
    pub(super) fn of_encoder(&self, e: PyErr, met: &Visited<'_, 'py>) -> PyErr {
        if notes::is_noted(self.py, &e) {
            let place = self.place(met);
            let at = if place.is_empty() { "" } else { " at " };
            notes::place(self.py, &e, &format!("{at}{place}"));
        }
        e
    }

    /// The place of a value, as a Python expression: the first path that leads to it.
    #[cold]
    pub(super) fn place(&self, met: &Visited<'_, 'py>) -> String {
        let (node, mut steps) = match *met {
            Visited::Top(n) => (None, vec![self.top_place(n)]),
            Visited::Key(node, key) => (Some(node), vec![self.step(node, key)]),
            Visited::Index(node, index) => (Some(node), vec![format!("[{index}]")]),
            Visited::Node(node) => (Some(node), Vec::new()),
        };
        let mut next = node;
        while let Some(at) = next.take() {
            let is_here = |slot: &Slot<'_>| matches!(slot, Slot::Node(n) if *n == at);
            if let Some(n) = self.top.iter().position(is_here) {
                steps.push(self.top_place(n));
                break;
            }
            // Breadth first: the first referrer of a node was gathered before it.
            let found = self.nodes[..at]
                .iter()
                .enumerate()
                .find_map(|(n, node)| Some((n, node.entries.iter().position(|e| is_here(&e.1))?)));
            if let Some((node, index)) = found {
                steps.push(match &self.nodes[node].entries[index].0 {
                    Some(key) => self.step(node, key),
                    None => format!("[{index}]"),
                });
                next = Some(node);
            }
        }
        let steps: String = steps.into_iter().rev().collect();
        if steps.is_empty() {
            steps
        } else {
            format!("value{steps}")
        }
    }

    fn top_place(&self, n: usize) -> String {
        match &self.named {
            Named::One => String::new(),
            Named::Items => format!("[{n}]"),
            Named::Keys(keys) => keys
                .get_item(n)
                .map_or_else(|_| String::new(), |key| subscript(&key)),
        }
    }

    fn step(&self, node: usize, key: &Bound<'py, PyAny>) -> String {
        match self.nodes[node].kind {
            Kind::Object => format!(".{key}"),
            _ => subscript(key),
        }
    }
}

/// A key in brackets, as Python writes it.
fn subscript(key: &Bound<'_, PyAny>) -> String {
    key.repr()
        .map_or_else(|_| "[?]".to_owned(), |key| format!("[{key}]"))
}
