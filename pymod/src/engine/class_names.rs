//! The stored names of classes, cached by this process.

use persist_core::store::{Class, Reader, Result};
use pyo3::prelude::*;
use pyo3::types::PyString;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A stored class name, parsed for lookups.
pub(crate) struct Name {
    pub(crate) text: String,
    /// The file of the program, of a class of a main program.
    pub(crate) program: Option<String>,
    /// Module and qualified name, in parts; None if the text is not the name of a class.
    pub(crate) path: Option<(Py<PyString>, Vec<Py<PyString>>)>,
}

impl Name {
    /// Parse the text `module:qualname`, or `__main__:qualname@program`.
    pub(crate) fn new(py: Python<'_>, text: String) -> Name {
        let mut program = None;
        let path = text.split_once(':').map(|(module, mut qualname)| {
            if module == "__main__"
                && let Some((name, file)) = qualname.split_once('@')
            {
                (qualname, program) = (name, Some(file.to_owned()));
            }
            let part = |s: &str| PyString::new(py, s).unbind();
            (part(module), qualname.split('.').map(part).collect())
        });
        Name { text, program, path }
    }
}

/// The classes of a store that this process has read, with their names.
#[derive(Default)]
pub(crate) struct Names(Mutex<HashMap<Class, Arc<Name>>>);

/// A class that a section found.
pub(crate) enum Named {
    /// The name is cached.
    Known(Arc<Name>),
    /// The name is not cached yet.
    New(Class, String),
}

impl Named {
    /// The name.
    pub(crate) fn text(&self) -> &str {
        match self {
            Named::Known(name) => &name.text,
            Named::New(_, text) => text,
        }
    }
}

impl Names {
    /// The maximal number of names. Programs have fewer classes; a store with more names is only slower.
    const MOST: usize = 1024;

    fn lock(&self) -> MutexGuard<'_, HashMap<Class, Arc<Name>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name of a class that this section found.
    pub(crate) fn get(&self, r: &Reader<'_>, class: Class) -> Result<Named> {
        let there = self.lock().get(&class).cloned();
        match there {
            // The class may have been created in a transaction that was rolled back.
            Some(name) if r.class_is(class, &name.text)? => Ok(Named::Known(name)),
            _ => Ok(Named::New(class, r.class_name(class)?)),
        }
    }

    /// Return the name, and cache it. Called outside sections.
    pub(crate) fn name(&self, py: Python<'_>, named: Named) -> Arc<Name> {
        match named {
            Named::Known(name) => name,
            Named::New(class, text) => {
                let name = Arc::new(Name::new(py, text));
                let mut names = self.lock();
                if names.len() < Self::MOST {
                    let old = names.insert(class, name.clone());
                    drop(names);
                    drop(old);
                }
                name
            }
        }
    }
}
