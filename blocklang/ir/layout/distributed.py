"""Constructors of register layouts: how a block is spread over the threads of a program.

Each returns a `LinearLayout` with the in-dims `register`, `lane` and `warp`; nothing else in the
compiler needs to know which constructor made it. Tensor-core layouts are in `tensor_core.py`.
"""

from collections.abc import Sequence
from functools import lru_cache

from .linear import LinearLayout
from .linear_map import WARP_SIZE, Bases, log2


def level(dim: str, sizes: Sequence[int], order: Sequence[int]) -> LinearLayout:
    """Return the layout that walks a box of `sizes` with one in-dim, axis `order[0]` fastest."""
    if sorted(order) != list(range(len(sizes))):
        raise ValueError(f"{tuple(order)} is no permutation of {len(sizes)} axes")
    bases = tuple(
        tuple((1 << bit) if other == axis else 0 for other in range(len(sizes)))
        for axis in order
        for bit in range(log2(sizes[axis]))
    )
    return LinearLayout(((dim, bases),), tuple(sizes))


def cover(tile: LinearLayout, shape: Sequence[int], order: Sequence[int]) -> LinearLayout:
    """Fit a tile to a tensor.

    Along an axis where the tile is larger, the tensor repeats: bases outside it lose that
    coordinate, often leaving zero, which means replicas. Where the tile is smaller, registers are
    added that step through the tensor tile by tile, axis `order[0]` fastest.
    """
    shape = tuple(shape)
    if len(shape) != tile.rank:
        raise ValueError(f"a tile of rank {tile.rank} cannot cover the shape {shape}")
    inside = tuple(min(a, b) for a, b in zip(tile.shape, shape, strict=True))

    def wrap(bases: Bases) -> Bases:
        return tuple(tuple(c % n for c, n in zip(basis, inside, strict=True)) for basis in bases)

    wrapped = LinearLayout(tuple((dim, wrap(bases)) for dim, bases in tile.bases), inside)
    repeats = [a // b for a, b in zip(shape, inside, strict=True)]
    return wrapped.product(level("register", repeats, order))


@lru_cache(maxsize=1024)
def _blocked(
    shape: tuple[int, ...],
    size_per_thread: tuple[int, ...],
    threads_per_warp: tuple[int, ...],
    warps_per_cta: tuple[int, ...],
    order: tuple[int, ...],
) -> LinearLayout:
    tile = level("register", size_per_thread, order)
    tile = tile.product(level("lane", threads_per_warp, order))
    return cover(tile.product(level("warp", warps_per_cta, order)), shape, order)


def blocked(
    shape: Sequence[int],
    size_per_thread: Sequence[int],
    threads_per_warp: Sequence[int],
    warps_per_cta: Sequence[int],
    order: Sequence[int],
) -> LinearLayout:
    """Spread a tensor as boxes of registers in a thread, threads in a warp, warps in a program.

    All arguments have one power of two per axis; `order` lists the axes from the fastest one, for
    each level. A tensor smaller than the box is replicated, a larger one takes more registers.
    """
    arguments = (shape, size_per_thread, threads_per_warp, warps_per_cta, order)
    if len({len(argument) for argument in arguments}) != 1:
        raise ValueError(f"the arguments of blocked{arguments} differ in rank")
    return _blocked(
        tuple(shape),
        tuple(size_per_thread),
        tuple(threads_per_warp),
        tuple(warps_per_cta),
        tuple(order),
    )


def replicated(shape: Sequence[int], num_warps: int) -> LinearLayout:
    """Return the layout in which every thread holds the whole tensor, row-major in registers."""
    nothing = (0,) * len(shape)
    everything = level("register", shape, range(len(shape))[::-1])
    return LinearLayout(
        (
            *everything.bases,
            ("lane", (nothing,) * log2(WARP_SIZE)),
            ("warp", (nothing,) * log2(num_warps)),
        ),
        everything.shape,
    )


def sliced(parent: LinearLayout, axis: int) -> LinearLayout:
    """Return the layout of a tensor whose `expand_dims(axis)` shall have no data to move."""
    return parent.slice(axis)
