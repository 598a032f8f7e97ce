"""The shared-memory layout that serves a given pair of register layouts best.

A value stored from one register layout and loaded into another passes through a buffer whose
layout is free. `optimal_shared` picks one with the widest vectors that suit both sides and, given
those, without bank conflicts on either side. The construction follows "Linear Layouts" (Zhou et
al., 2025): the offset bits are, from the lowest, the *vector* (elements that both sides have in
one thread), the *bank* and the *segment*. Two lanes conflict when they differ only in the
segment, so the segment avoids what the lanes of either side span; where one side's lanes run
along what the other side has elsewhere, the sum of the two directions does: an XOR swizzle.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest

from . import gf2
from .linear import LinearLayout
from .linear_map import WARP_SIZE, log2
from .shared import MAX_ACCESS_BITS, bank_conflicts, max_vector

_ROW_BITS = 1024


@dataclass(frozen=True)
class OptimalShared:
    """A shared layout with the number of bits that each side moves per lane and access."""

    layout: LinearLayout
    store_vector_bits: int
    load_vector_bits: int


@lru_cache(maxsize=1024)
def optimal_shared(source: LinearLayout, target: LinearLayout, element_bits: int) -> OptimalShared:
    """Return the layout of the buffer through which `source` becomes `target`.

    Both layouts must hold every element of the same shape. Elements narrower than a byte count as
    one byte each.
    """
    if source.shape != target.shape:
        raise ValueError(f"{source} and {target} differ in shape")
    element_bits = max(element_bits, 8)
    vector = _vector_basis(source, target, element_bits)
    space = _Complement(vector, source, target)
    bank_bits = max(log2(_ROW_BITS // element_bits) - len(vector), 0)
    bank, segment = _banks_and_segment(space, len(vector), bank_bits, element_bits)
    layout = LinearLayout.from_flat(source.shape, {"offset": (*vector, *bank, *segment)})
    return OptimalShared(
        layout,
        _access_bits(source, layout, element_bits, 1 << len(vector)),
        _access_bits(target, layout, element_bits, 1 << len(vector)),
    )


def _thread_bases(layout: LinearLayout) -> tuple[int, ...]:
    """Return the bases of everything but the registers."""
    return layout.flat_bases(*(dim for dim in layout.in_dims if dim != "register"))


def _vector_basis(source: LinearLayout, target: LinearLayout, element_bits: int) -> tuple[int, ...]:
    """Return the directions that are registers on both sides, at most one access's worth.

    Directions that threads also move along are left out: the order of the elements in a vector
    would depend on the thread.
    """
    common = gf2.intersection(source.flat_bases("register"), target.flat_bases("register"))
    threads = gf2.independent((*_thread_bases(source), *_thread_bases(target)))
    usable = gf2.independent(common, modulo=threads)
    return usable[: log2(MAX_ACCESS_BITS // element_bits)]


class _Complement:
    """The space of all elements along which vectors start: a complement of the vector basis.

    It is chosen to contain all that the threads of both sides span, so that every thread's
    vectors are aligned.
    """

    def __init__(self, vector: tuple[int, ...], source: LinearLayout, target: LinearLayout) -> None:
        self._vector_mask = (1 << len(vector)) - 1
        threads = (*_thread_bases(source), *_thread_bases(target))
        units = [1 << bit for bit in range(source.out_bits)]
        self._all = (*vector, *gf2.independent((*threads, *units), modulo=vector))
        self._coordinates = gf2.Span(self._all)
        self.basis = tuple(self.project(unit) for unit in units)
        self.source_lanes = source.flat_bases("lane")
        self.target_lanes = target.flat_bases("lane")

    def project(self, flat: int) -> int:
        """Return the vector start in whose direction `flat` lies."""
        combination = self._coordinates.solve(flat)
        assert combination is not None, "the basis spans every element"
        return gf2.apply(self._all, combination & ~self._vector_mask)


def _banks_and_segment(
    space: _Complement, vector_bits: int, bank_bits: int, element_bits: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Split the vector starts into directions across the banks and directions along one bank."""
    access_words = max((element_bits << vector_bits) // 32, 1)
    together = log2(WARP_SIZE) - log2(access_words)
    source_lanes = gf2.independent(space.source_lanes[:together])
    target_lanes = gf2.independent(space.target_lanes[:together])
    both = gf2.intersection(source_lanes, target_lanes)
    only_source = gf2.independent(source_lanes, modulo=both)
    only_target = gf2.independent(target_lanes, modulo=both)
    lanes = (*both, *only_source, *only_target)
    neither = gf2.independent(space.basis, modulo=lanes)

    # No sum of these directions stays within the lanes of one side, so they never conflict.
    pairs = [a ^ b for a, b in zip(only_source, only_target, strict=False)]
    size = max(len(lanes) + len(neither) - bank_bits, 0)
    slowest = neither[max(len(neither) - size, 0) :]
    segment = (*slowest, *pairs[: size - len(slowest)])
    interleaved = [
        lane for pair in zip_longest(only_source, only_target) for lane in pair if lane is not None
    ]
    bank = gf2.independent((*both, *interleaved, *neither), modulo=segment)
    return bank, segment


def _access_bits(
    registers: LinearLayout, shared: LinearLayout, element_bits: int, vector: int
) -> int:
    """Return the width of the widest access without conflicts, at least that of `vector`."""
    widest = min(max_vector(registers, shared), MAX_ACCESS_BITS // element_bits)
    while widest > vector and bank_conflicts(registers, shared, element_bits, widest) > 1:
        widest //= 2
    return widest * element_bits
