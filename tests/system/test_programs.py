"""The two original programs, word for word, run twice, each time in a new process."""

from __future__ import annotations

import sys
from pathlib import Path

from acceptance import TOP, Processes, clean_env, finish

PROGRAMS = TOP / "tests" / "programs"
COUNTER = (PROGRAMS / "counter.py").read_text()
PEOPLE = (PROGRAMS / "people.py").read_text()


def run_twice(procs: Processes, tmp_path: Path, program: str) -> list[str]:
    file = tmp_path / "program.py"
    file.write_text(program)
    env = clean_env(PERSIST_STORE=str(tmp_path / "site.store"))
    return [finish(procs.start(sys.executable, "-W", "error", file, env=env)) for _ in range(2)]


def test_counter(procs: Processes, tmp_path: Path) -> None:
    first, second = run_twice(procs, tmp_path, COUNTER)
    page = "Content-type: text/html\n\n<p>You are visitor {} to visit this site!</p>\n"
    assert first == page.format(1)
    assert second == page.format(2)


def test_people(procs: Processes, tmp_path: Path) -> None:
    said = "Content-type: text/html\n\n<p>Joe is {} years old</p>\n<p>John is 29 years old</p>\n"
    assert run_twice(procs, tmp_path, PEOPLE) == [said.format(27)] * 2
    # The stored objects are shown, not new ones.
    store = str(tmp_path / "site.store")
    finish(procs.python("import persist, sys; persist.root(sys.argv[1])['Joe'].age = 28", store))
    assert run_twice(procs, tmp_path, PEOPLE) == [said.format(28)] * 2


def test_default_store_is_in_the_working_directory(procs: Processes, tmp_path: Path) -> None:
    for n in "1", "2":
        out = finish(procs.python(COUNTER, cwd=tmp_path))
        assert f"visitor {n} to" in out
    assert (tmp_path / "persist.store").is_file()
