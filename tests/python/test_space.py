"""P7: values that are replaced repeatedly take no more space (the two examples of the report)."""

import os

import persist

MIB = 1 << 20


def _sizes(path, rounds, act):
    with persist.open(path) as store:
        for i in range(2):
            act(store.root, i)
        store.sync()
        live = os.path.getsize(path)
        for i in range(2, rounds):
            act(store.root, i)
        store.sync()
        end = os.path.getsize(path)
    assert end < 2 * live + 64 * MIB, f"{live >> 20} MiB after 2 rounds, {end >> 20} after {rounds}"
    with persist.open(path):
        pass
    return live, end


def test_a_dict_that_is_replaced_takes_no_more(tmp_path):
    def act(root, i):
        root["m"] = {f"key {k}": k + i for k in range(50_000)}

    _sizes(tmp_path / "a.store", 30, act)


def test_a_large_value_that_is_replaced_takes_no_more(tmp_path):
    def act(root, i):
        root["v"] = bytes([i]) * (20 * MIB)

    _sizes(tmp_path / "a.store", 16, act)


def test_a_dict_that_is_removed_and_made_again_takes_no_more(tmp_path):
    def act(root, i):
        root["m"] = {k: [k, i] for k in range(30_000)}
        del root["m"]

    _sizes(tmp_path / "a.store", 40, act)
