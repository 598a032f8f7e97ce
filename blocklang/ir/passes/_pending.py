"""Starting products of warpgroups and waiting for them: what the passes that overlap them share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from blocklang.ir.builder import Builder
from blocklang.ir.core import Block, Operation, Region, Result, Value, clone
from blocklang.ir.op import Op
from blocklang.ir.ops.async_copy import AsyncCopy, slot_number
from blocklang.ir.ops.asynchronous import (
    ComputeHere,
    SharedSlot,
    SharedView,
    TmaStore,
    Wgmma,
    WgmmaWait,
)
from blocklang.ir.ops.control import For, If, Yield
from blocklang.ir.ops.dot import Dot
from blocklang.ir.ops.elementwise import Compare
from blocklang.ir.ops.program import constant_value
from blocklang.ir.types import PendingType, SharedType


def warpgroup_dots(ops: Iterable[Operation]) -> list[Dot]:
    """Those of the ops that are products of warpgroups."""
    return [op for op in ops if isinstance(op, Dot) and op.instruction == "wgmma"]


def start(builder: Builder, op: Dot, acc: Value, accumulate: Value | None = None) -> Value:
    """Start a product; its pending result."""
    made = Wgmma(op.a, op.b, acc, accumulate, precision=op.precision, loc=op.loc)
    result = builder.insert(made).result
    result.name = op.results[0].name
    return result


def wait(builder: Builder, values: list[Value], groups: int, ready: bool) -> list[Result]:
    """Wait; the values as blocks where they are `ready`."""
    types = [v.type.block if ready and isinstance(v.type, PendingType) else v.type for v in values]
    made = builder.insert(
        WgmmaWait(tuple(values), groups=groups, loc=builder.loc, result_types=types)
    )
    for value, result in zip(values, made.results, strict=True):
        result.name = value.name
    return made.results


def finish_at_once(op: Dot) -> None:
    """Replace a product by its start and the wait for it."""
    builder = Builder.before(op)
    pending = start(builder, op, op.acc)
    op.replace_with(wait(builder, [pending], 0, ready=True))


def unviewed(buffer: Value) -> Value:
    """The buffer or slot that `buffer` is a view of; itself if it is none."""
    while isinstance(buffer, Result) and isinstance(buffer.op, SharedView):
        buffer = buffer.op.buffer
    return buffer


def slot_of(buffer: Value) -> SharedSlot | None:
    """The slot that a buffer is, or is a view of."""
    found = unviewed(buffer).owner
    return found if isinstance(found, SharedSlot) else None


def is_kept(value: Value, body: Block) -> bool:
    """Whether what an operand reads stays as it is until it is given back: a slot of a ring, or
    something from outside the loop.
    """
    value = unviewed(value)
    if not isinstance(value, Result):
        return False
    return isinstance(value.op, SharedSlot) or value.op.parent is not body


def has_next_slot(value: Value) -> bool:
    """Whether what an operand reads may be kept while the next is waited for: the only slot of a
    ring may not, nor one that the threads copy to in the next iteration.
    """
    slot = slot_of(value)
    if slot is None:
        return True
    kind = slot.buffer.type
    if not isinstance(kind, SharedType) or kind.depth == 1:
        return False
    return not any(_is_filled_next(slot, fill, kind.depth) for fill in fills_of(slot))


def fills_of(slot: SharedSlot) -> list[SharedSlot]:
    """The slots of the same buffer to which the threads copy in the block of `slot`."""
    others = (user for user in slot.buffer.users if user.parent is slot.parent)
    return [
        other
        for other in others
        if isinstance(other, SharedSlot)
        and any(isinstance(user, AsyncCopy) for user in other.result.users)
    ]


def _is_filled_next(slot: SharedSlot, fill: SharedSlot, depth: int) -> bool:
    """Whether what is `slot` in one iteration may be `fill` in the next."""
    read, filled = slot_number(slot.index), slot_number(fill.index)
    if read is None or filled is None or read.start is not filled.start:
        return True
    return (filled.steps - (read.steps - read.advance)) % depth == 0


def needed_by_stores(loop: For) -> list[Value]:
    """Scalars from before a loop that copies to memory behind it need.

    LLVM would compute them where one thread starts the copy, while its warpgroup waits for it;
    computed during the last product they cost nothing.
    """
    assert loop.parent is not None
    ops = loop.parent.ops
    position = ops.index(loop)
    found: dict[Value, None] = {}
    for op in ops[position:]:
        for value in op.indices if isinstance(op, TmaStore) else ():
            if isinstance(value, Result) and value.op in ops[:position]:
                found |= {value: None} if constant_value(value) is None else {}
    return list(found)


def again(builder: Builder, values: Sequence[Value]) -> list[Value]:
    """Scalars computed once more from what their block defines, where the builder stands."""
    homes = {value.op.parent for value in values if isinstance(value, Result)}
    needed: set[Operation] = set()
    pending = list(values)
    while pending:
        value = pending.pop()
        op = value.owner
        if isinstance(op, Op) and op.parent in homes and op.is_pure and not op.regions:
            needed.add(op)
            pending += op.operands
    copies: dict[Value, Value] = {}
    for home in homes:
        for op in [op for op in home.ops if op in needed] if home is not None else ():
            builder.insert(clone(op, copies))
    return [copies.get(value, value) for value in values]


def compute_here(builder: Builder, values: Sequence[Value]) -> Sequence[Value]:
    """The values, computed where the builder stands."""
    if not values:
        return []
    made = builder.insert(ComputeHere(tuple(again(builder, values)), loc=builder.loc))
    for value, result in zip(values, made.results, strict=True):
        result.name = value.name
    return made.results


def guarded(loop: For, extra: Sequence[Value] = ()) -> tuple[If, Builder]:
    """Replace the results of a loop by those of a condition that the loop runs at all; the builder
    stands where the loop's replacement belongs. The replacement hands on `extra` too, to the copies
    behind it.
    """
    builder = Builder.before(loop)
    runs = Compare(loop.lower, loop.upper, predicate="lt", loc=loop.loc)
    condition = builder.insert(runs).result
    then, otherwise = Region(), Region()
    known = again(Builder(otherwise.block, None, loop.loc), extra)
    otherwise.block.append(Yield((*loop.initial, *known), loc=loop.loc))
    types = [r.type for r in loop.results] + [v.type for v in extra]
    made = builder.insert(
        If(condition, loc=loop.loc, result_types=types, regions=[then, otherwise])
    )
    for old, new in zip(loop.results, made.results, strict=False):
        new.name = old.name
        old.replace_all_uses_with(new)
    for value, result in zip(extra, made.results[len(loop.results) :], strict=True):
        result.name = value.name
        for user, index in list(value.uses):
            if isinstance(user, TmaStore) and user.parent is loop.parent:
                user.set_operand(index, result)
    return made, Builder(then.block, None, loop.loc)
