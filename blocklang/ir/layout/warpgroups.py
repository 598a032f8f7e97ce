"""Which part of a block each warpgroup holds, where that is a part of its own."""

from functools import lru_cache

from .linear import LinearLayout

WARP_BITS_OF_GROUP = 2
"""Bits of a warp's number inside its warpgroup: the others are the warpgroup's number."""


@lru_cache(maxsize=1024)
def warpgroup_steps(layout: LinearLayout) -> tuple[tuple[int, int], ...] | None:
    """Return, for each bit of a warpgroup's number, the axis along which it moves and by how many
    elements, a power of two: the warpgroups with that bit hold the elements whose coordinate has
    the bit of that step. None where what warpgroups hold is mixed, or held by several.
    """
    steps = []
    others = [basis for dim in layout.in_dims if dim != "warp" for basis in layout.bases_of(dim)]
    warps = layout.bases_of("warp")
    for number, basis in enumerate(warps[WARP_BITS_OF_GROUP:], WARP_BITS_OF_GROUP):
        moved = [(axis, step) for axis, step in enumerate(basis) if step]
        if len(moved) != 1 or moved[0][1].bit_count() != 1:
            return None
        axis, step = moved[0]
        rest = [*others, *warps[:number], *warps[number + 1 :]]
        if any(each[axis] & step for each in rest):
            return None
        steps.append((axis, step))
    return tuple(steps)
