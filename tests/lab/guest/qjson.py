"""The JSON reader of QEMU's guest agent, as a stream: bytes in, values and parse errors out.

The agent reads its channel without lines and without sessions, so half a request of a client that died is the
beginning of the next one's. What comes of that, to the letter of the error texts, depends on the reader: hence this
one, which behaves as the one in QEMU 7.2 (seen on a real agent; QEMU's ``qobject/json-lexer.c`` says the grammar).
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

_STRUCTURE = frozenset(b"{}[]:,")
_SPACE = frozenset(b" \t\r\n")
_DIGITS = frozenset(b"0123456789")
_NUMBER = frozenset(b"0123456789.eE+-")
_LETTERS = frozenset(b"abcdefghijklmnopqrstuvwxyz")
_KEYWORDS = {b"true": True, b"false": False, b"null": None}
_QUOTES = frozenset(b"\"'")
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", '"': '"', "'": "'", "\\": "\\", "/": "/"}


@dataclasses.dataclass(frozen=True)
class Value:
    """A complete top-level JSON value."""

    value: Any


@dataclasses.dataclass(frozen=True)
class ParseError:
    """Something that is no JSON; ``desc`` is the agent's text."""

    desc: str


class _BadTokensError(Exception):
    """The tokens of a message make no value."""


class JsonReader:
    """Feed it bytes as they come; it keeps what is incomplete."""

    def __init__(self) -> None:
        self._token = b""
        self._state = "start"  # start, string, escape, number, keyword, recovery
        self._quote = 0
        self._tokens: list[tuple[str, bytes]] = []
        self._depth_curly = 0
        self._depth_square = 0
        self._out: list[Value | ParseError] = []
        self._handlers = {
            "start": self._in_start,
            "string": self._in_string,
            "escape": self._in_escape,
            "number": self._in_number,
            "keyword": self._in_keyword,
            "recovery": self._in_recovery,
        }

    def feed(self, data: bytes) -> list[Value | ParseError]:
        """Everything that ``data`` completed, oldest first."""
        for line in data.splitlines(keepends=True):
            if not self._take_line(line):
                for byte in line:
                    # False asks for the same byte again, in the new state.
                    while not self._handlers[self._state](byte):
                        pass
        out, self._out = self._out, []
        return out

    def _take_line(self, line: bytes) -> bool:
        """The usual case, a whole request on a line of its own: campaigns send hundreds of thousands of them."""
        if self._tokens or self._state != "start" or not line.startswith(b"{") or not line.isascii():
            return False
        try:
            self._out.append(Value(json.loads(line)))
        except ValueError:
            return False
        return True

    # -- bytes to tokens ----------------------------------------------------------------------------------------------

    def _in_start(self, byte: int) -> bool:
        self._token = bytes([byte])
        if byte in _STRUCTURE:
            self._emit(chr(byte))
        elif byte in _QUOTES:
            self._quote = byte
            self._state = "string"
        elif byte in _DIGITS or byte == ord("-"):
            self._state = "number"
        elif byte in _LETTERS:
            self._state = "keyword"
        elif byte not in _SPACE:
            self._stray()
        return True

    def _in_string(self, byte: int) -> bool:
        self._token += bytes([byte])
        if not 0x20 <= byte <= 0xFD:
            self._stray()
        elif byte == self._quote:
            self._emit("string")
        elif byte == ord("\\"):
            self._state = "escape"
        return True

    def _in_escape(self, byte: int) -> bool:
        self._token += bytes([byte])
        self._state = "string"
        if not 0x20 <= byte <= 0xFD:
            self._stray()
        return True

    def _in_number(self, byte: int) -> bool:
        if byte in _NUMBER:
            self._token += bytes([byte])
            return True
        try:
            json.loads(self._token)
        except ValueError:
            # "-s": the byte that broke the number belongs to the error.
            self._token += bytes([byte])
            self._stray()
            return True
        self._emit("number")
        return False

    def _in_keyword(self, byte: int) -> bool:
        if byte in _LETTERS:
            self._token += bytes([byte])
            return True
        self._emit("keyword")
        return False

    def _in_recovery(self, byte: int) -> bool:
        """After an error, everything is skipped up to a control character, a structural one, or 0xFE and 0xFF."""
        if 0x20 <= byte <= 0xFD and byte not in _STRUCTURE:
            return True
        self._state = "start"
        return False

    def _stray(self) -> None:
        # A byte that is no UTF-8 is shown as U+FFFD.
        self._out.append(ParseError(f"JSON parse error, stray '{self._token.decode(errors='replace')}'"))
        self._forget()
        self._state = "recovery"

    # -- tokens to values ---------------------------------------------------------------------------------------------

    def _forget(self) -> None:
        self._token = b""
        self._tokens = []
        self._depth_curly = self._depth_square = 0
        self._state = "start"

    def _emit(self, kind: str) -> None:
        self._tokens.append((kind, self._token))
        self._token = b""
        self._state = "start"
        self._depth_curly += (kind == "{") - (kind == "}")
        self._depth_square += (kind == "[") - (kind == "]")
        if min(self._depth_curly, self._depth_square) >= 0 and (self._depth_curly or self._depth_square):
            return
        try:
            value, rest = _value(self._tokens)
            if rest:
                raise _BadTokensError("expecting value")
            self._out.append(Value(value))
        except _BadTokensError as error:
            self._out.append(ParseError(f"JSON parse error, {error}"))
        self._forget()


