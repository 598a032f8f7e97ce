"""The text form of layouts and the pictures of them.

The text form is one line, `layout<[8], register=[1], lane=[2, 4]>`, with `[row,col]` per basis
for rank 2 and so on; reading it back gives the same layout. Pictures enumerate every element:
they are for people, documentation and tests, never for compiling.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .linear_map import LinearMap

_LAYOUT = re.compile(r"layout<(\[[\d, ]*\])((?:, *\w+=\[[\d,\[\] ]*\])*)>")
_DIM = re.compile(r", *(\w+)=(\[[\d,\[\] ]*\])")

_REPLICAS_SHOWN = 4


def format_layout(
    shape: Sequence[int], bases: Sequence[tuple[str, Sequence[Sequence[int]]]]
) -> str:
    """Return the one-line text form."""

    def one(basis: Sequence[int]) -> str:
        return str(basis[0]) if len(shape) == 1 else f"[{','.join(map(str, basis))}]"

    parts = [f"[{', '.join(map(str, shape))}]"]
    parts += [f"{dim}=[{', '.join(map(one, of_dim))}]" for dim, of_dim in bases]
    return f"layout<{', '.join(parts)}>"


def parse_layout(source: str) -> tuple[list[int], dict[str, list[int | list[int]]]]:
    """Return (shape, bases per in-dim) of the text form; raise ValueError if it is not one."""
    match = _LAYOUT.fullmatch(source.strip())
    if match is None:
        raise ValueError(f"expected 'layout<[SHAPE], DIM=[BASES], ...>', got {source!r}")
    dims = _DIM.findall(match[2])
    if len({dim for dim, _ in dims}) != len(dims):
        raise ValueError(f"an in-dim is given twice in {source!r}")
    try:
        return json.loads(match[1]), {dim: json.loads(bases) for dim, bases in dims}
    except json.JSONDecodeError as error:
        raise ValueError(f"malformed list in {source!r}: {error}") from None


def draw(layout: LinearMap, logical_shape: tuple[int, ...]) -> str:
    """Return a table of the owner and the replicas of each element; see `LinearLayout.show`."""
    if len(logical_shape) != layout.rank:
        raise ValueError(f"the logical shape {logical_shape} has not the rank of {layout}")
    holders = _holders(layout)
    if layout.rank < 2:
        return _table(holders, (), (1, *logical_shape)[-2:], layout.rank)
    tables = []
    for prefix in itertools.product(*map(range, logical_shape[:-2])):
        table = _table(holders, prefix, logical_shape[-2:], layout.rank)
        title = "[" + ", ".join([*map(str, prefix), ":", ":"]) + "]\n"
        tables.append(title + table if prefix else table)
    return "\n\n".join(tables)


def _holders(layout: LinearMap) -> dict[tuple[int, ...], list[str]]:
    """Return the labels of all indices that hold each element, owners first."""
    holders: dict[tuple[int, ...], list[str]] = {}
    # The first in-dim runs slowest in `product`: reversed, replicas follow in flat order.
    dims = layout.in_dims[::-1]
    for values in itertools.product(*(range(layout.in_size(dim)) for dim in dims)):
        indices = dict(zip(dims, values, strict=True))
        label = _label(layout, indices)
        found = holders.setdefault(layout.apply(**indices), [])
        found.insert(0, label) if layout.owns(**indices) else found.append(label)
    return holders


def _label(layout: LinearMap, indices: dict[str, int]) -> str:
    if "offset" in indices:
        return f"@{indices['offset']}"
    thread = indices.get("lane", 0) + layout.in_size("lane") * indices.get("warp", 0)
    label = f"T{thread}:{indices.get('register', 0)}"
    return f"B{indices['block']}." + label if "block" in indices else label


def _table(
    holders: dict[tuple[int, ...], list[str]],
    prefix: tuple[int, ...],
    size: tuple[int, ...],
    rank: int,
) -> str:
    rows, columns = size if len(size) == 2 else (1, 1)

    def cell(row: int, column: int) -> str:
        found = holders.get((*prefix, row, column)[-rank:] if rank else (), ["-"])
        more = len(found) - _REPLICAS_SHOWN
        shown = "|".join(found[:_REPLICAS_SHOWN])
        return f"{shown}|+{more}" if more > 0 else shown

    cells = [[cell(row, column) for column in range(columns)] for row in range(rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(columns)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )
