"""Which file of a crate uses which other file. For `test_tidy`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

Module = tuple[str, ...]


class Imports:
    """Which file of a crate uses an item that is defined in which other file.

    A file that only declares or re-exports a module does not use it. The user of a re-exported item uses the file with
    its definition. Modules of tests do not count.
    """

    def __init__(self, top: Path) -> None:
        self.code: dict[Module, str] = {}
        for path in sorted(top.rglob("*.rs")):
            parts = path.relative_to(top).with_suffix("").parts
            if parts[0] == "bin" or "tests" in parts or parts[-1] == "tests":
                continue
            module = parts[:-1] if parts[-1] in {"mod", "lib", "main"} else parts
            self.code[module] = self.without_tests(path.read_text(encoding="utf-8"))
        self.exports: dict[tuple[Module, str], list[str]] = {}
        for module, code in self.code.items():
            for tree in re.findall(r"\bpub(?:\([^)]*\))?\s+use\s+([^;]+);", code):
                for path, name in self.leaves(tree):
                    self.exports[module, name] = path
        self.edges = {module: self.used_by(module) for module in self.code}

    @staticmethod
    def without_tests(text: str) -> str:
        text = re.sub(r"(?ms)^#\[cfg\(test\)\]\nmod \w+ \{.*?^\}\n?", "", text)
        text = re.sub(r'"(\\.|[^"\\])*"', '""', re.sub(r"//[^\n]*", "", text), flags=re.DOTALL)
        # The path of a visibility is not a use.
        return re.sub(r"\bpub\(in [\w:]+\)", "pub", text)

    @classmethod
    def leaves(cls, tree: str) -> Iterator[tuple[list[str], str]]:
        """Return the paths that a `use` names, each with its resulting name."""
        tree = tree.strip()
        group = re.fullmatch(r"((?:\w+\s*::\s*)*)\{(.*)\}", tree, re.DOTALL)
        if group is None:
            path, _, alias = tree.partition(" as ")
            parts = [part.strip() for part in path.split("::")]
            if parts[-1] in {"self", "*"}:
                parts.pop()
            if parts:
                yield parts, alias.strip() or parts[-1]
            return
        depth, part = 0, ""
        for char in [*group[2], ","]:
            depth += (char == "{") - (char == "}")
            if char == "," and depth == 0:
                if part.strip():
                    yield from cls.leaves(group[1] + part.strip())
                part = ""
            else:
                part += char

    def absolute(self, module: Module, path: list[str]) -> list[str] | None:
        first, rest = path[0], path[1:]
        if first == "crate":
            return rest
        base = list(module)
        if first == "super":
            while first == "super":
                base.pop()
                first, rest = (rest[0], rest[1:]) if rest else ("", [])
            return base + [first, *rest] if first else base
        if first == "self":
            return base + rest
        known = (*module, first) in self.code or (module, first) in self.exports
        return base + path if known else None

    def file_of(self, path: list[str], depth: int = 0) -> Module | None:
        """Return the file that defines an item, through re-exports."""
        module: Module = ()
        rest = list(path)
        while rest and (*module, rest[0]) in self.code:
            module = (*module, rest.pop(0))
        if rest and (module, rest[0]) in self.exports and depth < 8:
            further = self.absolute(module, self.exports[module, rest[0]])
            if further is not None:
                return self.file_of(further + rest[1:], depth + 1)
        return module

    def used_by(self, module: Module) -> set[Module]:
        code = re.sub(r"\bpub(?:\([^)]*\))?\s+use\s+[^;]+;", "", self.code[module])
        paths = [
            path for tree in re.findall(r"(?m)^\s*use\s+([^;]+);", code) for path, _ in self.leaves(tree)
        ]
        code = re.sub(r"(?m)^\s*use\s+[^;]+;", "", code)
        paths += [p.split("::") for p in re.findall(r"(?<![\w:.])\w+(?:::\w+)+", code)]
        found = (self.absolute(module, path) for path in paths)
        files = {self.file_of(path) for path in found if path is not None}
        return {file for file in files if file is not None and file in self.code} - {module}

    def cycles(self) -> list[list[str]]:
        """Return the sets of files that use each other, directly or through others."""

        def reached(start: Module) -> set[Module]:
            seen: set[Module] = set()
            todo = [start]
            while todo:
                for further in self.edges[todo.pop()] - seen:
                    seen.add(further)
                    todo.append(further)
            return seen

        reach = {module: reached(module) for module in self.edges}
        found = {
            tuple(sorted("::".join(m) for m in reach[module] if module in reach[m]))
            for module in self.edges
            if module in reach[module]
        }
        return [list(cycle) for cycle in sorted(found)]
