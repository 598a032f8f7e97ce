"""Live intervals: from where to where, in the order of the text, a value must be kept.

Ops are numbered in order, those of regions between the start and the end of the op that holds
them. A value lives from its definition to its last use; where that use is inside a loop and the
definition is not, to the end of the loop, which may come back to the use. The branches of an `if`
follow each other, so that what lives in one only does not meet what lives in the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from blocklang.ir.core import Argument, Block, Function, Operation, Result, Value
from blocklang.ir.ops.control import If


@dataclass(frozen=True)
class Interval:
    """Positions from `start` up to, but without, `end`."""

    start: int
    end: int

    def interferes(self, other: Interval) -> bool:
        """Whether both values must be kept at some position."""
        return self.start < other.end and other.start < self.end


def live_intervals(function: Function, values: Iterable[Value]) -> dict[Value, Interval]:
    """The live interval of each of `values`, which are values of `function`."""
    positions = _Positions(function)
    return {value: positions.interval(value) for value in values}


class _Positions:
    """Where each op starts and ends."""

    def __init__(self, function: Function) -> None:
        self.start: dict[Operation, int] = {}
        self.end: dict[Operation, int] = {}
        self.next = 1
        self._number(function.block)

    def _number(self, block: Block) -> None:
        for op in block.ops:
            self.start[op] = self.next
            self.next += 1
            for region in op.regions:
                self._number(region.block)
            self.end[op] = self.next
            self.next += 1

    def interval(self, value: Value) -> Interval:
        """From the definition to the last use."""
        home = _home(value)
        if isinstance(value, Result):
            start = self.end[value.op]
        else:
            holder = home.region.op if home.region is not None else None
            start = 0 if holder is None else self.start[holder]
        uses = (self._last_use(user, home) for user in value.users)
        return Interval(start, max(uses, default=start + 1))

    def _last_use(self, user: Operation, home: Block) -> int:
        """The position of a use, or the end of the outermost loop that repeats it."""
        position = self.start[user]
        op: Operation | None = user
        while op is not None and op.parent is not home:
            op = op.parent_op
            # Whatever is not known to execute its regions once at most may repeat them.
            if op is not None and not isinstance(op, If):
                position = self.end[op]
        return position


def _home(value: Value) -> Block:
    """The block in which a value is defined."""
    if isinstance(value, Result):
        assert value.op.parent is not None
        return value.op.parent
    assert isinstance(value, Argument)
    return value.block
