"""`persist.open(path, root=Class)`: the root as an instance of a class.

The root of a store is always a dict. As an instance it has the entries of this dict as attributes, and one entry names
its class. Imported by the first use.
"""

from ._persist import Object, _attributes_to_store, _class_named, _name_of, _typed_root

_CLASS = "__persist_class__"


def open_root(store, root, cls):
    """Return the root as an instance of the class; make it one if it is empty."""
    if not (isinstance(cls, type) and issubclass(cls, Object)):
        raise TypeError(f"root must be a class that derives from persist.Object, not {cls!r}")
    name = _name_of(cls)
    if not root and store.mode == "rw":
        with store.transaction():
            if not root:
                root.update(_attributes_to_store(cls()))
                root[_CLASS] = name
    if root:
        stored = root.get(_CLASS)
        if not isinstance(stored, str):
            raise TypeError(f"the root of {store.path} is a dict with entries, not an instance of {name}")
        if stored != name and _class_named(stored) is not cls:
            raise TypeError(f"the root of {store.path} is an instance of {stored}, not of {name}")
    return _typed_root(cls, root)
