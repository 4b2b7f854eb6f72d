"""A pickle of a proxy, an object or a store is a reference: it is loaded where the store can be opened."""

from __future__ import annotations

import collections
import concurrent.futures
import copy
import multiprocessing
import os
import pickle
import pickletools
import shutil
import threading
from pathlib import Path
from typing import Any

import joblib
import persist
import pytest

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


class Person(persist.Object):
    def __init__(self, name: str, age: int = 0) -> None:
        self.name, self.age = name, age

    def birthday(self) -> int:
        self.age += 1
        return self.age


class Own(persist.Object):
    def __reduce__(self) -> Any:
        return str, ("its own",)


def loaded(value: Any, protocol: int = pickle.HIGHEST_PROTOCOL) -> Any:
    return pickle.loads(pickle.dumps(value, protocol))


def graph(root: persist.Dict) -> dict[str, Any]:
    root["d"], root["l"], root["p"] = {"a": {"x": 1}}, [1, [2]], Person("Ann", 27)
    return {"root": root, "d": root["d"], "inner": root["d"]["a"], "l": root["l"], "p": root["p"]}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_pickle_gives_the_same_proxy(root: persist.Dict, protocol: int) -> None:
    for name, value in graph(root).items():
        assert loaded(value, protocol) is value, name
    both = loaded([root["d"], {"again": root["d"]}], protocol)
    assert both[0] is both[1]["again"] is root["d"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_attributes_as_a_mapping(root: persist.Dict, protocol: int) -> None:
    root["p"] = Person("Ann", 27)
    made = loaded(vars(root["p"]), protocol)
    made["age"] = 28
    assert root["p"].age == 28
    assert type(made) is persist.Dict


def test_sets_deques_and_the_like(root: persist.Dict) -> None:
    root["s"], root["q"] = {1, 2}, collections.deque([1, 2], maxlen=3)
    root["c"], root["o"] = collections.Counter("aab"), collections.OrderedDict(b=1, a=2)
    root["d"] = collections.defaultdict(list, a=[1])
    for key in "sqcod":
        stored = root[key]
        again = pickle.loads(pickle.dumps(stored))
        assert again is stored and type(again) is type(stored)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_store(store: persist.Store, protocol: int) -> None:
    store.root["x"] = 1
    again = loaded(store, protocol)
    assert again.root is store.root
    assert (again.path, again.mode) == (store.path, "rw")
    again.close()
    assert not store.closed
    store.root["x"] = 2
    with pytest.raises(ValueError, match="closed"):
        pickle.dumps(again)


def test_a_reference_holds_no_value(root: persist.Dict) -> None:
    root["p"] = Person("a name that is not in the pickle")
    text = pickle.dumps(root["p"])
    assert b"not in the pickle" not in text
    called = [arg for op, arg, _ in pickletools.genops(pickle.dumps(root["p"], 2)) if op.name == "GLOBAL"]
    assert called == ["persist._persist _reopen"]
    assert len(text) < 300 + len(os.fsencode(persist.__file__))


def test_a_change_is_made_in_the_store(root: persist.Dict) -> None:
    graph(root)
    text = pickle.dumps(root["p"])
    root["p"].age = 40
    assert pickle.loads(text).birthday() == 41


def test_copies_are_plain_as_before(root: persist.Dict) -> None:
    graph(root)
    p = root["p"]
    for q in (copy.copy(p), copy.deepcopy(p), persist.copy_out(p), copy.deepcopy([p])[0]):
        assert type(q) is Person
        assert vars(q) == {"name": "Ann", "age": 27}
        with pytest.raises(ValueError, match="not in a store"):
            q.lock()
    root["p"].friend = p
    twin = copy.deepcopy(p)
    assert twin.friend is twin
    assert copy.copy(p).friend is p
    assert type(copy.deepcopy(root["d"])) is dict
    assert type(copy.copy(root["d"])) is dict
    assert type(copy.deepcopy(root["l"])) is list


def test_transient_instances_are_pickled_with_their_attributes(root: persist.Dict) -> None:
    made = loaded(Person("Bea", 3))
    assert (type(made), vars(made)) == (Person, {"name": "Bea", "age": 3})
    with pytest.raises(ValueError, match="not in a store"):
        made.lock()


def test_a_class_with_its_own_reduce_keeps_it(root: persist.Dict) -> None:
    root["o"] = Own()
    assert loaded(root["o"]) == "its own"


def test_a_container_that_is_gone(store: persist.Store) -> None:
    root = store.root
    texts = {key: pickle.dumps(value) for key, value in graph(root).items()}
    for key in ("d", "l", "p"):
        root[key] = None
    store.gc()
    for key in ("d", "inner", "l", "p"):
        with pytest.raises(persist.Gone, match=r"the\.store"):
            pickle.loads(texts[key])


def test_a_gone_proxy_is_not_pickled(store: persist.Store) -> None:
    with pytest.raises(ZeroDivisionError):
        with store.transaction():
            store.root["d"] = {}
            d = store.root["d"]
            raise ZeroDivisionError
    with pytest.raises(persist.Gone):
        pickle.dumps(d)


def test_an_instance_of_a_rolled_back_transaction_is_transient(store: persist.Store) -> None:
    p = Person("Ann")
    with pytest.raises(ZeroDivisionError):
        with store.transaction():
            store.root["p"] = p
            raise ZeroDivisionError
    assert vars(loaded(p)) == {"name": "Ann", "age": 0}


def test_a_store_that_is_gone(path: Path) -> None:
    with persist.open(path) as store:
        store.root["d"] = {}
        texts = [pickle.dumps(store.root["d"]), pickle.dumps(store)]
    os.remove(path)
    for text in texts:
        with pytest.raises(FileNotFoundError, match=r"the\.store"):
            pickle.loads(text)
    assert not path.exists()


@pytest.mark.parametrize("is_open", [False, True])
def test_another_store_at_the_path(path: Path, is_open: bool) -> None:
    with persist.open(path) as store:
        store.root["d"] = {}
        texts = [pickle.dumps(store.root["d"]), pickle.dumps(store)]
    for file in path.parent.glob("the.store*"):
        file.unlink()
    other = persist.open(path)
    other.root["d"] = {}
    if not is_open:
        other.close()
    for text in texts:
        with pytest.raises(persist.Gone, match=r"another store .*the\.store"):
            pickle.loads(text)
    other.close()


def test_a_copy_of_the_file_at_the_same_path_has_the_container(path: Path, tmp_path: Path) -> None:
    with persist.open(path) as store:
        store.root["d"] = {"x": 1}
        text = pickle.dumps(store.root["d"])
    shutil.copy(path, tmp_path / "copy")
    os.replace(tmp_path / "copy", path)
    assert pickle.loads(text) == {"x": 1}


def test_the_store_is_opened_again_and_closed_with_the_last_proxy(path: Path) -> None:
    with persist.open(path, lock_timeout=7.5, max_age=None, durability="commit") as store:
        store.root["d"] = {"x": 1}
        text = pickle.dumps(store.root["d"])
    d = pickle.loads(text)
    d["x"] += 1
    with persist.open(path, "r") as other:
        assert other.root["d"]["x"] == 2
        # One handle of several: the proxy keeps its own opening.
    assert d["x"] == 2
    assert (path.parent / "the.store-shm").exists()
    with persist.open(path, durability="commit") as other:
        assert other.stat()["processes"] == 1
    del d, other
    with persist.open(path) as store:
        assert store.root["d"] == {"x": 2}


def test_closing_the_store_that_was_open_closes_loaded_proxies(path: Path) -> None:
    with persist.open(path) as store:
        store.root["d"] = {"x": 1}
        d = loaded(store.root["d"])
        assert d is store.root["d"]
    with pytest.raises(ValueError, match="closed"):
        d["x"]
    with pytest.raises(ValueError, match="closed"):
        pickle.dumps(d)


def test_a_reading_store_stays_one(path: Path) -> None:
    with persist.open(path) as store:
        store.root["d"] = {"x": 1}
        with persist.open(path, "r") as reader:
            texts = [pickle.dumps(reader.root["d"]), pickle.dumps(reader)]
        d, again = map(pickle.loads, texts)
        assert again.mode == "r"
        for value in (d, again.root):
            with pytest.raises(OSError, match="read-only"):
                value["x"] = 2
    d, again = map(pickle.loads, texts)
    assert (again.mode, d["x"]) == ("r", 1)
    with pytest.raises(OSError, match="read-only"):
        d["x"] = 2


def test_a_process_that_only_reads_gets_reading_proxies(path: Path) -> None:
    with persist.open(path) as store:
        store.root["d"] = {"x": 1}
        text = pickle.dumps(store.root["d"])
    with persist.open(path, "r") as store:
        d = pickle.loads(text)
        assert d is not None
        assert d["x"] == 1
        with pytest.raises(OSError, match="read-only"):
            d["x"] = 2


def test_proxies_of_a_snapshot_stay_of_the_snapshot(path: Path) -> None:
    with persist.open(path) as store:
        store.root["d"] = {"x": 1}
        store.snapshot("before")
        store.root["d"]["x"] = 2
        with store.at("before") as before:
            texts = [pickle.dumps(before.root["d"]), pickle.dumps(before)]
            assert pickle.loads(texts[0]) is before.root["d"]
        d = pickle.loads(texts[0])
        assert d["x"] == 1
        with pytest.raises(OSError, match="read-only"):
            d["x"] = 3
        del d
    with pickle.loads(texts[1]) as before:
        assert before.root["d"]["x"] == 1
        assert before.opened_snapshot.name == "before"
    with persist.open(path) as store:
        store.drop_snapshot("before")
        with pytest.raises(persist.NoSnapshot):
            pickle.loads(texts[0])
        store.sync()
        store.snapshot("before")
        with pytest.raises(persist.Gone, match="another snapshot"):
            pickle.loads(texts[0])


def test_forged_references(store: persist.Store) -> None:
    store.root["d"] = {}
    reopen, (path, uuid, how, (at, number, _)) = store.root["d"].__reduce__()
    assert reopen(path, uuid, how, (at, number, False)) is store.root["d"]
    for place in [
        (at + 8, number, False),
        (at + 1, number, False),
        (at + 16, number, False),
        (0, number, False),
        (1 << 63, number, False),
        ((1 << 48) - 16, number, False),
        (at + (1 << 32), number, False),
        (at, number + 1, False),
        (at, 0, False),
    ]:
        with pytest.raises((persist.Gone, ValueError)):
            reopen(path, uuid, how, place)
    with pytest.raises(TypeError):
        reopen(path, uuid, how, (at, number, True))
    for arguments in [(), (path,), (path, "x", how, None), (path, uuid, (), None), (path, uuid, how, (1,))]:
        with pytest.raises((TypeError, ValueError)):
            reopen(*arguments)
    with pytest.raises(OSError, match="NUL"):
        reopen("a\0b", uuid, how, None)


def test_a_path_that_is_not_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.store")
    with persist.open(name) as store:
        store.root["d"] = {"x": 1}
        for protocol in PROTOCOLS:
            assert loaded(store.root["d"], protocol) is store.root["d"]


def test_what_is_bound_to_this_process_is_not_pickled(store: persist.Store) -> None:
    store.snapshot("s")
    transaction = store.transaction()
    with store.root.lock() as root:
        lock = root.lock()
        for value in (transaction, store.snapshots()[0], lock, root.keys()):
            for protocol in PROTOCOLS:
                with pytest.raises(TypeError, match="cannot pickle"):
                    pickle.dumps(value, protocol)
        lock.release()


# --- workers ---------------------------------------------------------------------------------------


def grow(value: Any) -> int:
    """Change what a reference leads to, in another process."""
    if isinstance(value, persist.Store):
        value = value.root["d"]
    if isinstance(value, Person):
        return value.birthday()
    # Two workers of a pool may add at the same time.
    with value.lock():
        if isinstance(value, persist.List):
            value.append(os.getpid())
            return len(value)
        value["n"] = value.get("n", 0) + 1
        return int(value["n"])


def add(value: Any, done: Any) -> None:
    grow(value)
    done.put(os.getpid())


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pools_and_processes_take_references(store: persist.Store, method: str) -> None:
    root = store.root
    root["d"], root["l"], root["people"] = {}, [], [Person(f"p{n}", n) for n in range(6)]
    context: Any = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        assert sorted(pool.map(grow, root["people"], chunksize=1)) == [1, 2, 3, 4, 5, 6]
        assert sorted(pool.map(grow, [root["l"]] * 4, chunksize=1)) == [1, 2, 3, 4]
        pool.map(grow, [store] * 2, chunksize=1)
        assert pool.apply(Person.birthday, (root["people"][0],)) == 2
    assert [p.age for p in root["people"]] == [2, 2, 3, 4, 5, 6]
    assert root["d"]["n"] == 2
    assert os.getpid() not in root["l"]
    done = context.Queue()
    processes = [context.Process(target=add, args=(value, done)) for value in (root["d"], root["people"][5])]
    for process in processes:
        process.start()
    assert os.getpid() not in {done.get(timeout=100) for _ in processes}
    for process in processes:
        process.join(100)
        assert process.exitcode == 0
    assert (root["d"]["n"], root["people"][5].age) == (3, 7)


def test_executors_and_joblib_take_references(root: persist.Dict) -> None:
    root["people"] = [Person(f"p{n}", n) for n in range(4)]
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=spawn) as executor:
        assert list(executor.map(grow, root["people"])) == [1, 2, 3, 4]
    with joblib.parallel_config(backend="loky", n_jobs=2):
        assert joblib.Parallel()(joblib.delayed(grow)(p) for p in root["people"]) == [2, 3, 4, 5]
    assert [p.age for p in root["people"]] == [2, 3, 4, 5]


def test_a_result_of_a_worker_may_be_a_proxy(store: persist.Store) -> None:
    store.root["d"] = {"a": {"x": 1}}
    spawn: Any = multiprocessing.get_context("spawn")
    with spawn.Pool(1) as pool:
        assert pool.apply(inner, (store.root["d"],)) is store.root["d"]["a"]


def inner(d: Any) -> Any:
    return d["a"]


def test_threads_load_at_once(path: Path) -> None:
    with persist.open(path) as store:
        store.root["n"] = {"n": 0}
        text = pickle.dumps(store.root["n"])
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(20):
                n = pickle.loads(text)
                with n.lock():
                    n["n"] += 1
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert pickle.loads(text)["n"] == 80
