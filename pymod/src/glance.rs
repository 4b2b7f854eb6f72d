//! What is told or done at a glance: the short way of most reads and of replacing small values.
//!
//! 1. Nothing here waits. What cannot be told or done in a moment is left to the sections of `shared`.

use persist_core::store::{Key, Known, Obj, Reader, Value, Word};
use pyo3::prelude::*;
use std::sync::Arc;

use crate::convert;
use crate::shared::{Got, Shared, small, take_long};

/// What a glance told.
pub(crate) enum Seen<'py> {
    /// The value.
    Value(Bound<'py, PyAny>),
    /// That there is none.
    Nothing,
    /// Nothing: ask in a section that can do more.
    Unsure,
}

impl Shared {
    /// The value under a key, if that is told in a moment.
    #[inline(always)]
    pub(crate) fn glance<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        obj: Obj,
        key: &[u8],
    ) -> PyResult<Seen<'py>> {
        self.tell(py);
        let long = |r: &Reader<'_>, word| self.take_longer(r, word);
        self.see(py, self.store.glance(obj, &Key::Str(key), long))
    }

    /// The same of an attribute.
    #[inline(always)]
    pub(crate) fn glance_attribute<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        obj: Obj,
        key: &[u8],
        known: &Known,
    ) -> PyResult<Seen<'py>> {
        self.tell(py);
        let long = |r: &Reader<'_>, word| self.take_longer(r, word);
        let told = self.store.glance_attribute(obj, &Key::Str(key), known, long);
        self.see(py, told)
    }

    /// The same of an item of a list; an index below zero counts from the end.
    #[inline(always)]
    pub(crate) fn glance_item<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        obj: Obj,
        index: i64,
    ) -> PyResult<Seen<'py>> {
        self.tell(py);
        let long = |r: &Reader<'_>, word| self.take_longer(r, word);
        self.see(py, self.store.glance_item(obj, index, long))
    }

    /// What a glance took out of the store.
    #[inline(always)]
    fn see<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        told: std::result::Result<Word, Got>,
    ) -> PyResult<Seen<'py>> {
        match told {
            Err(got) => self.give(py, got).map(Seen::Value),
            Ok(Word::EMPTY) => Ok(Seen::Unsure),
            Ok(Word::REMOVED) => Ok(Seen::Nothing),
            Ok(word) => Ok(small(py, word.as_short())?.map_or(Seen::Unsure, Seen::Value)),
        }
    }

    #[inline]
    fn take_longer(&self, r: &Reader<'_>, word: Word) -> Option<Got> {
        match take_long(self, r, word) {
            Ok(Got::Value(Value::Large(_))) | Err(_) => None,
            Ok(got) => Some(got),
        }
    }

    /// Whether there is an entry, if that is told in a moment.
    #[inline]
    pub(crate) fn glance_whether(&self, py: Python<'_>, obj: Obj, key: &[u8]) -> Option<bool> {
        self.tell(py);
        match self.store.glance(obj, &Key::Str(key), |_, _| Some(())) {
            Ok(Word::EMPTY) => None,
            found => Some(found != Ok(Word::REMOVED)),
        }
    }

    /// Sets an item of a list, if that is done in a moment. False: nothing was done.
    #[inline]
    pub(crate) fn set_item_at_once(&self, obj: Obj, index: i64, value: &Bound<'_, PyAny>) -> bool {
        !self.read_only && {
            let word = convert::small_word(value);
            word.is_plain() && self.store.set_item_at_once(obj, index, word)
        }
    }

    /// Sets an entry, if that is done in a moment. False: nothing was done.
    #[inline(always)]
    pub(crate) fn set_at_once(&self, obj: Obj, key: &[u8], value: &Bound<'_, PyAny>) -> bool {
        !self.read_only && {
            let word = convert::small_word(value);
            word.is_plain() && self.store.set_at_once(obj, &Key::Str(key), word)
        }
    }

    /// The same of an attribute.
    #[inline(always)]
    pub(crate) fn set_attribute_at_once(
        &self,
        obj: Obj,
        key: &[u8],
        value: &Bound<'_, PyAny>,
        known: &Known,
    ) -> bool {
        !self.read_only && {
            let word = convert::small_word(value);
            word.is_plain() && self.store.set_attribute_at_once(obj, &Key::Str(key), word, known)
        }
    }
}
