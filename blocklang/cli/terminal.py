"""What `blc` says to people: errors, warnings, notes, tables; on standard error, in colour on
terminals only.

Rich is loaded for tables, and for terminals; text that goes to files and pipes is plain.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TextIO

from blocklang import environment

if TYPE_CHECKING:
    from rich.console import Console

# Wide enough that no table is broken where nobody looks at a window.
_PIPE_WIDTH = 1000
_STYLES = (
    (re.compile(r"^(?:blc: )?(?:\S+:\d+:\d+: )?(error(?:\[\w+\])?):", re.M), "bold red"),
    (re.compile(r"^(?:blc: )?(warning):", re.M), "bold yellow"),
    (re.compile(r"^(?:blc: )?(note):|^ +(note):", re.M), "bold"),
    (re.compile(r"^ +(help):", re.M), "bold cyan"),
    (re.compile(r"^[ \t]+(\^+)$", re.M), "bold red"),
)


def say(text: str, file: TextIO | None = None) -> None:
    """Print text on standard error (or `file`), with the marks of errors in colour."""
    stream = file or sys.stderr
    if environment.NO_COLOR.get() or not stream.isatty():
        print(text, file=stream)
        return
    from rich.text import Text

    coloured = Text(text)
    for pattern, style in _STYLES:
        for found in pattern.finditer(text):
            group = found.lastindex or 0
            coloured.stylize(style, *found.span(group))
    _console(stream).print(coloured, soft_wrap=True)


def table(
    title: str,
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    numbers: Sequence[int] = (),
    file: TextIO | None = None,
) -> None:
    """Print a table on standard error (or `file`); the columns `numbers` are set to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    stream = file or sys.stderr
    # The title is no part of the table, which would break it at its own width.
    say(title, stream)
    grid = Table(box=SIMPLE_HEAD)
    for position, name in enumerate(header):
        grid.add_column(name, justify="right" if position in numbers else "left", no_wrap=True)
    for row in rows:
        # Brackets in names are no markup.
        grid.add_row(*(cell.replace("[", r"\[") for cell in row))
    if stream.isatty() and not environment.NO_COLOR.get():
        _console(stream).print(grid)
        return
    plain = Console(width=_PIPE_WIDTH, color_system=None)
    with plain.capture() as captured:
        plain.print(grid)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    print("\n".join(line for line in lines if line), file=stream)


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    return Console(file=stream, highlight=False, markup=False)
