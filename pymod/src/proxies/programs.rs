//! The main program: its classes are all in a module `__main__`, in every program.
//!
//! 1. A class of a main program is named by the file of the program, `__main__:Class@/path/program.py`, and found only
//!    by a program of that file: two programs may have different classes of one name. A program that runs as a module
//!    (`python -m`) names its classes by that module. Without a file (an interactive session) the name is
//!    `__main__:Class`, which every program takes for its own.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyModule, PyString};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::python::ffi;

/// What names the running program.
pub(crate) enum Program {
    /// The module that it runs as.
    Module(String),
    /// Its file, an absolute path without symlinks.
    File(String),
    /// Nothing: it is an interactive session.
    Unknown,
}

/// The last file that was looked at, as the program names it, and its real path.
static FILE: Mutex<Option<(String, String)>> = Mutex::new(None);

/// Whether a module is that of the main program; `multiprocessing` gives it another name in its processes.
pub(crate) fn is_main(module: &str) -> bool {
    matches!(module, "__main__" | "__mp_main__")
}

/// What names the running program.
pub(crate) fn running(py: Python<'_>) -> PyResult<Program> {
    let Some(main) = ffi::modules(py)?
        .get_item(intern!(py, "__main__"))?
        .and_then(|main| main.cast_into::<PyModule>().ok())
    else {
        return Ok(Program::Unknown);
    };
    let text = |value: Option<Bound<'_, PyAny>>| {
        value.and_then(|v| Some(v.cast::<PyString>().ok()?.to_str().ok()?.to_owned()))
    };
    let members = main.dict();
    if let Some(spec) = members.get_item(intern!(py, "__spec__"))?
        && !spec.is_none()
        && let Some(name) = text(spec.getattr(intern!(py, "name")).ok())
        && !is_main(&name)
    {
        return Ok(Program::Module(name));
    }
    let Some(file) = text(members.get_item(intern!(py, "__file__"))?) else {
        return Ok(Program::Unknown);
    };
    let mut last = FILE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((named, real)) = &*last
        && *named == file
    {
        return Ok(Program::File(real.clone()));
    }
    let real = PathBuf::from(&file)
        .canonicalize()
        .ok()
        .and_then(|path| path.into_os_string().into_string().ok());
    let Some(real) = real else {
        return Ok(Program::Unknown);
    };
    *last = Some((file, real.clone()));
    Ok(Program::File(real))
}
