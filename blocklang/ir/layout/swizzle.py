"""The shared-memory layout that serves a given pair of register layouts best.

A value stored from one register layout and loaded into another passes through a buffer whose
layout is free. `optimal_shared` picks one with wide vectors and without bank conflicts on either
side. The construction follows "Linear Layouts" (Zhou et al., 2025): the offset bits are, from the
lowest, the *vector* (elements that both sides have in one thread), the *bank* and the *segment*.
Two lanes conflict when they differ only in the segment, so the segment avoids what the lanes of
either side span; where one side's lanes run along what the other side has elsewhere, the sum of
the two directions does: an XOR swizzle.

One addition: the lowest bank bits may be the *lead*, directions that are registers on one side
and lanes on the other (a transposition has no others). The first side then gets wider vectors and
the second still has no conflicts, since neighbouring lanes read neighbouring words. Both choices
of side and no lead at all are built, and the cheapest is taken.
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
    leads = [
        ((), ()),
        (_lead(space, source, target, element_bits), ()),
        ((), _lead(space, target, source, element_bits)),
    ]
    options = []
    for source_lead, target_lead in dict.fromkeys(leads):
        bank, segment = _banks_and_segment(space, source_lead, target_lead, element_bits)
        layout = LinearLayout.from_flat(source.shape, {"offset": (*vector, *bank, *segment)})
        store, store_cost = best_access(source, layout, element_bits)
        load, load_cost = best_access(target, layout, element_bits)
        options.append((store_cost + load_cost, OptimalShared(layout, store, load)))
    return min(options, key=lambda option: option[0])[1]


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
        self.vector_bits = len(vector)
        threads = (*_thread_bases(source), *_thread_bases(target))
        units = [1 << bit for bit in range(source.out_bits)]
        self._all = (*vector, *gf2.independent((*threads, *units), modulo=vector))
        self._coordinates = gf2.Span(self._all)
        self.basis = gf2.independent(self.project(unit) for unit in units)
        self.source_lanes = source.flat_bases("lane")
        self.target_lanes = target.flat_bases("lane")

    def project(self, flat: int) -> int:
        """Return the vector start in whose direction `flat` lies."""
        combination = self._coordinates.solve(flat)
        assert combination is not None, "the basis spans every element"
        return gf2.apply(self._all, combination >> self.vector_bits << self.vector_bits)


def _lead(
    space: _Complement, wide: LinearLayout, narrow: LinearLayout, element_bits: int
) -> tuple[int, ...]:
    """Return the directions that widen the vectors of one side at no cost to the other.

    They are registers of `wide` and lanes of `narrow`. To fill up a word of a bank, any register
    will do.
    """
    room = log2(MAX_ACCESS_BITS // element_bits) - space.vector_bits
    registers = gf2.independent(space.project(basis) for basis in wide.flat_bases("register"))
    lanes = narrow.flat_bases("lane")[: _lane_bits_together(space.vector_bits, element_bits)]
    shared = gf2.intersection(registers, lanes)[:room]
    missing = _bits_in_word(element_bits) - space.vector_bits - len(shared)
    return shared + gf2.independent(registers, modulo=shared)[: max(missing, 0)]


def _bits_in_word(element_bits: int) -> int:
    return max(log2(32) - log2(element_bits), 0)


def _lane_bits_together(vector_bits: int, element_bits: int) -> int:
    """Return the number of lane bits within the lanes that are served at once."""
    access_words = max((element_bits << vector_bits) // 32, 1)
    return log2(WARP_SIZE) - log2(access_words)


def _banks_and_segment(
    space: _Complement,
    source_lead: tuple[int, ...],
    target_lead: tuple[int, ...],
    element_bits: int,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Split the vector starts into directions across the banks and directions along one bank."""

    def lanes(bases: tuple[int, ...], lead: tuple[int, ...]) -> tuple[int, ...]:
        together = _lane_bits_together(space.vector_bits + len(lead), element_bits)
        return gf2.independent(bases[:together])

    source_lanes = lanes(space.source_lanes, source_lead)
    target_lanes = lanes(space.target_lanes, target_lead)
    lead = source_lead + target_lead
    missing = max(_bits_in_word(element_bits) - space.vector_bits - len(lead), 0)
    common = gf2.intersection(source_lanes, target_lanes)
    # Whatever lies within a word must not be left to the segment, so it counts as used by both.
    fill = gf2.independent((*common, *source_lanes, *target_lanes, *space.basis), modulo=lead)
    lead += fill[:missing]
    source_used = lead + gf2.independent(source_lanes, modulo=lead)
    target_used = lead + gf2.independent(target_lanes, modulo=lead)
    both = lead + gf2.independent(gf2.intersection(source_used, target_used), modulo=lead)
    only_source = gf2.independent(source_lanes, modulo=both)
    only_target = gf2.independent(target_lanes, modulo=both)
    used = (*both, *only_source, *only_target)
    neither = gf2.independent(space.basis, modulo=used)

    # No sum of these directions stays within what one side uses, so they never conflict.
    pairs = [a ^ b for a, b in zip(only_source, only_target, strict=False)]
    bank_bits = max(log2(_ROW_BITS // element_bits) - space.vector_bits, 0)
    size = max(len(used) + len(neither) - bank_bits, 0)
    slowest = neither[max(len(neither) - size, 0) :]
    segment = (*slowest, *pairs[: size - len(slowest)])
    interleaved = [
        lane for pair in zip_longest(only_source, only_target) for lane in pair if lane is not None
    ]
    bank = gf2.independent((*both, *interleaved, *neither), modulo=segment)
    return bank, segment


def best_access(
    registers: LinearLayout, shared: LinearLayout, element_bits: int
) -> tuple[int, float]:
    """Return the best access width in bits and its price per element.

    The price is the passes through the banks, one per word and conflict, plus the instruction.
    """
    widest = min(max_vector(registers, shared), MAX_ACCESS_BITS // element_bits)
    options = []
    for exponent in range(log2(widest), -1, -1):
        vector = 1 << exponent
        words = max(vector * element_bits // 32, 1)
        passes = words * bank_conflicts(registers, shared, element_bits, vector)
        options.append(((passes + 1) / vector, vector * element_bits))
    cost, bits = min(options, key=lambda option: option[0])
    return bits, cost
