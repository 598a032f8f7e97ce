"""Shared memory moved as 8 x 8 matrices: which layouts `ldmatrix` and `stmatrix` serve.

These instructions move up to four matrices of eight rows with 16 bytes each. A lane names the
address of one row; of matrix j, lane l then has, in word j, the four bytes at 4 (l % 4) of row
l / 4. With `transposed` the matrices are of 16-bit elements, and lane l has those of rows
2 (l % 4) and 2 (l % 4) + 1 in column l / 4.

Whether a pair of layouts is such a movement is read off the images of the register and lane bits
in the buffer's offsets; no constructor of layouts is known here. `best_shared` chooses a buffer's
layout with these instructions in mind.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

from . import gf2
from .linear import LinearLayout
from .linear_map import log2
from .shared import (
    MAX_ACCESS_BITS,
    bank_conflicts,
    max_vector,
    offset_bases,
    shared_linear,
    shared_tile,
)
from .swizzle import best_access, optimal_shared

_LANE_BITS = 5
_ROW_BITS = 128
_WORD_BITS = 32
_BANKS_BYTES = 128


@dataclass(frozen=True)
class MatrixAccess:
    """How a block is moved as matrices.

    Instruction `i` moves `count` matrices, of which matrix `j` gives each thread a word with the
    registers `words[i][j]`, in order. The row that a lane names starts at offset `offsets[i]` XOR
    the `lane` and `warp` bases that the set bits of its lane and warp select.
    """

    transposed: bool
    count: int
    words: tuple[tuple[tuple[int, ...], ...], ...]
    offsets: tuple[int, ...]
    lane: tuple[int, ...]
    warp: tuple[int, ...]


@lru_cache(maxsize=1024)
def matrix_access(
    registers: LinearLayout, shared: LinearLayout, element_bits: int
) -> MatrixAccess | None:
    """Return how a block in layout `registers` is moved as matrices, or None if it cannot be."""
    if element_bits not in (8, 16, 32):
        return None
    bases = offset_bases(registers, shared)
    register, warp = bases.get("register", ()), bases.get("warp", ())
    lane = bases.get("lane", ())
    if len(lane) != _LANE_BITS or gf2.rank(register) != len(register):
        return None
    rows = _rows(register, lane, element_bits)
    packed = log2(_WORD_BITS // element_bits)
    others = register[packed:]
    row = _ROW_BITS // element_bits
    if rows is None or any(image % row for image in (*rows, *others, *warp)):
        return None
    chosen = min(len(others), 2)
    addresses = (*rows, *others[:chosen], *(0,) * (2 - chosen))
    words, offsets = [], []
    for instruction in range(1 << (len(others) - chosen)):
        first = [(instruction << chosen | matrix) << packed for matrix in range(1 << chosen)]
        words.append(tuple(tuple(range(f, f + (1 << packed))) for f in first))
        offsets.append(gf2.apply(others[chosen:], instruction))
    transposed = rows != lane[2:]
    return MatrixAccess(
        transposed, 1 << chosen, tuple(words), tuple(offsets), addresses, tuple(warp)
    )


def _rows(
    register: Sequence[int], lane: Sequence[int], element_bits: int
) -> tuple[int, ...] | None:
    """Return the offsets of the rows 1, 2 and 4 of each matrix, None if there are no matrices."""
    packed = _WORD_BITS // element_bits
    within = tuple(1 << bit for bit in range(log2(packed)))
    if tuple(register[: len(within)]) == within and tuple(lane[:2]) == (packed, 2 * packed):
        return tuple(lane[2:])
    if element_bits == 16 and register and tuple(lane[2:]) == (1, 2, 4):
        return register[0], lane[0], lane[1]
    return None


def matrix_cost(access: MatrixAccess, element_bits: int) -> float:
    """Return the price per element, in the measure of `best_access`."""
    rows = [basis * element_bits // 8 for basis in access.lane[:3]]
    conflicts = 1 << (gf2.rank(rows) - gf2.rank(row % _BANKS_BYTES for row in rows))
    return (access.count * conflicts + 1) / (access.count * _WORD_BITS // element_bits)


def prefers_matrices(registers: LinearLayout, shared: LinearLayout, element_bits: int) -> bool:
    """Whether moving matrices costs less than the best vectors do."""
    access = matrix_access(registers, shared, element_bits)
    if access is None:
        return False
    return matrix_cost(access, element_bits) < best_access(registers, shared, element_bits)[1]


@lru_cache(maxsize=1024)
def best_shared(
    source: LinearLayout,
    target: LinearLayout,
    element_bits: int,
    copied: int = 0,
    stores_matrices: bool = False,
) -> LinearLayout:
    """Return the layout of the buffer through which `source` becomes `target` at the least cost.

    With `copied`, the source is written by asynchronous copies of that many consecutive elements.
    `stores_matrices` says that `stmatrix` may write.
    """
    bits = max(element_bits, 8)
    options: list[tuple[float, LinearLayout]] = []
    candidates = _candidates(source, target, bits)
    # At equal cost: with copies, the plain rows first, whose addresses differ by additions.
    for layout in reversed(candidates) if copied else candidates:
        if copied > copied_elements(source, layout):
            continue
        if copied:
            conflicts = bank_conflicts(source, layout, bits, copied)
            words = max(copied * bits // _WORD_BITS, 1)
            store = (words * conflicts + 1) / copied
        else:
            if layout is not candidates[0] and not _moves_matrices(source, target, layout, bits):
                continue
            store = _cost(source, layout, bits, stores_matrices)
        options.append((store + _cost(target, layout, bits, True), layout))
    return min(options, key=lambda option: option[0])[1]


@lru_cache(maxsize=1024)
def copied_elements(registers: LinearLayout, shared: LinearLayout) -> int:
    """Return how many elements in consecutive registers lie one behind the other in the buffer,
    in order: what one copy from memory to the buffer may move.
    """
    width = 1
    for image in offset_bases(registers, shared).get("register", ()):
        if image != width:
            break
        width *= 2
    return min(width, max_vector(registers, shared))


def _candidates(
    source: LinearLayout, target: LinearLayout, element_bits: int
) -> list[LinearLayout]:
    """Return the layout that suits vectors best, and rows of 16-byte pieces in all swizzles."""
    shape = source.shape
    found = [optimal_shared(source, target, element_bits).layout]
    piece = MAX_ACCESS_BITS // element_bits
    for order in permutations(range(len(shape))):
        if list(order[1:]) != sorted(order[1:], reverse=True):
            continue
        if shape[order[0]] < piece:
            found.append(shared_linear(shape, order))
            continue
        row = shape[order[0]] * element_bits // 8
        widths = [width for width in (32, 64, 128) if width <= row and len(shape) > 1] or [0]
        found += [shared_tile(shape, order, element_bits, width) for width in widths]
    return list(dict.fromkeys(found))


def _moves_matrices(
    source: LinearLayout, target: LinearLayout, shared: LinearLayout, element_bits: int
) -> bool:
    return any(matrix_access(side, shared, element_bits) for side in (source, target))


def _cost(
    registers: LinearLayout, shared: LinearLayout, element_bits: int, matrices: bool
) -> float:
    _, cost = best_access(registers, shared, element_bits)
    access = matrix_access(registers, shared, element_bits) if matrices else None
    return cost if access is None else min(cost, matrix_cost(access, element_bits))
