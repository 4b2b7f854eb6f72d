//! The parts of the C API for which PyO3 has no safe interface. All unsafe code of the module is here.
//!
//! 1. Every function takes references that prove the thread is attached to the interpreter (`call_soon` needs none).
//! 2. No function keeps a borrowed reference beyond the call that made it.

use pyo3::exceptions::{PyImportError, PyRecursionError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyMemoryView, PySlice, PyString, PyType};
use std::cell::Cell;
use std::ffi::c_int;
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::FromRawFd;
use std::sync::Arc;

unsafe extern "C" {
    /// Returns a borrowed reference from the method resolution order, through the type's cache; sets no error.
    #[cfg(not(Py_GIL_DISABLED))]
    fn _PyType_Lookup(ty: *mut ffi::PyTypeObject, name: *mut ffi::PyObject) -> *mut ffi::PyObject;
    /// Like `_PyType_Lookup`, but returns a new reference: the only safe form if other threads can change types.
    #[cfg(Py_GIL_DISABLED)]
    fn _PyType_LookupRef(ty: *mut ffi::PyTypeObject, name: *mut ffi::PyObject) -> *mut ffi::PyObject;
}

/// Refuse a subinterpreter: the module's stores, proxies and exceptions belong to one interpreter, and the end of
/// another one must not close or free them.
pub(crate) fn main_interpreter_only() -> PyResult<()> {
    // SAFETY: the thread is attached, since the module is being initialised on it; both calls only read.
    let is_main = unsafe { ffi::PyInterpreterState_Get() == ffi::PyInterpreterState_Main() };
    if is_main {
        Ok(())
    } else {
        Err(PyImportError::new_err(
            "persist cannot be imported in a subinterpreter; use threads or processes, which share a store",
        ))
    }
}

/// Raise an exception of a signal handler as soon as the main thread runs Python code again: it was raised in a call
/// whose caller can raise nothing. If too many calls are pending, it is reported and not raised.
#[cold]
pub(crate) fn raise_later(py: Python<'_>, e: PyErr) {
    extern "C" fn raise(e: *mut std::ffi::c_void) -> c_int {
        // SAFETY: the interpreter calls this once for each pending call, on its main thread, which is attached. `e` is
        // the box that was leaked for it.
        let (e, py) = unsafe { (Box::from_raw(e.cast::<PyErr>()), Python::assume_attached()) };
        e.restore(py);
        -1
    }
    let e = Box::into_raw(Box::new(e));
    // SAFETY: the thread is attached; the callback takes the box over if it is called.
    if unsafe { ffi::Py_AddPendingCall(Some(raise), e.cast()) } != 0 {
        // SAFETY: the callback was refused, so that the box has no other owner.
        unsafe { Box::from_raw(e) }.write_unraisable(py, None);
    }
}

/// Let the main thread call a function soon, between two instructions of Python. Any thread may ask for it, also one
/// that is not attached. Return false if too many calls are pending.
#[cold]
pub(crate) fn call_soon(f: fn(Python<'_>)) -> bool {
    extern "C" fn call(f: *mut std::ffi::c_void) -> c_int {
        // SAFETY: the interpreter calls this on its main thread, which is attached, with the function of `call_soon`.
        let (f, py) = unsafe {
            (
                std::mem::transmute::<*mut std::ffi::c_void, fn(Python<'_>)>(f),
                Python::assume_attached(),
            )
        };
        f(py);
        0
    }
    // SAFETY: the call needs no attached thread while the interpreter lives; `logs` does not ask after its end.
    unsafe { ffi::Py_AddPendingCall(Some(call), f as *mut std::ffi::c_void) == 0 }
}

/// Return `sys.modules`. An import of `sys` gives the same result but takes a microsecond.
#[inline]
pub(crate) fn imported_modules(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    // SAFETY: the thread is attached. The call returns a borrowed reference, or null with an error set; the reference
    // becomes owned before any other code can run.
    let modules = unsafe { Bound::from_borrowed_ptr_or_err(py, ffi::PyImport_GetModuleDict()) }?;
    Ok(modules.cast_into::<PyDict>()?)
}

/// The kind of an attribute name in a class.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnType {
    /// The class has no such attribute.
    Missing,
    /// A method or a plain class attribute: an attribute of the instance has priority.
    Plain,
    /// A slot (`__slots__`): the class only reserves the place of an attribute of the instance.
    Slot,
    /// A property or a similar descriptor: it has priority over attributes of the instance.
    Data,
}

/// Look up a name in the class of `obj` and its bases.
#[inline]
pub(crate) fn on_type(obj: &Bound<'_, PyAny>, name: &Bound<'_, PyString>) -> OnType {
    // SAFETY: both pointers come from live bound references and the name is a str. The result is read before any code
    // can run that might drop it (or is an owned reference).
    unsafe {
        let ty = ffi::Py_TYPE(obj.as_ptr());
        #[cfg(not(Py_GIL_DISABLED))]
        let found = _PyType_Lookup(ty, name.as_ptr());
        #[cfg(Py_GIL_DISABLED)]
        let found = _PyType_LookupRef(ty, name.as_ptr());
        if found.is_null() {
            return OnType::Missing;
        }
        let kind = ffi::Py_TYPE(found);
        let on_type = if (*kind).tp_descr_set.is_none() {
            OnType::Plain
        } else if kind == &raw mut ffi::PyMemberDescr_Type {
            OnType::Slot
        } else {
            OnType::Data
        };
        #[cfg(Py_GIL_DISABLED)]
        ffi::Py_DECREF(found);
        on_type
    }
}

/// What a class or its bases have under a name, without a call of any descriptor or metaclass.
#[inline]
pub(crate) fn class_member<'py>(
    class: &Bound<'py, PyType>,
    name: &Bound<'py, PyString>,
) -> Option<Bound<'py, PyAny>> {
    let py = class.py();
    // SAFETY: both pointers come from live bound references and the name is a str. A borrowed result becomes owned
    // before any code can run that might drop it.
    unsafe {
        let ty = class.as_type_ptr();
        #[cfg(not(Py_GIL_DISABLED))]
        return Bound::from_borrowed_ptr_or_opt(py, _PyType_Lookup(ty, name.as_ptr()));
        #[cfg(Py_GIL_DISABLED)]
        return Bound::from_owned_ptr_or_opt(py, _PyType_LookupRef(ty, name.as_ptr()));
    }
}

/// `object.__getattribute__`, without a Python call.
#[inline]
pub(crate) fn generic_get<'py>(
    obj: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: live references; the result is a new reference or null with an exception set.
    unsafe {
        Bound::from_owned_ptr_or_err(
            obj.py(),
            ffi::PyObject_GenericGetAttr(obj.as_ptr(), name.as_ptr()),
        )
    }
}

/// `object.__setattr__`, or `object.__delattr__` without a value.
#[inline]
pub(crate) fn generic_set(
    obj: &Bound<'_, PyAny>,
    name: &Bound<'_, PyString>,
    value: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    let value = value.map_or(std::ptr::null_mut(), Bound::as_ptr);
    // SAFETY: live references; a null value means deletion; -1 comes with an exception set.
    match unsafe { ffi::PyObject_GenericSetAttr(obj.as_ptr(), name.as_ptr(), value) } {
        -1 => Err(PyErr::fetch(obj.py())),
        _ => Ok(()),
    }
}

/// The `__dict__` of the instance, created if it is missing.
pub(crate) fn instance_dict<'py>(obj: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    // SAFETY: a live reference; the result is a new reference or null with an exception set.
    let dict = unsafe {
        Bound::from_owned_ptr_or_err(
            obj.py(),
            ffi::PyObject_GenericGetDict(obj.as_ptr(), std::ptr::null_mut()),
        )
    }?;
    Ok(dict.cast_into()?)
}

/// The text of an ASCII str, as it is in memory.
#[inline(always)]
pub(crate) fn ascii<'a>(value: &'a Bound<'_, PyAny>) -> Option<&'a [u8]> {
    // SAFETY: a live reference to a str. A compact ASCII str has as many bytes as characters, which do not change while
    // it lives.
    unsafe {
        let s = value.as_ptr();
        if ffi::PyUnicode_Check(s) == 0 || ffi::PyUnicode_IS_COMPACT_ASCII(s) == 0 {
            return None;
        }
        Some(std::slice::from_raw_parts(
            ffi::PyUnicode_DATA(s).cast::<u8>(),
            ffi::PyUnicode_GET_LENGTH(s) as usize,
        ))
    }
}

/// The int if it fits 64 bits. No user code runs: for a subclass, the base value is returned.
#[inline]
pub(crate) fn int_value(value: &Bound<'_, PyInt>) -> Option<i64> {
    let mut overflow: c_int = 0;
    // SAFETY: a live reference to an int (or subclass), for which this call cannot fail otherwise.
    let n = unsafe { ffi::PyLong_AsLongLongAndOverflow(value.as_ptr(), &mut overflow) };
    (overflow == 0).then_some(n)
}

/// The int that an object with `__index__` stands for; None without that method.
pub(crate) fn index<'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyInt>>> {
    // SAFETY: a live reference; the result is a new reference or null with an exception set.
    let n = unsafe {
        if ffi::PyIndex_Check(value.as_ptr()) == 0 {
            return Ok(None);
        }
        Bound::from_owned_ptr_or_err(value.py(), ffi::PyNumber_Index(value.as_ptr()))
    }?;
    Ok(Some(n.cast_into()?))
}

/// Call `__len__` or `__length_hint__` of an iterable, for the exceptions that they raise. The number may be wrong.
pub(crate) fn check_length_hint(iterable: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: a live reference; -1 comes with an exception set.
    match unsafe { ffi::PyObject_LengthHint(iterable.as_ptr(), 0) } {
        -1 => Err(PyErr::fetch(iterable.py())),
        _ => Ok(()),
    }
}

/// The item at a position, for C code. PySequence_GetItem has added the length to a negative index already: one that is
/// still negative is out of range, and must not be taken for one that counts from the end.
unsafe extern "C" fn sequence_item(list: *mut ffi::PyObject, index: ffi::Py_ssize_t) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter on an attached thread, with a live object; it returns a new reference, or null
    // with an exception set.
    unsafe {
        if index < 0 {
            ffi::PyErr_SetString(ffi::PyExc_IndexError, c"list index out of range".as_ptr());
            return std::ptr::null_mut();
        }
        let key = ffi::PyLong_FromSsize_t(index);
        if key.is_null() {
            return std::ptr::null_mut();
        }
        let item = ffi::PyObject_GetItem(list, key);
        ffi::Py_DECREF(key);
        item
    }
}

/// Set or delete the item at a position; see `sequence_item`.
unsafe extern "C" fn set_sequence_item(
    list: *mut ffi::PyObject,
    index: ffi::Py_ssize_t,
    value: *mut ffi::PyObject,
) -> c_int {
    // SAFETY: as in `sequence_item`; a null value means deletion, and -1 comes with an exception set.
    unsafe {
        if index < 0 {
            let text = c"list assignment index out of range";
            ffi::PyErr_SetString(ffi::PyExc_IndexError, text.as_ptr());
            return -1;
        }
        let key = ffi::PyLong_FromSsize_t(index);
        if key.is_null() {
            return -1;
        }
        let done = match value.is_null() {
            true => ffi::PyObject_DelItem(list, key),
            false => ffi::PyObject_SetItem(list, key, value),
        };
        ffi::Py_DECREF(key);
        done
    }
}

/// Give the type of a sequence its access by position for C code, before the first instance exists.
pub(crate) fn install_sequence_items(class: &Bound<'_, PyType>) {
    // SAFETY: a live heap type that this module has just created and no other thread uses; such a type has room for the
    // methods of sequences, which the pointer refers to.
    unsafe {
        if let Some(methods) = (*class.as_type_ptr()).tp_as_sequence.as_mut() {
            methods.sq_item = Some(sequence_item);
            methods.sq_ass_item = Some(set_sequence_item);
        }
    }
}

