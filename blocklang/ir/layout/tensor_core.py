"""Constructors of tensor-core layouts: the fragments of `mma.sync` and `wgmma`.

With g = lane / 4 and t = lane % 4, the accumulator of m16n8 has register i at row g + 8 (i / 2),
column 2t + i % 2; operands pack 32 bits of the K axis into each 32-bit register. The instruction
tile is multiplied by warps, then by registers up to the shape; a tensor smaller than that is
replicated. Matrices are (M, N) for accumulators, (M, K) for operand `a`, (K, N) for operand `b`.
Products of 64-bit elements are m8n8k4: half the rows, and one element of an operand a lane.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

from .distributed import cover, level
from .linear import LinearLayout
from .linear_map import log2

_WARPS_IN_GROUP = 4


def _accumulator_tile(columns: int, rows: int = 16) -> LinearLayout:
    """Return the `rows` (8 or 16) x `columns` piece of an accumulator that one warp holds."""
    wider = [(0, 1 << bit) for bit in range(3, log2(columns))]
    return LinearLayout.of(
        (rows, columns),
        register=[(0, 1), *([(8, 0)] if rows == 16 else []), *wider],
        lane=[(0, 2), (0, 4), (1, 0), (2, 0), (4, 0)],
    )


def _operand_tile(operand: Literal["a", "b"], element_bits: int) -> LinearLayout:
    """Return the piece of an operand (16 x K or K x 8, K = 256 bits) that one warp holds."""
    if element_bits == 64:
        if operand == "a":
            return LinearLayout.of((8, 4), lane=[(0, 1), (0, 2), (1, 0), (2, 0), (4, 0)])
        return LinearLayout.of((4, 8), lane=[(1, 0), (2, 0), (0, 1), (0, 2), (0, 4)])
    if element_bits not in (8, 16, 32):
        raise ValueError(f"no tensor-core operand has elements of {element_bits} bits")
    packed = 32 // element_bits
    within = [1 << bit for bit in range(log2(packed))]
    depth = 8 * packed
    if operand == "a":
        return LinearLayout.of(
            (16, depth),
            register=[*((0, k) for k in within), (8, 0), (0, 4 * packed)],
            lane=[(0, packed), (0, 2 * packed), (1, 0), (2, 0), (4, 0)],
        )
    return LinearLayout.of(
        (depth, 8),
        register=[*((k, 0) for k in within), (4 * packed, 0)],
        lane=[(packed, 0), (2 * packed, 0), (0, 1), (0, 2), (0, 4)],
    )


def _spread(
    tile: LinearLayout, warps: Sequence[int], order: Sequence[int], axes: Sequence[bool]
) -> LinearLayout:
    """Multiply a tile by warps; along an axis that `axes` excludes, they hold replicas."""
    walk = level("warp", warps, order)
    kept = tuple(
        tuple(c if used else 0 for c, used in zip(basis, axes, strict=True))
        for basis in walk.bases_of("warp")
    )
    sizes = tuple(count if used else 1 for count, used in zip(warps, axes, strict=True))
    return tile.product(LinearLayout((("warp", kept),), sizes))


@lru_cache(maxsize=1024)
def mma_accumulator(shape: tuple[int, int], warps: tuple[int, int], rows: int = 16) -> LinearLayout:
    """Return the layout of the m16n8 (`rows` = 8: m8n8) accumulators of `warps` along M and N (N
    fastest).
    """
    tile = _spread(_accumulator_tile(8, rows), warps, (1, 0), (True, True))
    return cover(tile, shape, (1, 0))


@lru_cache(maxsize=1024)
def dot_operand(
    operand: Literal["a", "b"], shape: tuple[int, int], warps: tuple[int, int], element_bits: int
) -> LinearLayout:
    """Return the layout of an `mma.sync` operand for accumulators spread over the same `warps`.

    Warps that share a row (operand `a`) or a column (operand `b`) of accumulators hold replicas.
    Registers beyond one instruction step along K first.
    """
    is_a = operand == "a"
    tile = _spread(_operand_tile(operand, element_bits), warps, (1, 0), (is_a, not is_a))
    return cover(tile, shape, (1, 0) if is_a else (0, 1))


def _check_warpgroup(warps: tuple[int, int]) -> None:
    if warps[0] % _WARPS_IN_GROUP:
        raise ValueError(f"wgmma needs a multiple of 4 warps along M, got {warps}")


@lru_cache(maxsize=1024)
def wgmma_accumulator(
    shape: tuple[int, int], warps: tuple[int, int], instruction_n: int
) -> LinearLayout:
    """Return the layout of m64nNk* accumulators, N = `instruction_n`.

    The four warps of a warpgroup hold 16 rows each; `warps` run along M first. `instruction_n`
    must be a power of two from 8 to 256.
    """
    _check_warpgroup(warps)
    if not 8 <= instruction_n <= 256:
        raise ValueError(f"wgmma has no instruction with {instruction_n} columns")
    tile = _spread(_accumulator_tile(instruction_n), warps, (0, 1), (True, True))
    return cover(tile, shape, (1, 0))


@lru_cache(maxsize=1024)
def wgmma_operand_a(
    shape: tuple[int, int], warps: tuple[int, int], element_bits: int
) -> LinearLayout:
    """Return the layout of operand `a` (M, K) of wgmma in registers.

    For 16-bit elements this equals the accumulator layout of the same shape, so that the result
    of one product feeds the next without moving.
    """
    _check_warpgroup(warps)
    tile = _spread(_operand_tile("a", element_bits), warps, (0, 1), (True, False))
    return cover(tile, shape, (1, 0))
