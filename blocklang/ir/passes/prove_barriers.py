"""prove-barriers: checks that shared memory is safe, without trusting the passes before it.

It shares no code and no method with `insert-barriers` or `allocate-shared`: the function becomes a
graph of single steps, with an edge wherever control may go (around loops, past loops that do not
run), and from each access a search follows all paths.

1. Up to the first barrier on a path, no access is reached that touches a common byte if one of the
   two writes. From an asynchronous copy, or what a warpgroup reads of buffers with such copies, the
   first barrier behind a wait for its group; and from a copy up to a warpgroup, the first one
   behind a fence.
2. From a store to one buffer no load of another one that shares bytes with it is reached without a
   store to the loaded buffer between: nobody reads what is left of another buffer.
3. Every buffer has its place, inside what the function asks for.

Slots of one buffer have no common byte if their numbers differ. A search knows how often it has
gone around the loop that carries a slot's number, and so which slot the number means.

All three say that the compiler is wrong, not the kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

from blocklang.ir.core import Block, Function, Module, Operation, Value
from blocklang.ir.errors import UnorderedSharedMemory
from blocklang.ir.op import Effect, IRError, Op
from blocklang.ir.ops.async_copy import AsyncCommit, AsyncCopy, AsyncWait, slot_number
from blocklang.ir.ops.asynchronous import (
    FenceAsync,
    SharedSlot,
    SharedView,
    WarpSpecialize,
    Wgmma,
    WgmmaWait,
)
from blocklang.ir.ops.control import For, If, While
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
            found = ((step, step.op) for step in _steps(function) if step.op is not None)
            accesses = [(step, op) for step, op in found if _touches_shared(op)]
            for step, op in accesses:
                # Most readers of rings have nobody whom they could meet.
                if any(_may_meet(op, other) for _, other in accesses):
                    _prove(step, op)


@dataclass(eq=False)
class _Step:
    """A point that control passes, with an op or for joining paths only, inside of some loops."""

    op: Op | None
    loops: tuple[For, ...] = ()
    next: list[_Step] = field(default_factory=list)


def _steps(function: Function) -> list[_Step]:
    steps: list[_Step] = []
    _thread(function.block, _new(steps, None, ()), steps, ())
    return steps


def _new(steps: list[_Step], op: Op | None, loops: tuple[For, ...], *before: _Step) -> _Step:
    step = _Step(op, loops)
    steps.append(step)
    for each in before:
        each.next.append(step)
    return step


def _thread(block: Block, start: _Step, steps: list[_Step], loops: tuple[For, ...]) -> _Step:
    """Append the steps of a block inside `loops` behind `start`; the last one."""
    here = start
    for op in block.ops:
        assert isinstance(op, Op)
        is_group = isinstance(op, AsyncCommit | AsyncWait | WgmmaWait | FenceAsync)
        if not op.regions and not is_group and not op.effects & _RELEVANT:
            continue
        here = _new(steps, op, loops, here)
        if isinstance(op, If):
            ends = [_thread(region.block, here, steps, loops) for region in op.regions]
            here = _new(steps, None, loops, *ends)
        elif isinstance(op, While):
            tested = _thread(op.before.block, here, steps, loops)
            _thread(op.body.block, tested, steps, loops).next.append(here)
            here = tested
        elif isinstance(op, WarpSpecialize):
            # The producer touches nothing but rings, of which `prove_rings` takes care.
            here = _thread(op.consumer.block, here, steps, loops)
        else:
            # Each region may run any number of times, or never.
            inside = (*loops, op) if isinstance(op, For) else loops
            for region in op.regions:
                _thread(region.block, here, steps, inside).next.append(here)
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


@dataclass(frozen=True)
class _Turns:
    """How often a path has come back to the head of `loop`, modulo the depth of a buffer, since it
    began inside the loop (`is_inside`) or since it entered it.
    """

    loop: For
    count: int
    is_inside: bool


@dataclass(frozen=True)
class _State:
    """What a path from an access knows: its turns, groups of its kind closed since, whether the
    access is done, fenced for warpgroups, and, for the threads, behind a barrier.
    """

    turns: _Turns | None
    groups: int
    done: bool
    fenced: bool
    ordered: bool = False


_MOST_GROUPS = 64


def _unordered_with(start: _Step, op: Op) -> list[tuple[Op, _Turns | None]]:
    """The ops on all paths from the access `op` up to the first barrier behind its end, with the
    turns that the path has made.
    """
    depth = max((b.type.depth for b in _buffers(op) if isinstance(b.type, SharedType)), default=1)
    turns = _Turns(start.loops[-1], 0, True) if start.loops else None
    is_slow = isinstance(op, AsyncCopy) or (isinstance(op, Wgmma) and _reads_copies(op))
    is_for_threads = not (isinstance(op, AsyncCopy) and _feeds_warpgroups(op))
    first = _State(turns, int(isinstance(op, Wgmma)), not is_slow, is_for_threads)
    found: list[tuple[Op, _Turns | None]] = []
    seen: set[tuple[_Step, _State]] = set()
    pending = [(after, _moved(start, after, first, depth)) for after in start.next]
    while pending:
        step, state = pending.pop()
        if (step, state) in seen:
            continue
        seen.add((step, state))
        if step.op is not None:
            if Effect.SYNCHRONIZE in step.op.effects and state.done:
                if state.fenced:
                    continue
                state = replace(state, ordered=True)
            if not state.ordered or isinstance(step.op, Wgmma):
                found.append((step.op, state.turns))
            state = _passed(op, step.op, state)
        pending += [(after, _moved(step, after, state, depth)) for after in step.next]
    return found


def _passed(start: Op, op: Op, state: _State) -> _State:
    """Behind `op`, which may close a group of what `start` is, wait for some, or be a fence."""
    closing: type[Op] = Wgmma if isinstance(start, Wgmma) else AsyncCommit
    if isinstance(op, closing):
        return replace(state, groups=min(state.groups + 1, _MOST_GROUPS))
    waiting = WgmmaWait if isinstance(start, Wgmma) else AsyncWait
    if isinstance(op, waiting) and state.groups > op.groups:
        return replace(state, done=True)
    if isinstance(op, FenceAsync) and state.done:
        return replace(state, fenced=True)
    return state


def _users(op: Op) -> list[Operation]:
    """The ops that use the buffers of `op`, or slots and views of them."""
    values = list(_buffers(op))
    for value in values:
        values += [u.results[0] for u in value.users if isinstance(u, SharedSlot | SharedView)]
    return [user for value in values for user in value.users]


def _reads_copies(op: Op) -> bool:
    return any(isinstance(user, AsyncCopy) for user in _users(op))


def _feeds_warpgroups(op: Op) -> bool:
    return any(isinstance(user, Wgmma) for user in _users(op))


def _moved(step: _Step, after: _Step, state: _State, depth: int) -> _State:
    """On the way from one step to the next, which may enter, repeat or leave a loop."""
    turns = state.turns
    if turns is not None and after.op is turns.loop:
        turns = replace(turns, count=(turns.count + 1) % depth)
    elif turns is not None and turns.loop not in after.loops:
        turns = None
    entered = [loop for loop in after.loops if loop not in step.loops]
    if entered and step.op is entered[-1] and (turns is None or turns.loop is not step.op):
        turns = _Turns(entered[-1], 0, False)
    return replace(state, turns=turns)


def _same_slot(first: Value, second: Value, turns: _Turns | None) -> bool:
    """Whether two slots (or buffers) may be one, after `turns` from the one to the other."""
    if not (isinstance(first.owner, SharedSlot) and isinstance(second.owner, SharedSlot)):
        return True
    kind = _allocated(first).type
    mine, its = slot_number(first.owner.index), slot_number(second.owner.index)
    if _allocated(first) is not _allocated(second) or mine is None or its is None:
        return True
    assert isinstance(kind, SharedType)
    if isinstance(its.start, int):
        if not isinstance(mine.start, int):
            return True
        return (mine.start + mine.steps - its.start - its.steps) % kind.depth == 0
    if turns is None or turns.loop.body.block is not its.start.block:
        return True
    advanced = its.steps + its.advance * turns.count
    if mine.start is its.start and turns.is_inside:
        return (mine.steps - advanced) % kind.depth == 0
    begin = slot_number(turns.loop.initial[its.start.index - 1])
    if turns.is_inside or begin is None:
        return True
    if not isinstance(mine.start, int) or not isinstance(begin.start, int):
        return True
    distance = mine.start + mine.steps - begin.start - begin.steps - advanced
    return distance % kind.depth == 0


def _touches_shared(op: Op) -> bool:
    return bool(op.effects & (Effect.READ_SHARED | Effect.WRITE_SHARED))


def _may_meet(first: Op, second: Op) -> bool:
    """Whether two accesses may touch a common byte, in some slots, and one of them writes."""
    if Effect.WRITE_SHARED not in first.effects | second.effects:
        return False
    left, right = _buffers(first), _buffers(second)
    if not left or not right:
        return True
    return any(_bytes(one) & _bytes(other) for one in left for other in right)


def _prove(step: _Step, op: Op) -> None:
    for later, turns in _unordered_with(step, op):
        if _touches_shared(later) and Effect.WRITE_SHARED in op.effects | later.effects:
            common = _common_bytes(op, later, turns)
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


def _operands(op: Op) -> list[Value]:
    """The buffers and slots among the operands, without views."""
    found = []
    for value in op.operands:
        while isinstance(value.owner, SharedView):
            value = value.owner.buffer
        if isinstance(value.type, SharedType):
            found.append(value)
    return found


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


def _common_bytes(first: Op, second: Op, turns: _Turns | None) -> _Bytes | None:
    for left in _operands(first):
        for right in _operands(second):
            common = _bytes(_allocated(left)) & _bytes(_allocated(right))
            if common is not None and _same_slot(left, right, turns):
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