/// The value of an index, clipped to the range of isize. Raises TypeError for other types.
pub(crate) fn clipped(index: &Bound<'_, PyAny>) -> PyResult<isize> {
    // SAFETY: a live reference. Without an exception class, large values are clipped.
    match unsafe { ffi::PyNumber_AsSsize_t(index.as_ptr(), std::ptr::null_mut()) } {
        -1 => PyErr::take(index.py()).map_or(Ok(-1), Err),
        n => Ok(n),
    }
}

/// The number of repetitions of a sequence; None if `n` is not a number.
pub(crate) fn times(n: &Bound<'_, PyAny>) -> PyResult<Option<isize>> {
    // SAFETY: a live reference, and an exception class that lives as long as the interpreter.
    match unsafe {
        if ffi::PyIndex_Check(n.as_ptr()) == 0 {
            return Ok(None);
        }
        ffi::PyNumber_AsSsize_t(n.as_ptr(), ffi::PyExc_OverflowError)
    } {
        -1 => PyErr::take(n.py()).map_or(Ok(Some(-1)), Err),
        n => Ok(Some(n)),
    }
}

/// The raw start, stop and step of a slice, clipped to the range of isize.
pub(crate) fn slice_parts(slice: &Bound<'_, PySlice>) -> PyResult<(isize, isize, isize)> {
    let (mut start, mut stop, mut step) = (0, 0, 0);
    // SAFETY: a live slice and three valid places to write to; -1 comes with an exception set.
    match unsafe { ffi::PySlice_Unpack(slice.as_ptr(), &mut start, &mut stop, &mut step) } {
        -1 => Err(PyErr::fetch(slice.py())),
        _ => Ok((start, stop, step)),
    }
}

/// The stack space that one level of printing or comparing may need, including Python's own frames between two levels.
const LEVEL: usize = 128 << 10;

/// Raise RecursionError if little is left of this thread's stack. Python prints and compares nested containers, and
/// calls this module for each level. Its own limit counts levels, and the levels here are larger than that limit
/// assumes.
pub(crate) fn deeper() -> PyResult<()> {
    thread_local! {
        /// The lowest address of this thread's stack, and the address after its end. Both 0: not queried yet.
        static STACK: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
    }
    let (mut low, mut end) = STACK.get();
    if end == 0 {
        (low, end) = stack();
        STACK.set((low, end));
    }
    let here = 0u8;
    let at = &raw const here as usize;
    // On another stack (of C coroutines), the limits are unknown.
    if (low..end).contains(&at) && at - low < LEVEL.min((end - low) / 2) {
        return Err(PyRecursionError::new_err(
            "containers are nested too deep for the stack of this thread",
        ));
    }
    Ok(())
}

/// The bounds of this thread's stack; an empty range if the system does not report them.
fn stack() -> (usize, usize) {
    let nowhere = (1, 1);
    let mut attr = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let (mut low, mut size) = (std::ptr::null_mut(), 0);
    // SAFETY: the attributes are read only after the call that fills them has succeeded, and destroyed once.
    unsafe {
        if libc::pthread_getattr_np(libc::pthread_self(), attr.as_mut_ptr()) != 0 {
            return nowhere;
        }
        let said = libc::pthread_attr_getstack(attr.as_ptr(), &mut low, &mut size);
        libc::pthread_attr_destroy(attr.as_mut_ptr());
        if said != 0 {
            return nowhere;
        }
    }
    (low as usize, (low as usize).saturating_add(size))
}

/// Marks an object as being printed; the mark ends when this is dropped. None if the object is already marked (a
/// cycle).
pub(crate) struct Printing<'a, 'py>(&'a Bound<'py, PyAny>);

impl<'a, 'py> Printing<'a, 'py> {
    /// Mark the object.
    pub(crate) fn enter(obj: &'a Bound<'py, PyAny>) -> PyResult<Option<Self>> {
        deeper()?;
        // SAFETY: a live reference.
        match unsafe { ffi::Py_ReprEnter(obj.as_ptr()) } {
            0 => Ok(Some(Printing(obj))),
            1.. => Ok(None),
            _ => Err(PyErr::fetch(obj.py())),
        }
    }
}

