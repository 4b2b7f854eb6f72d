//! The fast path of most reads, and of replacing small values.
//!
//! 1. The fast path does not wait. If it cannot decide, the sections of `Shared` (the slow path) do.

use persist_core::store::door::{Known, Member, Word};
use persist_core::store::{Key, Obj, Reader, Value};
use pyo3::prelude::*;
use std::sync::Arc;

use super::fetch::{Copied, copy_out, small};
use crate::engine::shared::Shared;
use crate::python::scalars;

/// The result of the fast path.
pub(crate) enum Fast<'py> {
    /// The value.
    Value(Bound<'py, PyAny>),
    /// The entry is missing.
    Missing,
    /// The fast path cannot decide: take the slow path.
    Unknown,
}

impl Shared {
    /// Return the value under a key, if the fast path finds it.
    #[inline(always)]
    pub(crate) fn fast_get<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        obj: Obj,
        key: &[u8],
    ) -> PyResult<Fast<'py>> {
        self.set_task_if_needed(py);
        let long = |r: &Reader<'_>, word| self.copy_out_word(r, word);
        let told = self.store.fast_get(obj, Member::Key(Key::Str(key)), long);
        self.placed(py, self.found(py, told), obj, Some(Key::Str(key)))
    }

    /// Return the value of an attribute, if the fast path finds it.
    #[inline(always)]
    pub(crate) fn fast_get_attribute<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        obj: Obj,
        key: &[u8],
        known: &Known,
    ) -> PyResult<Fast<'py>> {
        self.set_task_if_needed(py);
        let long = |r: &Reader<'_>, word| self.copy_out_word(r, word);
        let told = self
            .store
            .fast_get(obj, Member::Attribute(Key::Str(key), known), long);
        self.placed(py, self.found(py, told), obj, Some(Key::Str(key)))
    }

    /// Return an item of a list, if the fast path finds it; a negative index counts from the end.
    #[inline(always)]
    pub(crate) fn fast_get_item<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        obj: Obj,
        index: i64,
    ) -> PyResult<Fast<'py>> {
        self.set_task_if_needed(py);
        let long = |r: &Reader<'_>, word| self.copy_out_word(r, word);
        let told = self.store.fast_get(obj, Member::Item(index), long);
        self.placed(py, self.found(py, told), obj, Some(Key::Int(index)))
    }

    /// Convert the result of the store into a Python object.
    #[inline(always)]
    fn found<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        told: std::result::Result<Word, Copied>,
    ) -> PyResult<Fast<'py>> {
        match told {
            Err(got) => self.to_object(py, got).map(Fast::Value),
            Ok(Word::EMPTY) => Ok(Fast::Unknown),
            Ok(Word::REMOVED) => Ok(Fast::Missing),
            Ok(word) => Ok(small(py, word.as_short())?.map_or(Fast::Unknown, Fast::Value)),
        }
    }

    #[inline]
    fn copy_out_word(&self, r: &Reader<'_>, word: Word) -> Option<Copied> {
        match copy_out(self, r, word) {
            Ok(Copied::Value(Value::Large(_))) | Err(_) => None,
            Ok(got) => Some(got),
        }
    }

    /// Return whether an entry exists, if the fast path can decide.
    #[inline]
    pub(crate) fn fast_contains(&self, py: Python<'_>, obj: Obj, key: &[u8]) -> Option<bool> {
        self.set_task_if_needed(py);
        match self
            .store
            .fast_get(obj, Member::Key(Key::Str(key)), |_, _| Some(()))
        {
            Ok(Word::EMPTY) => None,
            found => Some(found != Ok(Word::REMOVED)),
        }
    }

    /// Set an item of a list, if the fast path can. False: nothing was done.
    #[inline]
    pub(crate) fn fast_set_item(&self, obj: Obj, index: i64, value: &Bound<'_, PyAny>) -> bool {
        !self.read_only && {
            let word = scalars::small_word(value);
            self.set_task_if_needed(value.py());
            word.is_plain() && self.store.fast_set(obj, Member::Item(index), word)
        }
    }

    /// Set an entry, if the fast path can. False: nothing was done.
    #[inline(always)]
    pub(crate) fn fast_set(&self, obj: Obj, key: &[u8], value: &Bound<'_, PyAny>) -> bool {
        !self.read_only && {
            let word = scalars::small_word(value);
            self.set_task_if_needed(value.py());
            word.is_plain() && self.store.fast_set(obj, Member::Key(Key::Str(key)), word)
        }
    }

    /// Set an attribute, if the fast path can. False: nothing was done.
    #[inline(always)]
    pub(crate) fn fast_set_attribute(
        &self,
        obj: Obj,
        key: &[u8],
        value: &Bound<'_, PyAny>,
        known: &Known,
    ) -> bool {
        !self.read_only && {
            let word = scalars::small_word(value);
            self.set_task_if_needed(value.py());
            word.is_plain()
                && self
                    .store
                    .fast_set(obj, Member::Attribute(Key::Str(key), known), word)
        }
    }
}
