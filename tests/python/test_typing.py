"""The stubs, as mypy --strict and pyright see them: what may be stored, what is read, wrong arguments; README."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]

# A line that must be reported ends with `# error`; a revealed type with `# type: ...`.
SAMPLE = """
from __future__ import annotations

import dataclasses
from typing import Any

import persist


class App(persist.Object):
    count: int


@persist.register_dataclass
@dataclasses.dataclass
class Job:
    name: str


def stored(
    lists: persist.Dict[str, persist.List[int]],
    numbers: persist.Dict[str, int],
    dicts: persist.List[persist.Dict[str, int]],
    deep: persist.Dict[str, persist.Dict[str, persist.List[int]]],
    any_: persist.Dict[Any, Any],
) -> None:
    lists["a"] = [1, 2]
    lists["a"] = lists["b"]
    lists["a"] = []
    deep["a"] = {"x": [1]}
    deep["a"] = {}
    deep["a"]["x"] = [1]
    numbers["x"] = 1
    numbers["x"] += 1
    dicts.append({"a": 1})
    dicts[0] = {"a": 2}
    dicts[0:1] = []
    dicts.extend([{"a": 1}])
    dicts.insert(0, {})
    any_["x"] = [1, {}]
    reveal_type(lists["a"])  # type: List[int]
    reveal_type(lists.setdefault("a", [1]))  # type: List[int]
    reveal_type(lists.get("a"))  # type: List[int] | None
    reveal_type(numbers.get("x"))  # type: int | None
    reveal_type(numbers.get("x", 0))  # type: int
    reveal_type(numbers.get("x", "s"))  # type: int | str
    reveal_type(numbers.pop("x"))  # type: int
    reveal_type(numbers.pop("x", None))  # type: int | None
    reveal_type(numbers.setdefault("x", 1))  # type: int
    reveal_type(dicts[0:1])  # type: list[Dict[str, int]]
    lists["a"] = ["x"]  # error
    numbers["x"] = "1"  # error
    dicts.append({"a": "x"})  # error
    numbers.get([])  # error


def opened(store: persist.Store) -> None:
    reveal_type(store.root)  # type: Dict[Any, Any]
    with persist.open("a", "r", "commit", root=App) as typed:
        reveal_type(typed.root)  # type: App
        reveal_type(typed.root.count)  # type: int
        reveal_type(typed.at("s").root)  # type: App
        typed.root.nothing  # error
    reveal_type(store.stat()["processes"])  # type: int
    reveal_type(Job("a").name)  # type: str
    persist.open("a", "w")  # error
    persist.open("a", durability="x")  # error
    store.stat()["nothing"]  # error
    persist.open("a", root=dict)  # error
"""


def expected() -> tuple[dict[int, str], set[int]]:
    lines = SAMPLE.splitlines()
    types = {n: line.split("# type: ")[1] for n, line in enumerate(lines, 1) if "# type: " in line}
    errors = {n for n, line in enumerate(lines, 1) if line.endswith("# error")}
    return types, errors


def plain(text: str) -> str:
    return re.sub(r"[\w]+\.(?=\w)", "", text)


def mypy(*arguments: object) -> str:
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir=/dev/null", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=PROJECT).stdout


def pyright(*files: object) -> list[dict[str, object]]:
    command = [
        sys.executable,
        "-m",
        "pyright",
        "--outputjson",
        "--pythonpath",
        sys.executable,
        *map(str, files),
    ]
    out = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=Path(str(files[0])).parent)
    found: list[dict[str, object]] = json.loads(out.stdout)["generalDiagnostics"]
    return found


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    file = tmp_path / "sample.py"
    # A comment `# type: ...` would be an annotation.
    file.write_text(re.sub(r"  # (type|error).*", "", SAMPLE))
    return file


def test_mypy(sample: Path) -> None:
    types, errors = expected()
    out = mypy(sample)
    revealed = re.findall(r'^\S+:(\d+): note: Revealed type is "(.*)"$', out, re.MULTILINE)
    assert {int(n): plain(text) for n, text in revealed} == types
    assert {int(n) for n in re.findall(r"^\S+:(\d+): error:", out, re.MULTILINE)} == errors, out


def test_pyright(sample: Path) -> None:
    types, errors = expected()
    found: dict[str, dict[int, str]] = {"error": {}, "information": {}}
    for said in pyright(sample):
        line = said["range"]["start"]["line"] + 1  # type: ignore[index]
        found.setdefault(str(said["severity"]), {})[line] = str(said["message"])
    revealed = {n: text.rsplit(' is "', 1)[1].rstrip('"') for n, text in found["information"].items()}
    assert revealed == types
    assert set(found["error"]) == errors, found["error"]


@pytest.fixture(scope="module")
def readme(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return the blocks of Python in README, as files."""
    home, files = tmp_path_factory.mktemp("readme"), []
    text = (PROJECT / "README.md").read_text()
    for n, block in enumerate(re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)):
        named = re.match(r"# file: (\S+)", block)
        files.append(home / (named.group(1) if named else f"block{n}.py"))
        files[-1].write_text(block)
    assert len(files) > 10
    return files


def test_readme_under_mypy(readme: list[Path]) -> None:
    # Examples have no annotations; their bodies are checked all the same.
    lenient = ["--allow-untyped-defs", "--allow-untyped-calls", "--allow-incomplete-defs", "--allow-any-generics"]
    out = mypy(*lenient, "--ignore-missing-imports", "--follow-imports=silent", *readme)
    assert out.startswith("Success"), out


def test_readme_under_pyright(readme: list[Path]) -> None:
    errors = [said for said in pyright(*readme) if said["severity"] == "error"]
    assert errors == [], json.dumps(errors, indent=1)


def test_examples_under_pyright() -> None:
    # mypy --strict over them is the step mypy of scripts/test.
    files = sorted((PROJECT / "examples").glob("*.py"))
    assert len(files) > 8
    errors = [said for said in pyright(*files) if said["severity"] == "error"]
    assert errors == [], json.dumps(errors, indent=1)
