//! The views of a `Dict`: `keys()`, `values()`, `items()`.

use pyo3::basic::CompareOp;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyDictItems, PyDictKeys, PyFrozenSet, PyMappingProxy, PySet};

use super::iter::DictIter;
use crate::proxies::dict::Dict;
use crate::python::ffi;
use crate::values::contents::{Part, listing};
use crate::values::show::{self, Shape};

/// The same view of a plain dict, read in one section. Any other value is returned unchanged.
fn plain_view<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = value.py();
    if let Ok(view) = value.cast_exact::<KeysView>() {
        let keys = listing(py, view.get().dict.get().proxy()?, Part::Key)?;
        let dict = py.get_type::<PyDict>().call_method1("fromkeys", (keys,))?;
        return dict.call_method0("keys");
    }
    match value.cast_exact::<ItemsView>() {
        Ok(view) => view.get().dict.get().plain(py)?.call_method0("items"),
        Err(_) => Ok(value.clone()),
    }
}

fn is_set_like(other: &Bound<'_, PyAny>) -> bool {
    other.is_instance_of::<PySet>()
        || other.is_instance_of::<PyFrozenSet>()
        || other.is_instance_of::<KeysView>()
        || other.is_instance_of::<ItemsView>()
        || other.is_instance_of::<PyDictKeys>()
        || other.is_instance_of::<PyDictItems>()
}

macro_rules! view {
    ($name:ident, $part:expr, $label:literal, $doc:literal, { $($extra:tt)* }) => {
        #[doc = $doc]
        #[pyclass(frozen, generic, module = "persist")]
        pub struct $name {
            dict: Py<Dict>,
        }

        impl $name {
            /// The view of a dict.
            pub(crate) fn new(dict: &Bound<'_, Dict>) -> $name {
                $name { dict: dict.clone().unbind() }
            }
        }

        #[pymethods]
        impl $name {
            fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
                Ok(self.dict.get().count(py)? as usize)
            }

            fn __iter__(&self, py: Python<'_>) -> PyResult<DictIter> {
                DictIter::new(self.dict.bind(py), $part, false)
            }

            fn __reversed__(&self, py: Python<'_>) -> PyResult<DictIter> {
                DictIter::new(self.dict.bind(py), $part, true)
            }

            fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
                let dict = slf.get().dict.bind(slf.py());
                show::container(slf.as_any(), dict.get().proxy()?, Shape::View($part))
            }

            fn __reduce__(&self) -> PyResult<()> {
                Err(PyTypeError::new_err(concat!("cannot pickle '", $label, "' object")))
            }

            /// Return a read-only proxy of the dict.
            #[getter]
            fn mapping<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
                py.get_type::<PyMappingProxy>().call1((&self.dict,))
            }

            $($extra)*
        }
    };
}

macro_rules! set_view {
    ($name:ident, $part:expr, $label:literal, $doc:literal, { $($contains:tt)* }) => {
        view!($name, $part, $label, $doc, {
            $($contains)*

            fn __richcmp__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>, op: CompareOp) -> PyResult<Py<PyAny>> {
                if !is_set_like(other) {
                    return Ok(slf.py().NotImplemented());
                }
                ffi::deeper()?;
                Ok(plain_view(slf.as_any())?.rich_compare(plain_view(other)?, op)?.unbind())
            }

            fn __and__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
                plain_view(slf.as_any())?.bitand(plain_view(other)?)
            }

            fn __rand__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
                plain_view(other)?.bitand(plain_view(slf.as_any())?)
            }

            fn __or__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
                plain_view(slf.as_any())?.bitor(plain_view(other)?)
            }

            fn __ror__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
                plain_view(other)?.bitor(plain_view(slf.as_any())?)
            }

            fn __sub__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
                plain_view(slf.as_any())?.sub(plain_view(other)?)
            }

            fn __rsub__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
                plain_view(other)?.sub(plain_view(slf.as_any())?)
            }

            fn __xor__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
                plain_view(slf.as_any())?.bitxor(plain_view(other)?)
            }

            fn __rxor__<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
                plain_view(other)?.bitxor(plain_view(slf.as_any())?)
            }

            /// Return True if the view and the iterable have nothing in common.
            #[pyo3(signature = (other, /))]
            fn isdisjoint<'py>(slf: &Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
                plain_view(slf.as_any())?.call_method1("isdisjoint", (other,))
            }
        });
    };
}

set_view!(
    KeysView,
    Part::Key,
    "dict_keys",
    "The keys of a Dict: a live view, with the operations of a set.",
    {
        fn __contains__(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<bool> {
            self.dict.bind(py).as_any().contains(key)
        }
    }
);

set_view!(
    ItemsView,
    Part::Item,
    "dict_items",
    "The entries of a Dict: a live view, with the operations of a set.",
    {
        fn __contains__(&self, py: Python<'_>, item: &Bound<'_, PyAny>) -> PyResult<bool> {
            match item.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>() {
                Ok((key, value)) => match self.dict.get().find(py, &key)? {
                    Some(there) => there.eq(value),
                    None => Ok(false),
                },
                Err(_) => Ok(false),
            }
        }
    }
);

view!(
    ValuesView,
    Part::Value,
    "dict_values",
    "The values of a Dict: a live view.",
    {
        fn __contains__(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<bool> {
            listing(py, self.dict.get().proxy()?, Part::Value)?
                .as_any()
                .contains(value)
        }
    }
);
