//! The implementation of the methods of `List` on several items: slices, searches and reordering.
//!
//! 1. Positions are computed in the section that uses them, from the length in that section.
//! 2. Decisions that need Python (equality, an order) are made on a copy. The section that changes the list then checks
//!    that the list still equals the copy.

use persist_core::store::{In, Key, Obj, Reader, Result, Value, Writer};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyMemoryView, PyTuple};

use crate::graphs::copy_in::{Arg, Gather, put};
use crate::proxies::list::List;
use crate::proxies::place::{self, transient};
use crate::python::ffi;
use crate::python::indices::{At, Span, position};
use crate::python::scalars::same;
use crate::values::batch::Batch;
use crate::values::large::read_whole;

/// The number of items that a search reads in one section.
const CHUNK: usize = 256;

/// The items of an iterable, as a new list without other references.
pub(crate) fn items_of<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
    let py = value.py();
    if let Ok(l) = value.cast::<List>() {
        return l.get().plain(py);
    }
    if value.is_exact_instance_of::<PyList>() || value.is_exact_instance_of::<PyTuple>() {
        return Ok(py.get_type::<PyList>().call1((value,))?.cast_into()?);
    }
    // list() would allocate what `__length_hint__` says, which may be anything.
    let (from, items) = (value.try_iter()?, PyList::empty(py));
    ffi::check_length_hint(value)?;
    for item in from {
        items.append(item?)?;
    }
    Ok(items)
}

/// True if the item is still the one that `arg` was made from.
pub(crate) fn is_same(r: &Reader<'_>, item: Option<Value>, arg: &Arg<'_>) -> Result<bool> {
    match (item, arg) {
        (Some(Value::Obj(there)), Arg::Obj(obj)) => Ok(there == *obj),
        (Some(item), Arg::Scalar(scalar)) => Ok(same(&read_whole(r, item)?, scalar)),
        _ => Ok(false),
    }
}

/// Read and remove the item at an index, if there is one.
fn take_item(w: &mut Writer<'_>, list: Obj, index: isize, out: &mut Batch) -> Result<()> {
    if let Some(at) = position(index as i64, w.len(list)?) {
        if let Some(item) = w.item(list, at)? {
            out.push(w, item)?;
        }
        w.remove_items(list, at, at + 1)?;
    }
    Ok(())
}

impl List {
    /// Remove the first item that equals a value.
    pub(crate) fn remove_equal(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        transient!(self, py, plain => plain.call_method1("remove", (value,)).map(drop));
        let (shared, obj) = (&self.proxy()?.shared, self.proxy()?.obj);
        loop {
            let Some((at, item)) = self.search(value, 0, u64::MAX)? else {
                return Err(PyValueError::new_err("list.remove(x): x not in list"));
            };
            let arg = Arg::of(shared, &item)?;
            let removed = shared.write(py, |w| {
                let item = w.item(obj, at)?;
                if !is_same(w, item, &arg)? {
                    return Ok(false);
                }
                w.remove_items(obj, at, at + 1).map(|()| true)
            })?;
            if removed {
                return Ok(());
            }
        }
    }

    /// Return the first index of a value in a part of the list, which is given as `list.index` takes it.
    pub(crate) fn find_between(
        &self,
        py: Python<'_>,
        value: &Bound<'_, PyAny>,
        start: isize,
        stop: isize,
    ) -> PyResult<u64> {
        let len = if start < 0 || stop < 0 { self.count(py)? } else { 0 };
        let clip = |n: isize| {
            if n < 0 {
                len.saturating_sub(n.unsigned_abs() as u64)
            } else {
                n as u64
            }
        };
        match self.search(value, clip(start), clip(stop))? {
            Some((at, _)) => Ok(at),
            None => Err(PyValueError::new_err(format!("{} is not in list", value.repr()?))),
        }
    }

    /// Append the list to itself until it is there `n` times; `n` is at least 1.
    pub(crate) fn repeat(&self, py: Python<'_>, n: isize) -> PyResult<()> {
        match n {
            1 => self.proxy()?.shared.check_change(py, self.proxy()?.obj),
            _ => self.append_all(&self.repeated(py, n - 1)?),
        }
    }

    pub(crate) fn insert_before(
        &self,
        py: Python<'_>,
        index: i64,
        object: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        transient!(self, py, plain => plain.call_method1("insert", (index, object)).map(drop));
        let obj = self.proxy()?.obj;
        put(py, &self.proxy()?.shared, object, |w, value| {
            let len = w.len(obj)? as i64;
            let at = if index < 0 {
                index.saturating_add(len).max(0)
            } else {
                index.min(len)
            };
            w.insert(obj, at as u64, value).map(|()| true)
        })?;
        Ok(())
    }

