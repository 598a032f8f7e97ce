"""prove-barriers: checks that shared memory is safe, without trusting the passes before it.

It shares no code and no method with `insert-barriers` or `allocate-shared`: the function becomes a
graph of single steps, with an edge wherever control may go (around loops, past loops that do not
run), and from each access a search follows all paths.

1. Up to the first barrier on a path, no access is reached that touches a common byte if one of the
   two writes.
2. From a store to one buffer no load of another one that shares bytes with it is reached without a
   store to the loaded buffer between: nobody reads what is left of another buffer.
3. Every buffer has its place, inside what the function asks for.

All three say that the compiler is wrong, not the kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from blocklang.ir.core import Block, Function, Module, Value
from blocklang.ir.errors import UnorderedSharedMemory
from blocklang.ir.op import Effect, IRError, Op
from blocklang.ir.ops.asynchronous import SharedSlot, SharedView, WarpSpecialize
from blocklang.ir.ops.control import If, While
from blocklang.ir.ops.shared import SharedAlloc
from blocklang.ir.types import SharedType

from .manager import Pass

_RELEVANT = Effect.READ_SHARED | Effect.WRITE_SHARED | Effect.SYNCHRONIZE


@dataclass(frozen=True)
class ProveBarriers(Pass):
    """Fail where accesses to shared memory are not ordered or buffers overwrite each other."""

    name: ClassVar[str] = "prove-barriers"

    def _run(self, module: Module) -> None:
        for function in module.functions.values():
            _check_places(function)
            for step in _steps(function):
                if step.op is not None and _touches_shared(step.op):
                    _prove(step, step.op)


@dataclass(eq=False)
class _Step:
    """A point that control passes, with an op or for joining paths only."""

    op: Op | None
    next: list[_Step] = field(default_factory=list)


def _steps(function: Function) -> list[_Step]:
    steps: list[_Step] = []
    _thread(function.block, _new(steps, None), steps)
    return steps


def _new(steps: list[_Step], op: Op | None, *before: _Step) -> _Step:
    step = _Step(op)
    steps.append(step)
    for each in before:
        each.next.append(step)
    return step


def _thread(block: Block, start: _Step, steps: list[_Step]) -> _Step:
    """Append the steps of a block behind `start`; the last one."""
    here = start
    for op in block.ops:
        assert isinstance(op, Op)
        if not op.regions and not op.effects & _RELEVANT:
            continue
        here = _new(steps, op, here)
        if isinstance(op, If):
            ends = [_thread(region.block, here, steps) for region in op.regions]
            here = _new(steps, None, *ends)
        elif isinstance(op, While):
            tested = _thread(op.before.block, here, steps)
            _thread(op.body.block, tested, steps).next.append(here)
            here = tested
        elif isinstance(op, WarpSpecialize):
            # The producer touches nothing but rings, of which `prove_rings` takes care.
            here = _thread(op.consumer.block, here, steps)
        else:
            # Each region may run any number of times, or never.
            for region in op.regions:
                _thread(region.block, here, steps).next.append(here)
    return here


def _search(start: _Step, stops: Callable[[Op], bool]) -> list[Op]:
    """The ops on all paths from `start`, itself only if reached again, up to ops that stop."""
    found: list[Op] = []
    seen: set[_Step] = set()
    pending = list(start.next)
    while pending:
        step = pending.pop()
        if step in seen:
            continue
        seen.add(step)
        if step.op is not None:
            if stops(step.op):
                continue
            found.append(step.op)
        pending += step.next
    return found


def _touches_shared(op: Op) -> bool:
    return bool(op.effects & (Effect.READ_SHARED | Effect.WRITE_SHARED))


def _prove(step: _Step, op: Op) -> None:
    for later in _search(step, lambda other: Effect.SYNCHRONIZE in other.effects):
        if _touches_shared(later) and Effect.WRITE_SHARED in op.effects | later.effects:
            common = _common_bytes(op, later)
            if common:
                raise _unordered(op, later, common)
    if Effect.WRITE_SHARED not in op.effects:
        return
    for buffer in _buffers(op):
        _prove_kept(step, buffer)


def _prove_kept(step: _Step, written: Value) -> None:
    """No load of another buffer finds what this store to `written` left."""
    rivals = {
        buffer
        for op in _search(step, lambda _: False)
        if Effect.READ_SHARED in op.effects
        for buffer in _buffers(op)
        if buffer is not written and _bytes(buffer) & _bytes(written)
    }
    for rival in rivals:

        def restores(op: Op, rival: Value = rival) -> bool:
            return Effect.WRITE_SHARED in op.effects and rival in _buffers(op)

        for op in _search(step, restores):
            if Effect.READ_SHARED in op.effects and rival in _buffers(op):
                raise IRError(f"%{rival.name} is overwritten by %{written.name} before it is read")


def _buffers(op: Op) -> list[Value]:
    return [_allocated(v) for v in op.operands if isinstance(v.type, SharedType)]


def _allocated(buffer: Value) -> Value:
    """The whole buffer of a slot or view."""
    while isinstance(buffer.owner, SharedSlot | SharedView):
        buffer = buffer.owner.buffer
    return buffer


@dataclass(frozen=True)
class _Bytes:
    """Bytes from `low` below `high`."""

    low: int
    high: int

    def __and__(self, other: _Bytes) -> _Bytes | None:
        low, high = max(self.low, other.low), min(self.high, other.high)
        return _Bytes(low, high) if low < high else None

    def __str__(self) -> str:
        return f"bytes {self.low} to {self.high - 1}"


_ANY = _Bytes(0, 1 << 62)


def _bytes(buffer: Value) -> _Bytes:
    """Where a buffer lies; a block argument may be any buffer."""
    op = buffer.owner
    if not isinstance(op, SharedAlloc):
        return _ANY
    assert isinstance(buffer.type, SharedType)
    return _Bytes(op.offset, op.offset + buffer.type.bytes)


def _common_bytes(first: Op, second: Op) -> _Bytes | None:
    for left in map(_bytes, _buffers(first)):
        for right in map(_bytes, _buffers(second)):
            if (common := left & right) is not None:
                return common
    unnamed = not _buffers(first) or not _buffers(second)
    return _ANY if unnamed else None


def _unordered(first: Op, second: Op, common: _Bytes) -> UnorderedSharedMemory:
    def verb(op: Op) -> str:
        return "written" if Effect.WRITE_SHARED in op.effects else "read"

    notes = (
        (f"{verb(first)} here by {first.mnemonic}", first.loc),
        (f"{verb(second)} here by {second.mnemonic}", second.loc),
    )
    return UnorderedSharedMemory(
        second.loc, notes, bytes=common, first=verb(first), second=verb(second)
    )


def _check_places(function: Function) -> None:
    total = int(function.attributes.get("shared_bytes", 0))
    for op in function.walk():
        if isinstance(op, SharedAlloc):
            place = _bytes(op.results[0])
            if place.low < 0 or place.high > total:
                raise IRError(f"{place} of a buffer are outside the {total} that are asked for")
