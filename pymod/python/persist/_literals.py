"""The text of a tuple or frozenset, as `core/src/object/literal.rs` describes it."""

import re as _re
import struct as _struct

# The most levels of tuples in tuples.
DEPTH = 100
_DECIMAL_BITS = 2048
_PYTHON_NAN = 0x7FF8000000000000
_PLAIN = (type(None), bool, int, float, str, bytes)


class Refused(Exception):
    """What cannot be in a text, and the steps that lead to it."""

    def __init__(self, item):
        super().__init__(item)
        self.item = item
        self.steps = ""


def _escapes():
    table = {n: f"\\x{n:02x}" for n in (*range(32), 127)}
    table.update({ord("\\"): "\\\\", ord("'"): "\\'", 10: "\\n", 13: "\\r", 9: "\\t"})
    return table


_BYTES = {**_escapes(), **{n: f"\\x{n:02x}" for n in range(128, 256)}}
_STR = {**_escapes(), **{n: f"\\u{n:04x}" for n in range(0xD800, 0xE000)}}
_FLOAT = r"(?:[0-9]+(?:\.[0-9]+)?(?:e[+-][0-9]+)?|inf|nan)"
_COMPLEX = _re.compile(rf"(-?{_FLOAT})([+-]{_FLOAT})j")
_BARE = _re.compile(r"[a-z_]+\Z")


def int_text(n):
    if n.bit_length() <= _DECIMAL_BITS:
        return int.__repr__(n)
    return hex(n)


def float_text(x):
    if x != x:
        bits = int.from_bytes(_struct.pack("<d", x), "little")
        if bits != _PYTHON_NAN:
            return f"nan:{bits:016x}"
    return float.__repr__(x)


def complex_text(z):
    """Return both parts, each with its sign."""
    imag = float.__repr__(z.imag)
    return f"{float.__repr__(z.real)}{imag if imag[0] == '-' else '+' + imag}j"


def read_complex(text):
    match = _COMPLEX.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return complex(float(match.group(1)), float(match.group(2)))


def quoted(content):
    if type(content) is bytes:
        return f"b'{content.decode('latin-1').translate(_BYTES)}'"
    return f"'{content.translate(_STR)}'"


def write(value, encode, depth=0):
    """Return the text. `encode` gives the name and content of a value of another type, or None."""
    kind = type(value)
    if kind is str or kind is bytes:
        return quoted(value)
    if kind is int:
        return int_text(value)
    if kind is float:
        return float_text(value)
    if kind in _PLAIN:
        return repr(value)
    if kind is tuple or kind is frozenset:
        if depth >= DEPTH:
            raise Refused(value)
        texts = []
        for n, item in enumerate(value):
            try:
                texts.append(write(item, encode, depth + 1))
            except Refused as refused:
                if kind is tuple:
                    refused.steps = f"[{n}]{refused.steps}"
                raise
        if kind is tuple:
            return f"({', '.join(texts)}{',' if len(texts) == 1 else ''})"
        return f"{{{', '.join(sorted(texts))}}}"
    found = encode(value)
    if found is None:
        raise Refused(value)
    name, content = found
    if name is None:
        return quoted(content)
    return f"{name if _BARE.match(name) else quoted(name)}({quoted(content)})"


_QUOTED = _re.compile(r"'((?:[^'\\]|\\.)*)'", _re.DOTALL)
_ESCAPED = _re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|(.))", _re.DOTALL)
_WORD = _re.compile(r"[^,(){}' ]+")
_WORDS = {"None": None, "True": True, "False": False}
_SIGNS = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", "'": "'"}


def _unescape(match):
    code = match.group(1) or match.group(2)
    return chr(int(code, 16)) if code else _SIGNS[match.group(3)]


class _Parser:
    def __init__(self, text, decode):
        self.text, self.at, self.decode = text, 0, decode

    def wrong(self):
        return ValueError(f"no value at {self.at}")

    def next(self, sign):
        if self.text.startswith(sign, self.at):
            self.at += len(sign)
            return True
        return False

    def quoted(self):
        is_bytes = self.next("b")
        match = _QUOTED.match(self.text, self.at)
        if match is None:
            raise self.wrong()
        self.at = match.end()
        content = match.group(1)
        if "\\" in content:
            content = _ESCAPED.sub(_unescape, content)
        return content.encode("latin-1") if is_bytes else content

    def value(self, depth):
        text, at = self.text, self.at
        if depth > DEPTH:
            raise self.wrong()
        if self.next("("):
            return tuple(self.items(")", depth))
        if self.next("{"):
            return frozenset(self.items("}", depth))
        if text.startswith("b'", at):
            return self.quoted()
        if text.startswith("'", at):
            word = self.quoted()
            if not self.next("("):
                return word
        else:
            match = _WORD.match(text, at)
            if match is None:
                raise self.wrong()
            self.at, word = match.end(), match.group()
            if not self.next("("):
                return number(word) if word not in _WORDS else _WORDS[word]
        content = self.quoted()
        if not self.next(")"):
            raise self.wrong()
        return self.decode(word, content)

    def items(self, close, depth):
        items = []
        while not self.next(close):
            items.append(self.value(depth + 1))
            if self.next(close):
                break
            if not self.next(", ") and not self.text.startswith(f",{close}", self.at):
                raise self.wrong()
            self.next(",")
        return items


def number(word):
    if word.startswith("nan:"):
        return _struct.unpack("<d", int(word[4:], 16).to_bytes(8, "little"))[0]
    if word.lstrip("-").startswith("0x"):
        return int(word, 16)
    return int(word) if word.lstrip("-").isdigit() else float(word)


def read(text, decode):
    """Return the tuple or frozenset of a text. `decode` makes a value of a name and a content."""
    parser = _Parser(text, decode)
    value = parser.value(0)
    if parser.at != len(text):
        raise parser.wrong()
    return value
