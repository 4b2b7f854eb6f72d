"""CPython's own tests that use dicts and lists, on Dict and List: `python conformance.py` prints what passes.
`-v` prints each other outcome, `--quick` leaves out what takes seconds.

1. Where CPython's tests have a type to be tested (`type2test`), it is the one of the store. In the other modules every
   display and call that makes a dict (or a list) makes one in a store, if a store can hold what is in it.
2. A test that makes nothing in a store is "untouched"; one that then stores what no store holds (a key or a value of a
   class of its own) is "inapplicable".
3. Every other failure has a reason, in `RULES` by its message, or in `REASONS` by its name. There are no others.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import inspect
import io
import random
import re
import sys
import tempfile
import types
import unittest
import warnings
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import persist

# Messages of a store that refuses a key or a value.
REFUSED = ("keys in a store must be ", "cannot store ")


class Maker:
    """Makes containers in a store; one for all tests of a run."""

    def __init__(self, root: persist.Dict[Any, Any]) -> None:
        self.root = root
        self.made = 0

    def store(self, value: Any) -> Any:
        key = f"{self.made}"
        self.root[key] = value
        self.made += 1
        return self.root[key]

    def display(self, value: Any) -> Any:
        """Return the value of a display in the store, or as it is if no store holds it."""
        try:
            return self.store(value)
        except (TypeError, ValueError, RecursionError):
            return value


def tested_type(maker: Maker, plain: type, stored: type) -> type:
    """Return the type that CPython's tests call, and use in `isinstance`."""

    class Meta(type):
        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            return maker.store(plain(*args, **kwargs))

        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, stored)

        def __getattr__(cls, name: str) -> Any:
            return getattr(stored, name)

    return Meta(stored.__name__, (), {})


