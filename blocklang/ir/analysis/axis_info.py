"""What is known of a value along each of its dimensions: the facts of the axis analysis.

All numbers are powers of two. Cut the indices along an axis into aligned segments of `n` (the last
one may be cut off by the end of the block), all other indices fixed. Then along that axis

- contiguity n: within a segment each value is its predecessor plus one (a pointer: one element);
- constancy n: within a segment all values are equal;
- divisibility d: the first value of each segment of `contiguity` is a multiple of d. The
  divisibility of a pointer is in bytes, of its address.

Where the contiguity is 1, divisibility thus holds of every element. Values wrap around at the
width of their type: sums and multiples of two keep their low bits, so that divisibility stays true
(0 is divisible by all), and a contiguous run is contiguous modulo that power of two.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from blocklang.ir.layout import padded_shape
from blocklang.ir.types import PointerType, Type, element_type, shape_of

CAP = 1 << 30
"""No divisibility is claimed above this."""


def power_of_two_divisor(number: int) -> int:
    """The largest power of two that divides `number`, up to CAP; CAP for 0."""
    return min(number & -number, CAP) if number else CAP


@dataclass(frozen=True)
class AxisInfo:
    """The facts of one value: an entry for each dimension, one entry for a scalar.

    `constant` is the integer that every element equals, if known. `unit` is by how much values in
    a contiguous run rise: 1, or the bytes of an element for pointers.
    """

    contiguity: tuple[int, ...]
    divisibility: tuple[int, ...]
    constancy: tuple[int, ...]
    constant: int | None = None
    unit: int = 1

    @property
    def rank(self) -> int:
        """Number of entries."""
        return len(self.contiguity)

    def divisor(self, axis: int, run: int = 1) -> int:
        """What divides each element whose index along `axis` is a multiple of `run`."""
        known = self.divisibility[axis]
        return known if run >= self.contiguity[axis] else min(known, run * self.unit)

    @property
    def everywhere(self) -> int:
        """What divides every element."""
        return max(self.divisor(axis) for axis in range(self.rank))


def padded(type: Type) -> tuple[int, ...]:
    """The size of each dimension rounded up to a power of two; (1,) for a scalar."""
    return padded_shape(shape_of(type) or (1,))


def axis_info(
    type: Type,
    contiguity: Sequence[int],
    divisibility: Sequence[int],
    constancy: Sequence[int],
    constant: int | None = None,
) -> AxisInfo:
    """The facts of a value of `type`, cut to its sizes and to CAP.

    What divides every element is known along every axis, whichever axis it was found on.
    """
    sizes = padded(type)
    element = element_type(type)
    unit = element.element.bytes if isinstance(element, PointerType) else 1
    info = AxisInfo(
        tuple(map(min, contiguity, sizes)),
        tuple(min(d, CAP) for d in divisibility),
        tuple(map(min, constancy, sizes)),
        constant,
        unit,
    )
    everywhere = info.everywhere
    best = tuple(max(d, everywhere) for d in info.divisibility)
    return AxisInfo(info.contiguity, best, info.constancy, constant, unit)


def unknown(type: Type) -> AxisInfo:
    """What holds of every value of `type`."""
    ones = (1,) * len(padded(type))
    return axis_info(type, ones, ones, ones)


def uniform(type: Type, divisibility: int, constant: int | None = None) -> AxisInfo:
    """A value whose elements are all equal."""
    sizes = padded(type)
    return axis_info(type, (1,) * len(sizes), (divisibility,) * len(sizes), sizes, constant)


def combine(
    type: Type, contiguity: Sequence[int], constancy: Sequence[int], *terms: AxisInfo
) -> AxisInfo:
    """A value with these runs, divisible by what divides all `terms` at the start of each run."""
    divisibility = [
        min(term.divisor(axis, max(runs)) for term in terms)
        for axis, runs in enumerate(zip(contiguity, constancy, strict=True))
    ]
    return axis_info(type, contiguity, divisibility, constancy)


def least(*entries: Iterable[int]) -> tuple[int, ...]:
    """The minimum of each dimension."""
    return tuple(map(min, zip(*entries, strict=True)))


def most(*entries: Iterable[int]) -> tuple[int, ...]:
    """The maximum of each dimension."""
    return tuple(map(max, zip(*entries, strict=True)))


def join(type: Type, first: AxisInfo, second: AxisInfo) -> AxisInfo:
    """What holds of a value that is one of two."""
    info = combine(
        type,
        least(first.contiguity, second.contiguity),
        least(first.constancy, second.constancy),
        first,
        second,
    )
    if first.constant is None or first.constant != second.constant:
        return info
    return uniform(type, power_of_two_divisor(first.constant), first.constant)
