"""User errors and their one renderer: `file:line:column`, the source with carets, the chain of calls, help.

Any layer raises a `CompileError` (or a class of the catalogue derived from it), with or without a location;
an enclosing `with located(loc):` stamps the location where the raiser did not know it. Text is rendered
from the sources registered with `register_source`, or from the file itself.
"""

from __future__ import annotations

import linecache
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

from .location import Location

_sources: dict[str, list[str]] = {}


def register_source(file: str, text: str, first_line: int = 1) -> None:
    """Make `text`, which starts at `first_line` of `file`, available to excerpts (cells, strings, pipes)."""
    _sources[file] = [""] * (first_line - 1) + text.splitlines()


def source_line(location: Location) -> str | None:
    """The first line of source that `location` covers, or None where the source is not at hand."""
    lines = _sources.get(location.file)
    if lines is not None:
        return lines[location.line - 1] if 0 < location.line <= len(lines) else None
    return linecache.getline(location.file, location.line).rstrip("\n") or None


class CompileError(Exception):
    """A mistake in a kernel: what is wrong, where, and what to do about it.

    `message` says what was found and expected, `help` what to do, `notes` are further places with a text.
    """

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
    """The error as text: headline with position, excerpts (outermost call first), notes, one help line."""
    if error.location is None:
        parts = [f"error: {error.message}"]
    else:
        parts = [f"{error.location}: error: {error.message}"]
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