_Tokens = list[tuple[str, bytes]]


def _value(tokens: _Tokens) -> tuple[Any, _Tokens]:
    """The value that ``tokens`` begin with, and the tokens after it."""
    kind, text = tokens[0] if tokens else ("end", b"")
    rest = tokens[1:]
    if kind == "{":
        return _object(rest)
    if kind == "[":
        return _array(rest)
    if kind == "string":
        return _string(text), rest
    if kind == "number":
        return json.loads(text), rest
    if kind == "keyword":
        if text not in _KEYWORDS:
            raise _BadTokensError(f"invalid keyword '{text.decode()}'")
        return _KEYWORDS[text], rest
    raise _BadTokensError("expecting value")


def _object(tokens: _Tokens) -> tuple[dict[str, Any], _Tokens]:
    members: dict[str, Any] = {}
    if _next(tokens) == "}":
        return members, tokens[1:]
    while True:
        key, tokens = _value(tokens)
        if not isinstance(key, str):
            raise _BadTokensError("key is not a string in object")
        if _next(tokens) != ":":
            raise _BadTokensError("missing : in object pair")
        value, tokens = _value(tokens[1:])
        if key in members:
            raise _BadTokensError("duplicate key")
        members[key] = value
        end, tokens = _next(tokens), tokens[1:]
        if end == "}":
            return members, tokens
        if end != ",":
            raise _BadTokensError("expected separator in dict")


def _array(tokens: _Tokens) -> tuple[list[Any], _Tokens]:
    items: list[Any] = []
    if _next(tokens) == "]":
        return items, tokens[1:]
    while True:
        value, tokens = _value(tokens)
        items.append(value)
        end, tokens = _next(tokens), tokens[1:]
        if end == "]":
            return items, tokens
        if end != ",":
            raise _BadTokensError("expected separator in list")


def _next(tokens: _Tokens) -> str:
    return tokens[0][0] if tokens else "end"


def _string(text: bytes) -> str:
    """A quoted string's content. Single quotes are allowed, as QEMU allows them."""
    body = text[1:-1].decode(errors="replace")
    out = []
    position = 0
    while position < len(body):
        letter = body[position]
        position += 1
        if letter != "\\":
            out.append(letter)
            continue
        escape = body[position] if position < len(body) else ""
        position += 1
        if escape == "u":
            try:
                out.append(chr(int(body[position : position + 4], 16)))
            except ValueError:
                raise _BadTokensError("invalid hex escape in string") from None
            position += 4
        elif escape in _ESCAPES:
            out.append(_ESCAPES[escape])
        else:
            raise _BadTokensError(f"invalid escape sequence '\\{escape}' in string")
    return "".join(out)
