"""insert-barriers: puts barriers between accesses to the same bytes of shared memory.

Two accesses conflict if they touch a common byte and one of them writes: then a barrier must stand
between them on every path, around loops too. Only bytes count, so that buffers which share memory
need no care of their own. Which threads touch a byte is not looked at. Of a buffer with several
slots it counts which slot: two accesses of one iteration do not meet if their numbers differ, and
what the loop carries tells which slot of this iteration is which of the next. Asynchronous copies
count as writes when they start; `prove-barriers` sees to it that they are waited for.

A barrier stands as late as possible, directly before the access that needs it, but before a loop
rather than inside where what goes before the loop is the only reason. Barriers that turn out to be
implied by later ones are dropped at the end, innermost first. Conditions and trip counts are
scalars, the same for all threads of a program: all of them reach a barrier, or none does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from blocklang.ir.core import Argument, Block, Function, Module, Value, is_inside
from blocklang.ir.op import Effect, Op
from blocklang.ir.ops.async_copy import SlotNumber, slot_number
from blocklang.ir.ops.asynchronous import SharedSlot, SharedView, WarpSpecialize
from blocklang.ir.ops.control import If, While
from blocklang.ir.ops.shared import Barrier, SharedAlloc
from blocklang.ir.types import SharedType

from .manager import Pass

EVERYTHING = range(1 << 62)


@dataclass(frozen=True)
class InsertBarriers(Pass):
    """Insert the barriers that shared memory needs."""

    name: ClassVar[str] = "insert-barriers"

    def _run(self, module: Module) -> None:
        for function in module.functions.values():
            _insert(function)


@dataclass(frozen=True)
class _Place:
    """Bytes of shared memory; of a buffer with several slots perhaps those of one, by its number
    as of the current iteration of the loop that carries it.
    """

    bytes: range
    buffer: Value | None = None
    depth: int = 1
    slot: SlotNumber | None = None

    def meets(self, other: _Place) -> bool:
        """Whether both may touch a common byte."""
        if not (self.bytes.start < other.bytes.stop and other.bytes.start < self.bytes.stop):
            return False
        mine, its = self.slot, other.slot
        if self.buffer is not other.buffer or mine is None or its is None:
            return True
        if isinstance(mine.start, int) and isinstance(its.start, int):
            return (mine.start + mine.steps - its.start - its.steps) % self.depth == 0
        return mine.start is not its.start or (mine.steps - its.steps) % self.depth == 0

    def after(self, loop: Op, ends: bool) -> _Place:
        """The same place as seen from the next iteration of `loop`, or from behind the loop."""
        if self.slot is None or not isinstance(self.slot.start, Argument):
            return self
        home = self.slot.start.block.region
        if home is None or home.op is None:
            return self
        if home.op is loop and not ends:
            steps = (self.slot.steps - self.slot.advance) % self.depth
            return replace(self, slot=replace(self.slot, steps=steps))
        inside = any(home.op is loop or is_inside(home.op, region) for region in loop.regions)
        return replace(self, slot=None) if inside else self


@dataclass(frozen=True)
class _Access:
    op: Op
    reads: tuple[_Place, ...]
    writes: tuple[_Place, ...]

    def conflicts(self, other: _Access) -> bool:
        touched = self.reads + self.writes
        return _overlap(self.writes, other.reads + other.writes) or _overlap(touched, other.writes)

    def after(self, loop: Op, ends: bool) -> _Access:
        """See `_Place.after`."""
        reads = tuple(place.after(loop, ends) for place in self.reads)
        return _Access(self.op, reads, tuple(place.after(loop, ends) for place in self.writes))


@dataclass(eq=False)
class _Sync:
    """A barrier that is there (`place` is None), or one to be put before `place`."""

    place: Op | None


@dataclass(eq=False)
class _Branch:
    arms: list[list[_Item]]


@dataclass(eq=False)
class _Loop:
    """`first`, then any number of times `rest` and `first`; a `for` has an empty `first`."""

    op: Op
    first: list[_Item]
    rest: list[_Item]


_Item = _Access | _Sync | _Branch | _Loop
_Pending = frozenset[_Access]
_NOTHING: _Pending = frozenset()


def _insert(function: Function) -> None:
    items = _items(function.block)
    _flow(items, _NOTHING, place=True)
    for block, sync in sorted(_placed(items, 0), key=lambda found: -found[0]):
        _drop_if_implied(items, sync, block)
    for _, sync in _placed(items, 0):
        assert sync.place is not None
        assert sync.place.parent is not None
        ops = sync.place.parent.ops
        barrier = Barrier(loc=sync.place.loc)
        sync.place.parent.insert(ops.index(sync.place), barrier)


# ---------------------------------------------------------------- what matters of a function


def _items(block: Block) -> list[_Item]:
    """Accesses, barriers and control flow around them, in order."""
    found: list[_Item] = []
    for op in block.ops:
        assert isinstance(op, Op)
        if Effect.SYNCHRONIZE in op.effects:
            found.append(_Sync(None))
        elif op.effects & (Effect.READ_SHARED | Effect.WRITE_SHARED):
            found.append(_access(op))
        if isinstance(op, WarpSpecialize):
            # The producer touches nothing but rings, which have barriers of their own.
            found += _items(op.consumer.block)
            continue
        inner = [_items(region.block) for region in op.regions]
        if not any(inner):
            continue
        if isinstance(op, If):
            found.append(_Branch(inner))
        elif isinstance(op, While):
            found.append(_Loop(op, *inner))
        else:
            found += [_Loop(op, [], each) for each in inner]
    return found


def _access(op: Op) -> _Access:
    places = tuple(_place_of(v) for v in op.operands if isinstance(v.type, SharedType))
    places = places or (_Place(EVERYTHING),)
    reads = places if Effect.READ_SHARED in op.effects else ()
    return _Access(op, reads, places if Effect.WRITE_SHARED in op.effects else ())


def _place_of(buffer: Value) -> _Place:
    """The bytes of a buffer, or of a slot; of a buffer that is handed on, any."""
    slot, owner = None, buffer.owner
    while isinstance(owner, SharedSlot | SharedView):
        if isinstance(owner, SharedSlot):
            slot = slot_number(owner.index)
        owner = owner.buffer.owner
    if not isinstance(owner, SharedAlloc):
        return _Place(EVERYTHING)
    kind = owner.results[0].type
    assert isinstance(kind, SharedType)
    assert owner.offset >= 0, "allocate-shared runs first"
    bytes = range(owner.offset, owner.offset + kind.bytes)
    return _Place(bytes, owner.results[0], kind.depth, slot)


def _overlap(left: tuple[_Place, ...], right: tuple[_Place, ...]) -> bool:
    return any(a.meets(b) for a in left for b in right)


# ---------------------------------------------------------------- placing


class _Unordered(Exception):
    """A conflict, where none may be left."""


def _flow(items: list[_Item], pending: _Pending, place: bool) -> _Pending:
    """Go through `items` with the accesses that no barrier has ordered yet; those at the end.

    At a conflict a barrier is put in, or with `place` off _Unordered raised.
    """
    for item in list(items):
        match item:
            case _Sync():
                pending = _NOTHING
            case _Access():
                if any(item.conflicts(other) for other in pending):
                    pending = _meet(items, item, place)
                pending |= {item}
            case _Branch():
                ends = [_flow(arm, pending, place) for arm in item.arms]
                pending = _NOTHING.union(*ends)
            case _Loop():
                end = _settle(item, place)
                exposed, _ = _exposed([item])
                if any(a.conflicts(b) for a in exposed for b in pending):
                    pending = _meet(items, item, place)
                pending = _flow(item.first, pending | end, place)
                pending = frozenset(each.after(item.op, ends=True) for each in pending)
    return pending


def _meet(items: list[_Item], item: _Access | _Loop, place: bool) -> _Pending:
    if not place:
        raise _Unordered
    items.insert(items.index(item), _Sync(item.op))
    return _NOTHING


def _settle(loop: _Loop, place: bool) -> _Pending:
    """Order the accesses of a loop among themselves; those pending when it starts again."""
    end = _NOTHING
    while True:
        again = _flow(loop.rest, _flow(loop.first, end, place), place)
        again = frozenset(each.after(loop.op, ends=False) for each in again)
        if again == end:
            return end
        end = again


def _exposed(items: list[_Item]) -> tuple[_Pending, bool]:
    """The accesses that some path reaches without a barrier, and whether a path has none at all."""
    found = _NOTHING
    for item in items:
        open = True
        match item:
            case _Sync():
                open = False
            case _Access():
                found |= {item}
            case _Branch():
                arms = [_exposed(arm) for arm in item.arms]
                found = found.union(*(accesses for accesses, _ in arms))
                open = any(is_open for _, is_open in arms)
            case _Loop():
                first, open = _exposed(item.first)
                found |= first | (_exposed(item.rest)[0] if open else _NOTHING)
        if not open:
            return found, False
    return found, True


# ---------------------------------------------------------------- dropping


def _placed(items: list[_Item], depth: int) -> Iterator[tuple[int, _Sync]]:
    """The barriers put in, with the number of loops and branches around each."""
    for item in items:
        match item:
            case _Sync(place) if place is not None:
                yield depth, item
            case _Branch(arms):
                for arm in arms:
                    yield from _placed(arm, depth + 1)
            case _Loop():
                yield from _placed(item.first + item.rest, depth + 1)


def _drop_if_implied(items: list[_Item], sync: _Sync, depth: int) -> None:
    home = _home(items, sync)
    assert home is not None
    position = home.index(sync)
    del home[position]
    try:
        _flow(items, _NOTHING, place=False)
    except _Unordered:
        home.insert(position, sync)


def _home(items: list[_Item], sync: _Sync) -> list[_Item] | None:
    """The list that holds a barrier."""
    if sync in items:
        return items
    inner: list[list[_Item]] = []
    for item in items:
        if isinstance(item, _Branch):
            inner += item.arms
        elif isinstance(item, _Loop):
            inner += [item.first, item.rest]
    return next((home for each in inner if (home := _home(each, sync)) is not None), None)