impl Drop for Printing<'_, '_> {
    fn drop(&mut self) {
        // SAFETY: `enter` returned 0 for this object, which `self` keeps alive.
        unsafe { ffi::Py_ReprLeave(self.0.as_ptr()) }
    }
}

/// True if instances of a class have `__slots__` in addition to those of `base`.
pub(crate) fn has_slots(class: &Bound<'_, PyType>, base: &Bound<'_, PyType>) -> bool {
    // SAFETY: both are live type objects.
    unsafe { (*class.as_type_ptr()).tp_basicsize > (*base.as_type_ptr()).tp_basicsize }
}

/// True if a class derives from another. No code of metaclasses runs.
pub(crate) fn derives(class: &Bound<'_, PyType>, base: &Bound<'_, PyType>) -> bool {
    // SAFETY: two live type objects.
    unsafe { ffi::PyType_IsSubtype(class.as_ptr().cast(), base.as_ptr().cast()) != 0 }
}

/// Create an instance of a class derived from `base` without running code of the class: neither `__new__` nor
/// `__init__`. None if `cls` does not derive from `base`.
pub(crate) fn bare_instance<'py>(
    base: &Bound<'py, PyType>,
    cls: &Bound<'py, PyType>,
    no_args: &Bound<'py, pyo3::types::PyTuple>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    // SAFETY: both are live type objects and `cls` derives from `base`, which `tp_new` of `base` requires. It returns a
    // new reference or null with an exception set.
    unsafe {
        let (base, cls) = (
            base.as_ptr().cast::<ffi::PyTypeObject>(),
            cls.as_ptr().cast::<ffi::PyTypeObject>(),
        );
        if ffi::PyType_IsSubtype(cls, base) == 0 {
            return Ok(None);
        }
        match (*base).tp_new {
            Some(new) => {
                let made = new(cls, no_args.as_ptr(), std::ptr::null_mut());
                Bound::from_owned_ptr_or_err(no_args.py(), made).map(Some)
            }
            None => Ok(None),
        }
    }
}

/// Create a counter that an event loop can wait for (`eventfd`); reads and writes of it never block.
pub(crate) fn event() -> std::io::Result<File> {
    // SAFETY: the call has no arguments that refer to memory. A new descriptor, which only the file owns from here on.
    unsafe {
        match libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) {
            -1 => Err(std::io::Error::last_os_error()),
            fd => Ok(File::from_raw_fd(fd)),
        }
    }
}

/// `sys.modules`.
pub(crate) fn modules(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    // SAFETY: the thread is attached. The result is a borrowed reference that the interpreter keeps, or null.
    let modules = unsafe { Bound::from_borrowed_ptr_or_err(py, ffi::PyImport_GetModuleDict()) }?;
    Ok(modules.cast_into()?)
}

/// Bytes that nothing changes, as a read-only buffer.
#[pyclass(frozen, module = "persist", name = "_Content")]
struct Content(Arc<Vec<u8>>);

#[pymethods]
impl Content {
    /// # Safety
    /// `view` is a buffer structure to be filled, or null, as the interpreter promises.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let bytes = &slf.get().0;
        // SAFETY: `view` is as promised. The vector is neither changed nor moved, and lives as long as the object, to
        // which the structure gets a reference of its own. The buffer is read-only.
        let done = unsafe {
            let start = bytes.as_ptr().cast_mut().cast();
            ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, bytes.len() as isize, 1, flags)
        };
        if done == 0 {
            Ok(())
        } else {
            Err(PyErr::fetch(slf.py()))
        }
    }
}

/// A read-only memoryview of bytes, which live as long as the view or anything that was made from it.
pub(crate) fn memoryview<'py>(py: Python<'py>, bytes: &Arc<Vec<u8>>) -> PyResult<Bound<'py, PyMemoryView>> {
    let content = Bound::new(py, Content(Arc::clone(bytes)))?;
    PyMemoryView::from(content.as_any())
}
