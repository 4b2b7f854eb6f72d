//! What a directory is: the kind of its container, the class, and the type that `user.persist.type` shows for both.

use crate::fs::error::FsResult;
use persist_core::store::door::builtin_kind;
use persist_core::store::{Kind, Obj, Reader};

/// The kind and the class of a directory's container.
pub(crate) struct Shape {
    pub(crate) kind: Kind,
    pub(crate) class: Option<String>,
}

impl Shape {
    /// Read them.
    pub(crate) fn of(r: &Reader<'_>, obj: Obj) -> FsResult<Shape> {
        Ok(Shape {
            kind: r.kind(obj)?,
            class: r.class(obj)?,
        })
    }

    /// Whether the class is one of Python's own containers, which the type names.
    pub(crate) fn is_builtin(&self) -> bool {
        self.kind != Kind::Object && self.class.as_deref().and_then(builtin_kind) == Some(self.kind)
    }

    /// The class, if the type does not name it.
    pub(crate) fn own_class(&self) -> Option<&str> {
        self.class.as_deref().filter(|_| !self.is_builtin())
    }

    /// The type, as `user.persist.type` has it.
    pub(crate) fn name(&self) -> &str {
        match (self.kind, &self.class) {
            (Kind::Object, _) => "object",
            (Kind::Dict, None) => "dict",
            (Kind::List, None) => "list",
            (_, Some(class)) if self.is_builtin() => class,
            (Kind::Dict, Some(_)) => "dict-subclass",
            (Kind::List, Some(_)) => "list-subclass",
        }
    }

    /// The kind and class that this type names for the container.
    pub(crate) fn named(&self, name: &[u8]) -> Option<(Kind, Option<String>)> {
        // Tools set type and class in any order: a dict or list that waits for its class has the class "".
        let kept = || Some(self.own_class().unwrap_or_default().to_owned());
        Some(match name {
            b"dict" => (Kind::Dict, None),
            b"list" => (Kind::List, None),
            b"object" => (Kind::Object, None),
            b"dict-subclass" => (Kind::Dict, kept()),
            b"list-subclass" => (Kind::List, kept()),
            _ => {
                let class = std::str::from_utf8(name).ok()?;
                (builtin_kind(class)?, Some(class.to_owned()))
            }
        })
    }
}
