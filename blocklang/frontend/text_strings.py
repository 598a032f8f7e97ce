"""String literals of `.bl`: quotes, prefixes, escapes, and the parts of f-strings.

Escapes are those of Python except `\\N{...}`. Inside the braces of an f-string a backslash before a
quote or another backslash belongs to the outer string, so that any expression can stand there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from blocklang.ir.location import Location

from . import foreign
from .errors.syntax import FormatSpecification, InvalidString, UnsupportedLiteral

_SIMPLE = dict(
    zip(
        "abfnrtv\\'\"\n",
        ["\a", "\b", "\f", "\n", "\r", "\t", "\v", "\\", "'", '"', ""],
        strict=True,
    )
)
_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{1,3})|([\s\S]))"
)
_LITERAL = re.compile(r"([A-Za-z]*)(\"\"\"|'''|\"|')([\s\S]*)\2")


def split_literal(token: str, location: Location) -> tuple[str, str]:
    """The prefix, in lower case, and the raw body of a string token."""
    match = _LITERAL.fullmatch(token)
    assert match is not None, "the lexer lets only whole strings through"
    prefix = match[1].lower()
    if "b" in prefix:
        construct, instead = foreign.LITERALS[bytes]
        raise UnsupportedLiteral(location, construct=construct, instead=instead)
    if prefix not in ("", "r", "f", "rf", "fr"):
        raise InvalidString(
            location,
            problem=f"'{match[1]}' is not a string prefix",
            instead="the prefixes are r and f",
        )
    return prefix, match[3]


def unescape(body: str, location: Location) -> str:
    """The text that a raw body with escapes stands for."""

    def value(match: re.Match[str]) -> str:
        digits = match[1] or match[2] or match[3]
        code = int(digits, 16) if digits else int(match[4], 8) if match[4] else None
        if code is None and match[5] in _SIMPLE:
            return _SIMPLE[match[5]]
        if code is None or code > 0x10FFFF or 0xD800 <= code < 0xE000:
            raise InvalidString(
                location,
                problem=f"'{match[0]}' is not an escape",
                instead="write '\\\\' for a backslash, or put an r before the string",
            )
        return chr(code)

    return _ESCAPE.sub(value, body)


def format_parts(body: str, raw: bool, location: Location) -> Iterator[tuple[bool, str]]:
    """The parts of an f-string: (False, text) and (True, source of an expression), in order."""
    text, position = "", 0
    while position < len(body):
        character = body[position]
        if body.startswith(("{{", "}}"), position):
            text, position = text + character, position + 2
        elif character == "{":
            if text:
                yield False, text if raw else unescape(text, location)
            source, position = _braced(body, position + 1, location)
            text = ""
            yield True, source
        elif character == "}":
            raise InvalidString(
                location,
                problem="a '}' without '{' in an f-string",
                instead="write '}}' for a brace",
            )
        else:
            # An escape stays whole, lest `\\x7b` or a quote be taken apart.
            step = 2 if character == "\\" and not raw else 1
            text, position = text + body[position : position + step], position + step
    if text:
        yield False, text if raw else unescape(text, location)


def _braced(body: str, position: int, location: Location) -> tuple[str, int]:
    """The source of an expression up to its closing brace, and the position after that."""
    source, quote, depth = "", "", 0
    while position < len(body):
        if re.match(r"\\[\\'\"]", body[position:]):
            position += 1
        character = body[position]
        position += 1
        if quote:
            if character == "\\" and position < len(body):
                follower, position = _logical(body, position)
                character += follower
            elif character == quote:
                quote = ""
        elif character in "'\"":
            quote = character
        elif character == "}":
            return source, position
        elif character in "([":
            depth += 1
        elif character in ")]":
            depth -= 1
        elif (character == ":" and depth == 0) or (character == "!" and body[position] != "="):
            raise FormatSpecification(location)
        source += character
    raise InvalidString(
        location, problem="a '{' without '}' in an f-string", instead="write '{{' for a brace"
    )


def _logical(body: str, position: int) -> tuple[str, int]:
    step = 1 if re.match(r"\\[\\'\"]", body[position:]) else 0
    return body[position + step], position + step + 1
