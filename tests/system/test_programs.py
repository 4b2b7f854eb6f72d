"""The two programs of the original, word for word, run twice, each time in a new process."""

from __future__ import annotations

import sys
from pathlib import Path

from acceptance import Processes, clean_env, finish

COUNTER = """\
import persist
root = persist.root()
root.lockExcl()
try:
    root['x'] += 1
except KeyError:
    root['x'] = 1
print("Content-type: text/html\\n")
print("<p>You are visitor " + str(root['x']) + " to visit this site!</p>")
root.unlock()
"""

PEOPLE = """\
import persist
from pbase import pbase

class person(pbase):
    def __init__(self, name="", age=0):
        pbase.__init__(self)
        self.name = name
        self.age = age

    def printAge(self):
        print("<p>" + self.name + " is " + str(self.age) + " years old</p>")

root = persist.root()
root.lockExcl()
if not root.has_key('Joe'):
    print("<p>new</p>")
    root['Joe'] = person('Joe', 27)
    root['John'] = person('John', 29)
root['Joe'].printAge()
root['John'].printAge()
root.unlock()
"""


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
    first, second = run_twice(procs, tmp_path, PEOPLE)
    said = "<p>Joe is 27 years old</p>\n<p>John is 29 years old</p>\n"
    assert first == "<p>new</p>\n" + said
    assert second == said


def test_default_store_is_in_the_working_directory(procs: Processes, tmp_path: Path) -> None:
    for n in "1", "2":
        out = finish(procs.python(COUNTER, cwd=tmp_path))
        assert f"visitor {n} to" in out
    assert (tmp_path / "persist.store").is_file()
