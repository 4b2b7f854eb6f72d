"""`persist.register_dataclass`: classes that do not derive from `persist.Object`.

A frozen class is a value: it is read as a plain instance. Of a class that can change, a proxy is read, so that no
change is lost: an instance of a class made here, whose attributes are those of the stored object, and which has the
methods of the registered class. Imported by the first registration.
"""

from ._kinds import slots_of, transient_names
from ._persist import Object, _register, copy_out

_PLAIN = (
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    bytearray,
    tuple,
    list,
    dict,
    set,
    frozenset,
    BaseException,
    type,
)
_NOT_COPIED = {
    "__dict__",
    "__weakref__",
    "__slots__",
    "__class__",
    "__module__",
    "__qualname__",
    "__doc__",
    "__new__",
}
_FIELDS_SET = "__pydantic_fields_set__"
_SPECIAL = ("__str__", "__len__", "__iter__", "__contains__", "__call__", "__lt__", "__bool__")
_OF_PYDANTIC = ("__pydantic_extra__", "__pydantic_private__")

_classes = set()


def is_registered(cls):
    """Return whether a class is registered."""
    return cls in _classes


def _kind(cls):
    """Return "dataclass", "attrs" or "pydantic", and whether instances are frozen."""
    if hasattr(cls, "__dataclass_params__"):
        return "dataclass", cls.__dataclass_params__.frozen
    if hasattr(cls, "__attrs_attrs__"):
        return "attrs", getattr(cls.__setattr__, "__name__", "") == "_frozen_setattrs"
    if hasattr(cls, "__pydantic_validator__"):
        return "pydantic", bool(cls.model_config.get("frozen"))
    raise TypeError(f"'{cls.__name__}' must be a dataclass, a class of attrs or a model of pydantic")


def register(cls):
    """See `persist.register_dataclass`."""
    if not isinstance(cls, type):
        raise TypeError(f"register_dataclass takes a class, not '{type(cls).__name__}'")
    if issubclass(cls, Object):
        return cls
    kind, frozen = _kind(cls)
    if issubclass(cls, _PLAIN):
        raise TypeError(f"'{cls.__name__}' derives from a builtin type, whose content its fields do not have")
    _classes.add(cls)
    _register(cls, None if frozen else _proxy_class(cls, kind))
    return cls


def _copied(self):
    """Make a plain instance with the same attributes; containers among them stay in the store."""
    return made(_registered_class(self), dict(vars(self)))


def _registered_class(obj):
    return type(obj).__persist_registered__


def _proxy_class(cls, kind):
    members = {
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        "__persist_registered__": cls,
        "__class__": property(_registered_class),
        "__copy__": _copied,
        "__deepcopy__": lambda self, memo: copy_out(self),
    }
    if kind == "pydantic":
        return type(cls.__name__, (Object,), {**_of_model(cls), **members})
    if not slots_of(cls):
        return type(cls.__name__, (cls, Object), members)
    # Slots and Object do not fit into one instance: the members of the class are taken without its layout.
    taken = {}
    for base in reversed(cls.__mro__[:-1]):
        for name, member in base.__dict__.items():
            if name not in _NOT_COPIED and type(member).__name__ != "member_descriptor":
                taken[name] = member
    return type(cls.__name__, (Object,), {**taken, **members})


def _of_model(cls):
    """Return the members of a proxy of a model: what its classes define, and the methods of pydantic on a copy."""
    import pydantic

    taken = {}
    for base in reversed(cls.__mro__):
        if base is cls or issubclass(base, pydantic.BaseModel) and base is not pydantic.BaseModel:
            for name, member in base.__dict__.items():
                own = not name.startswith(("__", "_abc_", "model_"))
                if (own or name in _SPECIAL) and (callable(member) or hasattr(type(member), "__get__")):
                    taken[name] = member

    def __getattr__(self, name):
        if name.startswith("__") or not hasattr(cls, name):
            raise AttributeError(f"'{cls.__name__}' object has no attribute '{name}'")
        return getattr(copy_out(self), name)

    def __setattr__(self, name, value):
        if name in cls.model_fields and cls.model_config.get("validate_assignment"):
            changed = copy_out(self)
            setattr(changed, name, value)
            value = changed.__dict__[name]
        elif name not in cls.model_fields and cls.model_config.get("extra") != "allow":
            raise ValueError(f'"{cls.__name__}" object has no field "{name}"')
        Object.__setattr__(self, name, value)

    def __eq__(self, other):
        plain = copy_out(other) if isinstance(other, Object) else other
        return copy_out(self) == plain

    def __repr__(self):
        return repr(copy_out(self))

    return {
        **taken,
        "__getattr__": __getattr__,
        "__setattr__": __setattr__,
        "__eq__": __eq__,
        "__hash__": None,
        "__repr__": __repr__,
        "model_fields": cls.model_fields,
        "model_config": cls.model_config,
    }


def taken(obj):
    """Return the attributes of a plain instance that are stored."""
    cls = type(obj)
    state = dict(getattr(obj, "__dict__", ()))
    for name in slots_of(cls):
        try:
            state[name] = getattr(obj, name)
        except AttributeError:
            pass
    for name in transient_names(cls):
        state.pop(name, None)
    for name in _OF_PYDANTIC:
        if not state.get(name, True):
            del state[name]
    if _FIELDS_SET in state:
        state[_FIELDS_SET] = sorted(state[_FIELDS_SET])
    version = getattr(cls, "__persist_version__", None)
    if version is not None:
        state.setdefault("__persist_version__", version)
    return state


def bare(cls):
    """Make an instance without attributes."""
    return object.__new__(cls)


def fill(obj, state):
    """Set the attributes of a bare instance."""
    cls = type(obj)
    slots = slots_of(cls)
    if _FIELDS_SET in slots:
        fields = state.get(_FIELDS_SET)
        state = {
            **dict.fromkeys(_OF_PYDANTIC),
            **state,
            _FIELDS_SET: set(state if fields is None else fields),
        }
    for name, value in state.items():
        if name in slots:
            slots[name].__set__(obj, value)
        elif hasattr(obj, "__dict__"):
            obj.__dict__[name] = value


def made(cls, state):
    """Make an instance with these attributes. No code of the class runs."""
    obj = bare(cls)
    fill(obj, state)
    return obj