class Displays(ast.NodeTransformer):
    """Passes what makes a container through `_display`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def wrap(self, node: ast.expr) -> ast.expr:
        self.generic_visit(node)
        if isinstance(getattr(node, "ctx", None), (ast.Store, ast.Del)):
            return node
        return ast.copy_location(ast.Call(ast.Name("_display", ast.Load()), [node], []), node)

    def visit_Dict(self, node: ast.Dict) -> ast.expr:
        return self.wrap(node) if self.name == "dict" else self.through(node)

    def visit_DictComp(self, node: ast.DictComp) -> ast.expr:
        return self.wrap(node) if self.name == "dict" else self.through(node)

    def visit_List(self, node: ast.List) -> ast.expr:
        return self.wrap(node) if self.name == "list" else self.through(node)

    def visit_ListComp(self, node: ast.ListComp) -> ast.expr:
        return self.wrap(node) if self.name == "list" else self.through(node)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        called = isinstance(node.func, ast.Name) and node.func.id == self.name
        return self.wrap(node) if called else self.through(node)

    def through(self, node: ast.expr) -> ast.expr:
        self.generic_visit(node)
        return node


def rewritten(name: str, maker: Maker, display: str) -> types.ModuleType:
    """Return a module of CPython in which displays are made in the store."""
    original = importlib.import_module(name)
    tree = Displays(display).visit(ast.parse(inspect.getsource(original)))
    module = types.ModuleType(name)
    module.__dict__.update(_display=maker.display, __file__=original.__file__)
    exec(compile(ast.fix_missing_locations(tree), str(original.__file__), "exec"), module.__dict__)
    return module


class Case(NamedTuple):
    name: str
    test: unittest.TestCase
    maker: Maker
    # In `sys.modules` while the test runs, since pickle looks its classes up.
    module: types.ModuleType | None


def cases(maker: Maker, left_out: Collection[str]) -> Iterator[Case]:
    """Return every test of CPython that is about a dict or a list."""
    dict_type = tested_type(maker, dict, persist.Dict)
    list_type = tested_type(maker, list, persist.List)
    mapping = importlib.import_module("test.mapping_tests")
    lists = importlib.import_module("test.list_tests")
    found: list[tuple[str, type, types.ModuleType | None]] = []
    bases = (mapping.TestHashMappingProtocol, unittest.TestCase)
    found.append(("mapping_tests", type("Mapping", bases, {"type2test": dict_type}), None))
    bases = (lists.CommonTest, unittest.TestCase)
    found.append(("list_tests", type("List", bases, {"type2test": list_type}), None))
    types_of = {dict: dict_type, list: list_type}
    for name, display in MODULES:
        if importlib.util.find_spec(f"test.{name}") is None:
            continue
        module = rewritten(f"test.{name}", maker, display)
        for cls in list(vars(module).values()):
            if (
                isinstance(cls, type)
                and issubclass(cls, unittest.TestCase)
                and cls.__module__ == f"test.{name}"
            ):
                tested = vars(cls).get("type2test")
                if tested in types_of:
                    cls.type2test = types_of[tested]  # type: ignore[attr-defined]
                found.append((f"{name}[{display}]", cls, module))
    for name, cls, module in found:
        for method in sorted(set(unittest.TestLoader().getTestCaseNames(cls)).difference(left_out)):
            yield Case(f"{name}.{cls.__name__}.{method}", cls(method), maker, module)


MODULES = [
    *((name, "dict") for name in ("test_dict", "test_dictcomps", "test_dictviews", "test_iter", "test_operator",
                                  "test_copy", "test_patma", "test_string", "test_graphlib", "test_builtin")),
    *((name, "list") for name in ("test_list", "test_bisect", "test_compare", "test_contains", "test_copy", "test_csv",
                                  "test_deque", "test_difflib", "test_enumerate", "test_heapq", "test_iter",
                                  "test_iterlen", "test_itertools", "test_math", "test_operator", "test_patma",
                                  "test_random", "test_set", "test_slice", "test_sort", "test_statistics",
                                  "test_struct", "test_unpack", "test_yield_from", "test_builtin")),
]  # fmt: skip

# Messages of failures whose reason is the same everywhere.
RULES = {
    r"must be (set to )?(a )?(real )?(dict|dictionary|list)\b": "C code that takes nothing but a dict or list itself",
    r"bad argument to internal function": "C code that takes nothing but a dict or list itself",
    r"is not an instance of <class '(dict|list|persist\.Dict|persist\.List)'>": "the test asks for a type",
    r"<class 'persist\.List'> != <class 'list'>": "the test asks for a list itself",
    r"<class 'list_(reverse)?iterator'> != <class 'persist\.ListIter'>": "the test asks for a list itself",
}
# Those that take seconds each, or whose garbage makes later ones take them; `--quick` leaves them out.
SLOW = (
    "test_combinations_with_replacement",
    "test_combinatorics",
    "test_gc_doesnt_blowup",
    "test_hash_effectiveness",
    "test_sumprod_stress",
    "test_kde",
    "test_kde_random",
    "test_kde_kernel_invcdfs",
    "test_overlap",
    "test_inv_cdf",
    "test_float_sqrt_of_frac",
    "test_recursion_limit",
    "testDist",
    "test_repr_deep",
)
# Some tests have random numbers. `test_compare_to_variance` fails for a part of them, with plain lists too: a root is
# rounded differently. With this seed it passes with plain lists.
SEED = 1
NO_BUILTIN = "the test asks whether it is an instance of dict or list"
NEW_OBJECT = (
    "each read of a number or text gives a new object: identity is not kept, and nan is not found by it"
)
SUBCLASS = "an instance of a subclass is in no store before it is stored"
INSIDE = "about what the interpreter does with memory"
REFERENCE = "a pickle of something stored is a reference to it"
ENUMERATIONS = (
    *("EnumerateTestCase", "SubclassTestCase", "TestBig"),
    *("EnumerateStartTestCase", "TestStart", "TestLongStart"),
)
REUSED = (
    "combinations_",
    "combinations_with_replacement_",
    "permutations_",
    "product_",
    "zip_longest_",
    "zip_",
)
BOUNDED = "the test asks for a RecursionError: repr of what is stored is bounded, at any depth"
REASONS = {
    "mapping_tests.Mapping.test_repr_deep": BOUNDED,
    "list_tests.List.test_repr_deep": BOUNDED,
    "test_dict[dict].DictTest.test_repr_deep": BOUNDED,
    "test_list[list].ListTest.test_repr_deep": BOUNDED,
    "mapping_tests.Mapping.test_fromkeys": "fromkeys gives a plain dict",
    "list_tests.List.test_free_after_iterating": SUBCLASS,
    "list_tests.List.test_init": "__init__ of something stored changes nothing",
    "test_builtin[list].BuiltinTest.test_eval_builtins_mapping_reduce": "the reduction of an iterator imports `iter`",
    "test_copy[dict].TestCopy.test_deepcopy_keepalive": "the test's memo is in the store, which keeps copies",
    "test_copy[list].TestCopy.test_deepcopy_dont_memo_immutable": "the memo has an entry more",
    "test_dict[dict].DictTest.test_track_literals": INSIDE,
    "test_iter[list].TestCase.test_reduce_mutating_builtins_iter": "a used iterator is reduced to what is left",
    "test_list[list].ListTest.test_free_after_iterating": SUBCLASS,
    "test_list[list].ListTest.test_init": "__init__ of something stored changes nothing",
    "test_list[list].ListTest.test_preallocation": INSIDE,
    "test_operator[list].COperatorTestCase.test_countOf": NEW_OBJECT,
    "test_operator[list].COperatorTestCase.test_indexOf": NEW_OBJECT,
    "test_operator[list].PyOperatorTestCase.test_countOf": NEW_OBJECT,
    "test_operator[list].PyOperatorTestCase.test_indexOf": NEW_OBJECT,
    "test_patma[dict].TestPatma.test_patma_143": NO_BUILTIN,
    "test_patma[dict].TestPatma.test_patma_241": NO_BUILTIN,
    "test_patma[list].TestPatma.test_patma_147": NO_BUILTIN,
    "test_patma[list].TestPatma.test_patma_241": NO_BUILTIN,
    "test_sort[list].TestBugs.test_undetected_mutation": "a change that is undone while a sort runs is harmless",
    "test_sort[list].TestOptimizedCompares.test_safe_object_compare": NEW_OBJECT,
    "test_sort[list].TestOptimizedCompares.test_unsafe_float_compare": NEW_OBJECT,
    "test_sort[list].TestOptimizedCompares.test_unsafe_latin_compare": NEW_OBJECT,
    "test_sort[list].TestOptimizedCompares.test_unsafe_long_compare": NEW_OBJECT,
    "test_sort[list].TestOptimizedCompares.test_unsafe_object_compare": NEW_OBJECT,
    "test_sort[list].TestOptimizedCompares.test_unsafe_tuple_compare": NEW_OBJECT,
    "test_deque[list].TestBasic.test_comparisons": "a deque in a list is a Deque there, which equals it",
    "list_tests.List.test_pickle": REFERENCE,
    "test_list[list].ListTest.test_pickle": REFERENCE,
    **{f"test_enumerate[list].{cls}.test_tuple_reuse": NEW_OBJECT for cls in ENUMERATIONS},
    **{f"test_itertools[list].TestBasicOps.test_{name}tuple_reuse": NEW_OBJECT for name in REUSED},
}


def compare_contents(test: unittest.TestCase) -> None:
    """Let the assertions that want a list or dict itself on both sides compare what one of a store holds."""

    def wrapped(original: Callable[..., None], stored: type) -> Callable[..., None]:
        def compare(first: Any, second: Any, msg: Any = None) -> None:
            sides = (side.copy() if isinstance(side, stored) else side for side in (first, second))
            original(*sides, msg)

        return compare

    for name, stored in ("assertListEqual", persist.List), ("assertDictEqual", persist.Dict):
        setattr(test, name, wrapped(getattr(test, name), stored))


def outcome(case: Case) -> tuple[str, str]:
    """Run a test: return 'passed', 'inapplicable', 'excluded', 'untouched' or 'failed', and why."""
    case.maker.root.clear()
    before = case.maker.made
    result = unittest.TestResult()
    original = sys.modules.get(case.module.__name__) if case.module else None
    if case.module and original:
        sys.modules[case.module.__name__] = case.module
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        random.seed(SEED)
        compare_contents(case.test)
        case.test.run(result)
    if case.module and original:
        sys.modules[case.module.__name__] = original
    bad = result.errors + result.failures
    if bad:
        last = bad[0][1].strip().splitlines()[-1]
        if case.maker.made == before:
            # It fails for the rewritten module, or on this machine, without any container of a store.
            return "untouched", last
        if any(text in last for text in REFUSED):
            return "inapplicable", last
        for pattern, why in RULES.items():
            if re.search(pattern, last):
                return "excluded", why
        if case.name in REASONS:
            return "excluded", REASONS[case.name]
        return "failed", last
    if result.skipped:
        return "untouched", result.skipped[0][1]
    if case.maker.made == before:
        return "untouched", "makes no container of a store"
    return "passed", ""


def run(left_out: Collection[str] = ()) -> Iterator[tuple[str, str, str]]:
    """Run every test, and return its name, the kind of its outcome, and why."""
    with (
        tempfile.TemporaryDirectory() as home,
        persist.open(Path(home, "the.store"), durability="none") as store,
    ):
        for case in cases(Maker(store.root), left_out):
            yield case.name, *outcome(case)


def is_possible() -> bool:
    """Return whether this Python has its own tests: some distributions leave them out."""
    return all(
        importlib.util.find_spec(f"test.{name}") for name in ("mapping_tests", "list_tests", "test_dict")
    )


def main() -> int:
    if not is_possible():
        print("this Python has no package `test`", file=sys.stderr)
        return 2
    counts = dict.fromkeys(("passed", "excluded", "inapplicable", "untouched", "failed"), 0)
    for name, kind, why in run(SLOW if "--quick" in sys.argv else ()):
        counts[kind] += 1
        if kind == "failed" or (kind != "passed" and "-v" in sys.argv):
            print(f"{kind}: {name}: {why}"[:300], flush=True)
    print(", ".join(f"{n} {kind}" for kind, n in counts.items()))
    return 1 if counts["failed"] or counts["passed"] < 500 else 0


if __name__ == "__main__":
    sys.exit(main())
