"""User errors and their one renderer: position, the source with carets, the chain of calls, help.

Any layer raises a `CompileError` (or a class of the catalogue derived from it), with or without a
location; an enclosing `with located(loc):` stamps the location where the raiser did not know it.
Text is rendered from the sources registered with `register_source`, or from the file itself.

The catalogue is the set of `UserError` classes, one for each mistake that a user can make; a class
with a code enters it by being defined. The classes live beside the layer that raises them.
"""

from __future__ import annotations

import linecache
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import cleandoc
from string import Formatter
from typing import Any, ClassVar

from .location import Location

_sources: dict[str, list[str]] = {}


def register_source(file: str, text: str, first_line: int = 1) -> None:
    """Make `text`, from `first_line` of `file` on, available to excerpts (of cells, pipes)."""
    _sources[file] = [""] * (first_line - 1) + [line.rstrip("\r") for line in text.split("\n")]


def source_line(location: Location) -> str | None:
    """The first line of source that `location` covers, or None where the source is not at hand."""
    lines = _sources.get(location.file)
    if lines is not None:
        return lines[location.line - 1] if 0 < location.line <= len(lines) else None
    return linecache.getline(location.file, location.line).rstrip("\n") or None


class CompileError(Exception):
    """A mistake in a kernel: what is wrong, where, and what to do about it.

    `message` says what was found and expected, `help` what to do, `notes` are further places, each
    with a text.
    """

    code: ClassVar[str] = ""
    """Stable name of the kind of mistake (`BL104`), empty outside the catalogue."""

    def __init__(
        self,
        message: str,
        location: Location | None = None,
        help: str = "",
        notes: tuple[tuple[str, Location | None], ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.location = location
        self.help = help
        self.notes = notes

    def __str__(self) -> str:
        return render(self)


class UserError(CompileError):
    """The base of the catalogue. A subclass with a `code` is one kind of mistake:

        class UnknownName(UserError, code="BL201"):
            "Why it is a mistake and what to write instead, for the documentation."

            message = "'{name}' is not defined"
            help = "assign it first, or import it"
            example = "y = x + undefined"

    `UnknownName(location, name="x")` fills the fields of both templates; `notes` may be added. A
    subclass without a code is a family, to be caught but not raised.
    """

    message: str = ""
    help: str = ""
    example: ClassVar[str] = ""

    def __init_subclass__(cls, code: str = "", **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        cls.code = code
        if not code:
            return
        if code in _catalogue:
            raise TypeError(f"{code} is both {_catalogue[code].__name__} and {cls.__name__}")
        if not (cls.__doc__ and cls.message and cls.example):
            raise TypeError(f"{cls.__name__} needs a docstring, a message and an example")
        _catalogue[code] = cls

    def __init__(
        self,
        location: Location | None = None,
        notes: tuple[tuple[str, Location | None], ...] = (),
        **fields: object,
    ) -> None:
        cls = type(self)
        super().__init__(
            cls.message.format_map(fields), location, cls.help.format_map(fields), notes
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # An error may cross to another process, where the fields of its templates are not known.
        return _restore, (type(self), self.args, self.__dict__)

    @classmethod
    def fields(cls) -> frozenset[str]:
        """The names of the fields of the templates."""
        texts = Formatter().parse(cls.message + cls.help)
        return frozenset(name for _, name, _, _ in texts if name)

    @classmethod
    def explanation(cls) -> str:
        """The docstring, for the documentation of the catalogue."""
        return cleandoc(cls.__doc__ or "")


_catalogue: dict[str, type[UserError]] = {}


def catalogue() -> tuple[type[UserError], ...]:
    """Every kind of user error whose module has been imported, by code."""
    return tuple(_catalogue[code] for code in sorted(_catalogue))


def _restore(cls: type[UserError], args: tuple[Any, ...], state: dict[str, Any]) -> UserError:
    error = cls.__new__(cls, *args)
    error.__dict__.update(state)
    return error


@contextmanager
def located(location: Location) -> Iterator[None]:
    """Stamp `location` on any `CompileError` raised inside that has none yet."""
    try:
        yield
    except CompileError as error:
        if error.location is None:
            error.location = location
        raise


def render(error: CompileError) -> str:
    """The error as text: position and message, excerpts (outermost call first), notes, help."""
    kind = f"error[{error.code}]" if error.code else "error"
    if error.location is None:
        parts = [f"{kind}: {error.message}"]
    else:
        parts = [f"{error.location}: {kind}: {error.message}"]
        *callers, innermost = error.location.frames
        for frame in callers:
            parts += [f"  called from {frame}:", *_excerpt(frame, "    ")]
        parts += _excerpt(innermost, "    ")
    for text, place in error.notes:
        parts.append(f"  note: {text}" + (f" ({place})" if place else ""))
        parts += _excerpt(place, "    ") if place else []
    if error.help:
        parts.append(f"  help: {error.help}")
    return "\n".join(parts)


def _excerpt(location: Location, indent: str) -> list[str]:
    line = source_line(location)
    if line is None:
        return []
    end = location.end_column if location.end_line == location.line else len(line) + 1
    start = min(location.column, len(line) + 1)
    # Carets stand under characters: tabs stay tabs, wide characters take two columns.
    padding = "".join("\t" if c == "\t" else " " * _width(c) for c in line[: start - 1])
    carets = "^" * max(1, sum(_width(c) for c in line[start - 1 : end - 1]))
    return [f"{indent}{line}", f"{indent}{padding}{carets}"]


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
