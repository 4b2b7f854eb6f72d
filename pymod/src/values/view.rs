//! `Dict.view` and `List.view`: a memoryview of a value that is bytes, a bytearray or an array.

use persist_core::store::door::Word;
use persist_core::store::{Key, LockTarget, Obj, Reader, Result, Value};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyMemoryView;
use std::sync::Arc;

use super::fetch::MAX_ATTEMPTS;
use super::large::{ARRAY, BYTEARRAY, Whole, read_whole};
use crate::engine::contents::Content;
use crate::engine::shared::Shared;
use crate::python::ffi;

impl Shared {
    /// The view of the value that `f` finds. `key` names its place in errors.
    pub(crate) fn view<'py>(
        &self,
        py: Python<'py>,
        obj: Obj,
        key: Key<'_>,
        mut f: impl FnMut(&Reader<'_>) -> Result<Option<Word>> + Send,
    ) -> PyResult<Option<Bound<'py, PyMemoryView>>> {
        for attempt in 0.. {
            let found = self.read(py, |r| match f(r)? {
                None => Ok(None),
                Some(word) => match r.value(word)? {
                    value if attempt == MAX_ATTEMPTS => read_whole(r, value).map(Some),
                    value => Ok(Some(value)),
                },
            })?;
            let read = match found {
                None => break,
                Some(Value::Large(large)) => self.read_viewed(py, &large)?,
                Some(value) => Some(Whole::Value(value)),
            };
            if let Some(read) = read {
                return self.view_of(py, obj, key, read).map(Some);
            }
        }
        Ok(None)
    }

    fn view_of<'py>(
        &self,
        py: Python<'py>,
        obj: Obj,
        key: Key<'_>,
        read: Whole,
    ) -> PyResult<Bound<'py, PyMemoryView>> {
        let at = || {
            let path = self.store.path_of(LockTarget { obj, key: Some(key) });
            path.map_or_else(String::new, |path| format!(" at {path}"))
        };
        let name: String = match read {
            Whole::Content(Content { name, bytes }) if &*name != ARRAY => return ffi::memoryview(py, &bytes),
            Whole::Value(Value::Bytes(bytes)) => return ffi::memoryview(py, &Arc::new(bytes.to_vec())),
            Whole::Value(Value::Typed(typed)) if &*typed.name == BYTEARRAY && !typed.text => {
                return ffi::memoryview(py, &Arc::new(typed.payload));
            }
            Whole::Value(Value::Typed(typed)) if &*typed.name != ARRAY => typed.name.into(),
            Whole::Value(Value::Obj(_)) => "a container".into(),
            read => {
                let value = self.placed(py, read.to_python(py), obj, Some(key))?;
                match PyMemoryView::from(&value) {
                    Ok(view) => return Ok(view),
                    // The array's type has no format of a buffer, as that of times.
                    Err(e) if value.hasattr("dtype")? => {
                        let what = format!("there is no view of the array{}: {}", at(), e.value(py));
                        return Err(PyTypeError::new_err(what));
                    }
                    Err(_) => value.get_type().name()?.to_string(),
                }
            }
        };
        Err(PyTypeError::new_err(format!(
            "there is no view of {name}{}: only bytes, bytearrays and arrays of numpy have one",
            at()
        )))
    }
}
