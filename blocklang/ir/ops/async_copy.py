"""Copies from global to shared memory that run beside the threads, in groups.

Each thread starts its copies, closes groups of them with `async_commit`, and waits with
`async_wait` until but the last few groups are done; what other threads have copied is there after
a barrier behind their waits. Buffers of several slots are used in turn: a slot's number is an
integer that loops carry, and `next_slot` the only step that it takes, so that it can be proved
which slots differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blocklang.ir.core import Argument, Value
from blocklang.ir.op import Effect, Op, attribute, operand, output, require
from blocklang.ir.types import SharedType, Type, element_type, i32, shape_of

from .control import For
from .memory import MemoryAccess
from .program import constant_value


class AsyncCopy(MemoryAccess, mnemonic="async_copy", effects=Effect.READ | Effect.WRITE_SHARED):
    """Starts the copy of the elements at `pointer` to `buffer`; where the mask fails, zeros are
    written. Belongs to the group that the next `async_commit` closes.

    The threads hold the addresses in some layout; `vector` of them follow each other in the buffer
    as in memory, and have 4, 8 or 16 bytes together.
    """

    buffer: Value = operand(kw_only=True)

    def check(self) -> None:
        super().check()
        kind = self.buffer.type
        require(isinstance(kind, SharedType) and kind.depth == 1, "the last operand is a slot")
        require(shape_of(kind) == shape_of(self.pointer.type), "slot and pointer have one shape")
        require(element_type(kind) == element_type(self.accessed), "slot and pointer agree")


class AsyncCommit(Op, mnemonic="async_commit", effects=Effect.OBSERVABLE):
    """Closes a group: the copies that the thread has started since the last one, if any."""


class AsyncWait(Op, mnemonic="async_wait", effects=Effect.OBSERVABLE):
    """Waits until at most `groups` of the groups that this thread has closed last are under way."""

    groups: int = attribute(default=0)

    def check(self) -> None:
        require(self.groups >= 0, "groups is not negative")


class NextSlot(Op, mnemonic="next_slot"):
    """The number of the slot `by` steps after slot `index` of `depth`: (index + by) mod depth."""

    index: Value = operand()
    depth: int = attribute()
    by: int = attribute(default=1)
    result = output()

    def infer(self) -> Sequence[Type]:
        return [i32]

    def check(self) -> None:
        require(self.index.type == i32, "the index is i32")
        require(0 < self.by < self.depth, "by is between 0 and depth")


@dataclass(frozen=True)
class SlotNumber:
    """A slot's number as (`start` + `steps`) mod depth, where `start` is a number or what a loop
    carries; that grows by `advance` in each iteration.
    """

    start: Argument | int
    steps: int
    advance: int = 0


def slot_number(index: Value) -> SlotNumber | None:
    """What is known of a slot's number: None for what neither is a number nor a value that a loop
    carries and only `next_slot` changes, nor what the loop keeps of the iteration before.
    """
    start, steps = _steps_from(index)
    known = constant_value(start)
    if known is not None:
        return SlotNumber(int(known), steps)
    if not isinstance(start, Argument) or start.index == 0 or _loop_of(start) is None:
        return None
    before, advance = _steps_from(_yielded(start))
    if before is start:
        return SlotNumber(start, steps, advance)
    return _slot_before(start, before, advance, steps)


def _slot_before(start: Argument, source: Value, taken: int, steps: int) -> SlotNumber | None:
    """What is known of `start` + `steps`, if `start` is what `source` + `taken` was one iteration
    before, and begins as though there had been one.
    """
    loop = _loop_of(start)
    if loop is None or not isinstance(source, Argument) or source.block is not start.block:
        return None
    if source.index == 0:
        return None
    last = _yielded(source)
    before, advance = _steps_from(last)
    if before is not source or not isinstance(last.owner, NextSlot):
        return None
    depth = last.owner.depth
    behind = (taken - advance) % depth
    begin, first = (slot_number(loop.initial[each.index - 1]) for each in (start, source))
    if begin is None or first is None:
        return None
    if not isinstance(begin.start, int) or not isinstance(first.start, int):
        return None
    distance = begin.start + begin.steps - first.start - first.steps - behind
    return SlotNumber(source, steps + behind, advance) if distance % depth == 0 else None


def _loop_of(argument: Argument) -> For | None:
    region = argument.block.region
    return region.op if region is not None and isinstance(region.op, For) else None


def _yielded(argument: Argument) -> Value:
    """What a loop carries into the next iteration."""
    return argument.block.terminator.operands[argument.index - 1]


def _steps_from(index: Value) -> tuple[Value, int]:
    steps = 0
    while isinstance(index.owner, NextSlot):
        steps += index.owner.by
        index = index.owner.index
    return index, steps
