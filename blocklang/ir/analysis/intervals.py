"""Arithmetic on intervals of unbounded integers. Nothing here knows of types, widths or values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """The integers from `low` to `high`, both included; never empty."""

    low: int
    high: int

    def __post_init__(self) -> None:
        assert self.low <= self.high

    def __contains__(self, number: int) -> bool:
        return self.low <= number <= self.high

    def includes(self, other: Range) -> bool:
        """Whether all of `other` lies in this range."""
        return self.low <= other.low and other.high <= self.high

    def join(self, other: Range) -> Range:
        """The smallest range that includes both."""
        return Range(min(self.low, other.low), max(self.high, other.high))

    def meet(self, other: Range) -> Range | None:
        """What both have in common, if anything."""
        low, high = max(self.low, other.low), min(self.high, other.high)
        return Range(low, high) if low <= high else None


def hull(numbers: Iterable[int]) -> Range:
    """The smallest range with all these numbers."""
    found = list(numbers)
    return Range(min(found), max(found))


def add(x: Range, y: Range) -> Range:
    """All x + y."""
    return Range(x.low + y.low, x.high + y.high)


def subtract(x: Range, y: Range) -> Range:
    """All x - y."""
    return Range(x.low - y.high, x.high - y.low)


def multiply(x: Range, y: Range) -> Range:
    """All x * y."""
    return hull(a * b for a in (x.low, x.high) for b in (y.low, y.high))


def divide(x: Range, y: Range) -> Range | None:
    """All x / y, truncated, y other than 0; None where y can only be 0."""
    divisors = [b for b in {y.low, y.high, -1, 1} if b in y and b != 0]
    if not divisors:
        return None
    # For divisors of one sign the quotient is monotonic in both.
    return hull(_truncate(a, b) for a in (x.low, x.high) for b in divisors)


def remainder(x: Range, y: Range) -> Range | None:
    """All x - trunc(x / y) * y, y other than 0; None where y can only be 0."""
    largest = max(abs(y.low), abs(y.high)) - 1
    if largest < 0:
        return None
    smallest = y.low if y.low > 0 else -y.high if y.high < 0 else 1
    if max(abs(x.low), abs(x.high)) < smallest:
        return x
    return Range(max(min(x.low, 0), -largest), min(max(x.high, 0), largest))


def negate(x: Range) -> Range:
    """All -x."""
    return Range(-x.high, -x.low)


def absolute(x: Range) -> Range:
    """All |x|."""
    low = 0 if 0 in x else min(abs(x.low), abs(x.high))
    return Range(low, max(abs(x.low), abs(x.high)))


def minimum(x: Range, y: Range) -> Range:
    """All min(x, y)."""
    return Range(min(x.low, y.low), min(x.high, y.high))


def maximum(x: Range, y: Range) -> Range:
    """All max(x, y)."""
    return Range(max(x.low, y.low), max(x.high, y.high))


def bit_and(x: Range, y: Range) -> Range | None:
    """All x & y, where one is never negative."""
    bounds = [each.high for each in (x, y) if each.low >= 0]
    return Range(0, min(bounds)) if bounds else None


def bit_or(x: Range, y: Range) -> Range | None:
    """All x | y of numbers that are never negative."""
    top = bit_xor(x, y)
    return Range(max(x.low, y.low), top.high) if top is not None else None


def bit_xor(x: Range, y: Range) -> Range | None:
    """All x ^ y of numbers that are never negative."""
    if x.low < 0 or y.low < 0:
        return None
    return Range(0, (1 << max(x.high, y.high).bit_length()) - 1)


def shift_left(x: Range, amount: Range) -> Range:
    """All x << amount."""
    return hull(a << b for a in (x.low, x.high) for b in (amount.low, amount.high))


def shift_right(x: Range, amount: Range) -> Range:
    """All x >> amount, rounded down."""
    return hull(a >> b for a in (x.low, x.high) for b in (amount.low, amount.high))


def compare(predicate: str, x: Range, y: Range) -> bool | None:
    """Whether x `predicate` y always or never holds; None where it depends."""
    match predicate:
        case "lt":
            return True if x.high < y.low else False if x.low >= y.high else None
        case "le":
            return True if x.high <= y.low else False if x.low > y.high else None
        case "gt":
            return compare("lt", y, x)
        case "ge":
            return compare("le", y, x)
        case "ne":
            equal = compare("eq", x, y)
            return None if equal is None else not equal
    if x.meet(y) is None:
        return False
    return True if x == y and x.low == x.high else None


def refine(predicate: str, x: Range, y: Range) -> tuple[Range, Range] | None:
    """What remains of x and y if x `predicate` y holds; None if it cannot."""
    match predicate:
        case "gt" | "ge":
            swapped = refine("lt" if predicate == "gt" else "le", y, x)
            return (swapped[1], swapped[0]) if swapped is not None else None
        case "lt" | "le":
            gap = int(predicate == "lt")
            if x.low + gap > y.high:
                return None
            return Range(x.low, min(x.high, y.high - gap)), Range(max(y.low, x.low + gap), y.high)
        case "eq":
            common = x.meet(y)
            return (common, common) if common is not None else None
    left, right = _without(x, y), _without(y, x)
    return (left, right) if left is not None and right is not None else None


def _without(x: Range, y: Range) -> Range | None:
    """x without the single number y, where that is at one of its ends."""
    if y.low != y.high:
        return x
    low, high = x.low + (x.low == y.low), x.high - (x.high == y.low)
    return Range(low, high) if low <= high else None


def _truncate(a: int, b: int) -> int:
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient
