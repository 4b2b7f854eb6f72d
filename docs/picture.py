"""Draw `two-doors.svg`: one store file, and the two ways to use it. Run `python docs/picture.py` after a change.

The output depends on nothing but this file; `tests/system/test_readme.py` compares it with the file that is there.
"""

from __future__ import annotations

from pathlib import Path

OUTPUT = Path(__file__).with_name("two-doors.svg")

WIDTH, HEIGHT = 760, 300
INK, PAPER, LINE, PYTHON, SHELL, STORE = "#1f2328", "#ffffff", "#8c959f", "#ddf4ff", "#dafbe1", "#fff8c5"
SANS = "font-family='Helvetica, Arial, sans-serif'"
MONO = "font-family='Menlo, Consolas, monospace'"


def escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def box(x: int, y: int, w: int, h: int, fill: str) -> str:
    return f"<rect x='{x}' y='{y}' width='{w}' height='{h}' rx='8' fill='{fill}' stroke='{LINE}'/>"


def text(x: int, y: int, what: str, font: str = SANS, size: int = 14, more: str = "") -> str:
    return f"<text x='{x}' y='{y}' {font} font-size='{size}' fill='{INK}' {more}>{escaped(what)}</text>"


def rows(x: int, y: int, lines: list[str]) -> list[str]:
    return [text(x, y + 20 * n, line, MONO, 13, "xml:space='preserve'") for n, line in enumerate(lines)]


def arrow(x1: int, x2: int, y: int) -> str:
    tips = "marker-start='url(#tip)' marker-end='url(#tip)'"
    return f"<line x1='{x1}' y1='{y}' x2='{x2}' y2='{y}' stroke='{INK}' {tips}/>"


def picture() -> str:
    middle = "text-anchor='middle'"
    bold = "font-weight='bold'"
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{HEIGHT}' viewBox='0 0 {WIDTH} {HEIGHT}'"
        " role='img' aria-label='Python programs and shell commands use the same store file'>",
        f"<rect width='{WIDTH}' height='{HEIGHT}' fill='{PAPER}'/>",
        "<defs><marker id='tip' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='8' markerHeight='8'"
        f" orient='auto-start-reverse'><path d='M0 0 L8 4 L0 8 z' fill='{INK}'/></marker></defs>",
        box(16, 40, 240, 170, PYTHON),
        text(32, 66, "Python: module persist", more=bold),
        *rows(32, 96, ["root['x'] += 1", "root['Joe'].age = 28", "with root.lock(): ...", "store.transaction()"]),
        text(32, 194, "many processes at once", size=12),
        box(504, 40, 240, 170, SHELL),
        text(520, 66, "Shell: mount.persist", more=bold),
        *rows(520, 96, ["cat mnt/x", "echo 28 > mnt/Joe/age", "flock mnt/x command", "rsync -aX mnt/ copy/"]),
        text(520, 194, "any program that uses files", size=12),
        box(314, 40, 132, 170, STORE),
        text(380, 66, "site.store", MONO, 14, f"{middle} {bold}"),
        text(380, 100, "one file,", more=middle),
        text(380, 120, "mapped into", more=middle),
        text(380, 140, "memory,", more=middle),
        text(380, 160, "changed", more=middle),
        text(380, 180, "in place", more=middle),
        arrow(258, 312, 125),
        arrow(448, 502, 125),
        box(16, 232, 728, 48, PAPER),
        text(380, 252, "one lock manager, atomic operations, no server", more=middle),
        text(380, 271, "a change through one door is seen by the next operation through the other", more=middle),
        "</svg>",
    ]
    return "\n".join(part.replace(" >", ">") for part in parts) + "\n"


if __name__ == "__main__":
    OUTPUT.write_text(picture(), encoding="utf-8")
