"""Blocks in equal pieces along an axis, of which every thread has the same share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from .linear import LinearLayout
from .linear_map import log2


@dataclass(frozen=True)
class Pieces:
    """`layout` is that of every piece; `registers[p]` are the registers of the whole (or offsets)
    that hold piece `p`, in the order of the piece's own registers.
    """

    layout: LinearLayout
    registers: tuple[tuple[int, ...], ...]


@lru_cache(maxsize=1024)
def pieces(layout: LinearLayout, axis: int, count: int, dim: str = "register") -> Pieces | None:
    """Return the `count` pieces, a power of two, along `axis`. None where not each index of the
    other in-dims holds the same of all pieces, or where an index of `dim` moves along more than
    the number of the piece.
    """
    if layout.shape[axis] % count:
        return None
    size = layout.shape[axis] // count
    numbering: dict[int, int] = {}
    kept = []
    for bit, basis in enumerate(layout.bases_of(dim)):
        if basis[axis] < size:
            kept.append(bit)
        elif sum(basis) != basis[axis] or basis[axis].bit_count() != 1:
            return None
        else:
            numbering.setdefault(basis[axis] // size, 1 << bit)
    others = [basis for each in layout.in_dims if each != dim for basis in layout.bases_of(each)]
    if any(basis[axis] >= size for basis in others):
        return None
    if len(numbering) != log2(count) or len(kept) + len(numbering) != len(layout.bases_of(dim)):
        return None
    shape = (*layout.shape[:axis], size, *layout.shape[axis + 1 :])
    bases = {
        each: [b for i, b in enumerate(layout.bases_of(each)) if each != dim or i in kept]
        for each in layout.in_dims
    }
    within = _sums([1 << bit for bit in kept])
    first = _sums([numbering[1 << bit] for bit in range(log2(count))])
    registers = tuple(tuple(start + r for r in within) for start in first)
    return Pieces(LinearLayout.of(shape, **bases), registers)


def _sums(bits: list[int]) -> list[int]:
    """The sums of the subsets of `bits`, the first bit changing fastest."""
    found = [0]
    for bit in bits:
        found += [bit + each for each in found]
    return found
