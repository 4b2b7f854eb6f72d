//! The content of a container as plain dicts and lists; the containers in it are proxies.

use persist_core::store::{Reader, Result, Value};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::proxies::dict::Dict;
use crate::proxies::list::List;
use crate::proxies::object::{self, Object};
use crate::proxies::proxy::Proxy;
use crate::python::scalars::Scalar;
use crate::values::batch::Batch;

/// The requested part of an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The key.
    Key,
    /// The value.
    Value,
    /// Both.
    Item,
}

impl Dict {
    /// All entries, or attributes, as a plain dict; containers are proxies.
    pub(crate) fn plain_of<'py>(py: Python<'py>, proxy: &Proxy) -> PyResult<Bound<'py, PyDict>> {
        let mut batch = proxy.shared.collect(py, |r, out| {
            let mut cursor = 0;
            while let Some(entry) = r.next(proxy.obj, cursor)? {
                cursor = entry.cursor;
                out.push(r, entry.key)?;
                out.push(r, entry.value)?;
            }
            Ok(())
        })?;
        let dict = PyDict::new(py);
        while let Some(key) = batch.next(py)? {
            let value = batch.expect(py);
            let name = Scalar::sought(&key)?;
            let value = proxy
                .shared
                .placed(py, value, proxy.obj, name.as_ref().map(Scalar::key))?;
            dict.set_item(&key, value)?;
        }
        Ok(dict)
    }

    /// See `plain_of`.
    pub(crate) fn plain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        match self.place.plain(py)? {
            Some(plain) => plain.cast::<PyDict>()?.copy(),
            None => Dict::plain_of(py, self.proxy()?),
        }
    }

    /// Number of entries.
    pub(crate) fn count(&self, py: Python<'_>) -> PyResult<u64> {
        if let Some(plain) = self.place.plain(py)? {
            return Ok(plain.len()? as u64);
        }
        let proxy = self.proxy()?;
        proxy.shared.read(py, |r| r.len(proxy.obj))
    }
}

impl List {
    /// All items as a plain list; containers are proxies.
    pub(crate) fn plain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.part(py, 0, usize::MAX)
    }

    /// Up to `max` items from `start`.
    pub(crate) fn part<'py>(&self, py: Python<'py>, start: u64, max: usize) -> PyResult<Bound<'py, PyList>> {
        if let Some(plain) = self.place.plain(py)? {
            let start = usize::try_from(start).unwrap_or(usize::MAX);
            return Ok(plain
                .cast::<PyList>()?
                .get_slice(start, start.saturating_add(max)));
        }
        let obj = self.proxy()?.obj;
        self.gather(py, |r, found| {
            let len = r.len(obj)?;
            if start < len {
                r.items(obj, start, max.min((len - start) as usize), found)
            } else {
                Ok(())
            }
        })
    }

    /// The values that `f` finds in one section.
    pub(crate) fn gather<'py>(
        &self,
        py: Python<'py>,
        mut f: impl FnMut(&Reader<'_>, &mut Vec<Value>) -> Result<()> + Send,
    ) -> PyResult<Bound<'py, PyList>> {
        let mut found = Vec::new();
        let mut batch = self.proxy()?.shared.collect(py, |r, out| {
            found.clear();
            f(r, &mut found)?;
            found.drain(..).try_for_each(|value| out.push(r, value))
        })?;
        let (proxy, list) = (self.proxy()?, PyList::empty(py));
        while let Some(item) = proxy.shared.placed(py, batch.next(py), proxy.obj, None)? {
            list.append(item)?;
        }
        Ok(list)
    }

    /// Number of items.
    pub(crate) fn count(&self, py: Python<'_>) -> PyResult<u64> {
        if let Some(plain) = self.place.plain(py)? {
            return Ok(plain.len()? as u64);
        }
        let proxy = self.proxy()?;
        proxy.shared.read(py, |r| r.len(proxy.obj))
    }
}

/// The attributes of an instance as a plain dict; of a transient one, its own `__dict__`.
pub(crate) fn attributes<'py>(object: &Bound<'py, Object>) -> PyResult<Bound<'py, PyDict>> {
    let py = object.py();
    match object.get().links.live(py)? {
        Some(proxy) => Dict::plain_of(py, proxy),
        None => match &*object.get().links.kept() {
            Some(kept) => Ok(kept.bind(py).clone()),
            None => object::own_attributes(object.as_any()),
        },
    }
}

/// The attributes of an instance that is to be stored, as a plain dict.
pub(crate) fn attributes_to_store<'py>(object: &Bound<'py, Object>) -> PyResult<Bound<'py, PyDict>> {
    if object.get().links.live(object.py())?.is_none() && object.get().links.kept().is_none() {
        return object::attributes_to_store(object.as_any());
    }
    attributes(object)
}

/// The attributes of an instance of a registered class, as a plain dict.
pub(crate) fn attributes_of_registered<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let taken = value
        .py()
        .import("persist._registered")?
        .call_method1("taken", (value,))?;
    Ok(taken.cast_into()?)
}

/// A list of the keys, values or entries, read in one section.
pub(crate) fn listing<'py>(py: Python<'py>, proxy: &Proxy, part: Part) -> PyResult<Bound<'py, PyList>> {
    let mut batch = proxy.shared.collect(py, |r, out| {
        let mut cursor = 0;
        while let Some(entry) = r.next(proxy.obj, cursor)? {
            cursor = entry.cursor;
            if part != Part::Value {
                out.push(r, entry.key)?;
            }
            if part != Part::Key {
                out.push(r, entry.value)?;
            }
        }
        Ok(())
    })?;
    let list = PyList::empty(py);
    let next = |batch: &mut Batch| proxy.shared.placed(py, batch.next(py), proxy.obj, None);
    while let Some(first) = next(&mut batch)? {
        match part {
            Part::Item => list.append((first, next(&mut batch)?))?,
            _ => list.append(first)?,
        }
    }
    Ok(list)
}

/// A dict or Dict as a plain dict.
pub(crate) fn as_dict<'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyDict>>> {
    if let Ok(d) = value.cast::<PyDict>() {
        return Ok(Some(d.clone()));
    }
    value
        .cast::<Dict>()
        .ok()
        .map(|d| d.get().plain(value.py()))
        .transpose()
}

/// A list or List as a plain list; None if it is neither.
pub(crate) fn as_list<'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyList>>> {
    if let Ok(l) = value.cast::<PyList>() {
        return Ok(Some(l.clone()));
    }
    value
        .cast::<List>()
        .ok()
        .map(|l| l.get().plain(value.py()))
        .transpose()
}