    /// Remove the item at an index. False: there is none.
    pub(crate) fn delete(&self, py: Python<'_>, index: i64) -> PyResult<bool> {
        let proxy = self.proxy()?;
        proxy
            .shared
            .write(py, |w| match position(index, w.len(proxy.obj)?) {
                Some(at) => w.remove_items(proxy.obj, at, at + 1).map(|()| true),
                None => Ok(false),
            })
    }

    /// The item at an index, if there is one.
    pub(crate) fn item_at<'py>(&self, py: Python<'py>, index: i64) -> PyResult<Option<Bound<'py, PyAny>>> {
        let proxy = self.proxy()?;
        let item = match u64::try_from(index) {
            Ok(at) => proxy.shared.fetch(py, |r| r.item_word(proxy.obj, at)),
            Err(_) => proxy
                .shared
                .fetch(py, |r| match position(index, r.len(proxy.obj)?) {
                    Some(at) => r.item_word(proxy.obj, at),
                    None => Ok(None),
                }),
        };
        proxy.shared.placed(py, item, proxy.obj, Some(Key::Int(index)))
    }

    /// The view of the item at an index, if there is one.
    pub(super) fn view_at<'py>(
        &self,
        index: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyMemoryView>>> {
        transient!(self, index.py(), plain => place::view(&plain.get_item(index)?).map(Some));
        let At::Index(n) = At::of(index)? else {
            return Err(PyTypeError::new_err("view() takes an index, and no slice"));
        };
        let proxy = self.proxy()?;
        let read = |r: &Reader<'_>| match position(n, r.len(proxy.obj)?) {
            Some(at) => r.item_word(proxy.obj, at),
            None => Ok(None),
        };
        proxy.shared.view(index.py(), proxy.obj, Key::Int(n), read)
    }

    /// Remove and return the item at an index, if there is one; and return the length before.
    pub(crate) fn pop_at<'py>(
        &self,
        py: Python<'py>,
        index: isize,
    ) -> PyResult<(Option<Bound<'py, PyAny>>, u64)> {
        let (obj, mut len) = (self.proxy()?.obj, 0);
        let shared = &self.proxy()?.shared;
        let item = shared.take(
            py,
            |w, out| {
                len = w.len(obj)?;
                take_item(w, obj, index, out)
            },
            |batch| shared.placed(py, batch.next(py), obj, None),
        )?;
        Ok((item, len))
    }

    /// Remove and return the item at an index, if there is one; None if other owners are in the way.
    pub(crate) fn try_pop<'py>(
        &self,
        py: Python<'py>,
        index: isize,
    ) -> PyResult<Option<Option<Bound<'py, PyAny>>>> {
        let obj = self.proxy()?.obj;
        let shared = &self.proxy()?.shared;
        shared.try_take(
            py,
            |w, out| take_item(w, obj, index, out),
            |batch| shared.placed(py, batch.next(py), obj, None),
        )
    }

    pub(crate) fn slice<'py>(&self, py: Python<'py>, span: Span) -> PyResult<Bound<'py, PyList>> {
        let obj = self.proxy()?.obj;
        self.gather(py, |r, found| {
            let (start, count) = span.of_len(r.len(obj)?);
            if span.step == 1 {
                return if count == 0 {
                    Ok(())
                } else {
                    r.items(obj, start as u64, count as usize, found)
                };
            }
            for n in 0..count {
                found.extend(r.item(obj, span.nth(start, n))?);
            }
            Ok(())
        })
    }

    pub(crate) fn set_slice(&self, span: Span, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let (py, obj) = (value.py(), self.proxy()?.obj);
        let items = items_of(value).map_err(|e| match (e.is_instance_of::<PyTypeError>(py), span.step) {
            (true, 1) => PyTypeError::new_err("can only assign an iterable"),
            (true, _) => PyTypeError::new_err("must assign iterable to extended slice"),
            _ => e,
        })?;
        let gather = Gather::all(&self.proxy()?.shared, &items)?;
        let plan = gather.plan()?;
        let (new, mut wrong) = (plan.len() as u64, None);
        gather.store(&plan, |w, built| {
            let (start, count) = span.of_len(w.len(obj)?);
            if span.step != 1 && new != count {
                wrong = Some(count);
                return Ok(false);
            }
            let common = new.min(count);
            for n in 0..common {
                w.set_item(obj, span.nth(start, n), &built.top(n as usize))?;
            }
            for n in common..new {
                w.insert(obj, start as u64 + n, &built.top(n as usize))?;
            }
            if common < count {
                w.remove_items(obj, start as u64 + common, start as u64 + count)?;
            }
            Ok(true)
        })?;
        match wrong {
            None => Ok(()),
            Some(count) => Err(PyValueError::new_err(format!(
                "attempt to assign sequence of size {new} to extended slice of size {count}"
            ))),
        }
    }

    pub(crate) fn del_slice(&self, py: Python<'_>, span: Span) -> PyResult<()> {
        let obj = self.proxy()?.obj;
        self.proxy()?.shared.write(py, |w| {
            let (start, count) = span.of_len(w.len(obj)?);
            if count == 0 {
                return Ok(());
            }
            if span.step == 1 {
                return w.remove_items(obj, start as u64, start as u64 + count);
            }
            for n in 0..count {
                // In descending order, so that the remaining positions do not shift.
                let at = span.nth(start, if span.step < 0 { n } else { count - 1 - n });
                w.remove_items(obj, at, at + 1)?;
            }
            Ok(())
        })
    }

    /// Append all items of a plain list in one operation.
    pub(crate) fn append_all(&self, items: &Bound<'_, PyList>) -> PyResult<()> {
        if let Some(plain) = self.place.plain(items.py())? {
            return plain.call_method1("extend", (items,)).map(drop);
        }
        let obj = self.proxy()?.obj;
        let gather = Gather::all(&self.proxy()?.shared, items)?;
        let plan = gather.plan()?;
        if plan.len() == 0 {
            return self.proxy()?.shared.check_change(items.py(), obj);
        }
        gather.store(&plan, |w, built| {
            let len = w.len(obj)?;
            for n in 0..plan.len() {
                w.insert(obj, len + n as u64, &built.top(n))?;
            }
            Ok(true)
        })
    }

    /// All items, `n` times over, as a plain list.
    pub(crate) fn repeated<'py>(&self, py: Python<'py>, n: isize) -> PyResult<Bound<'py, PyList>> {
        let items = self.plain(py)?;
        let all = items.as_sequence().in_place_repeat(n.max(0) as usize)?;
        Ok(all.into_any().cast_into()?)
    }

    /// Reorder the items; Python code chooses the order.
    pub(crate) fn permute<'py>(
        &self,
        py: Python<'py>,
        order: impl FnOnce(&Bound<'py, PyList>) -> PyResult<()>,
    ) -> PyResult<()> {
        if let Some(plain) = self.place.plain(py)? {
            return order(plain.cast::<PyList>()?);
        }
        let (shared, obj) = (&self.proxy()?.shared, self.proxy()?.obj);
        let before = self.plain(py)?;
        let after = before.get_slice(0, before.len());
        order(&after)?;
        let (old, new): (Vec<_>, Vec<_>) = (before.iter().collect(), after.iter().collect());
        let expected = old
            .iter()
            .map(|v| Arg::of(shared, v))
            .collect::<PyResult<Vec<_>>>()?;
        let wanted = new
            .iter()
            .map(|v| Arg::of(shared, v))
            .collect::<PyResult<Vec<_>>>()?;
        let moved: Vec<_> = old.iter().zip(&new).map(|(a, b)| !a.is(b)).collect();
        let ends = moved.iter().position(|m| *m).zip(moved.iter().rposition(|m| *m));
        let modified = shared.write(py, |w| {
            if w.len(obj)? != expected.len() as u64 {
                return Ok(true);
            }
            for (n, arg) in expected.iter().enumerate() {
                let item = w.item(obj, n as u64)?;
                if !is_same(w, item, arg)? {
                    return Ok(true);
                }
            }
            if let Some((first, last)) = ends {
                w.reordered(obj, first as u64, last as u64 + 1)?;
            }
            for (n, arg) in wanted.iter().enumerate().filter(|(n, _)| moved[*n]) {
                match arg {
                    Arg::Scalar(scalar) => w.set_item(obj, n as u64, &scalar.input())?,
                    Arg::Obj(item) => w.set_item(obj, n as u64, &In::Obj(*item))?,
                    Arg::Graph => return Ok(true),
                }
            }
            Ok(false)
        })?;
        if modified {
            Err(PyValueError::new_err("list modified during sort"))
        } else {
            Ok(())
        }
    }

    /// The first item equal to `value` in `[start, stop)`, with its position.
    pub(crate) fn search<'py>(
        &self,
        value: &Bound<'py, PyAny>,
        start: u64,
        stop: u64,
    ) -> PyResult<Option<(u64, Bound<'py, PyAny>)>> {
        let mut at = start;
        loop {
            let part = self.part(value.py(), at, CHUNK)?;
            for item in part.iter() {
                if at >= stop {
                    return Ok(None);
                }
                if item.is(value) || item.eq(value)? {
                    return Ok(Some((at, item)));
                }
                at += 1;
            }
            if part.len() < CHUNK {
                return Ok(None);
            }
        }
    }
}
