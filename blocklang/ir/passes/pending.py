"""Starting products of warpgroups and waiting for them: what the passes that overlap them share."""

from __future__ import annotations

from blocklang.ir.builder import Builder
from blocklang.ir.core import Block, Region, Result, Value
from blocklang.ir.ops.asynchronous import SharedSlot, SharedView, Wgmma, WgmmaWait
from blocklang.ir.ops.control import For, If, Yield
from blocklang.ir.ops.dot import Dot
from blocklang.ir.ops.elementwise import Compare
from blocklang.ir.types import PendingType, SharedType


def warpgroup_dots(block: Block) -> list[Dot]:
    """The products of warpgroups that stand in a block."""
    return [op for op in block.ops if isinstance(op, Dot) and op.instruction == "wgmma"]


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


def is_kept(value: Value, body: Block) -> bool:
    """Whether what an operand reads stays as it is until it is given back: a slot of a ring, or
    something from outside the loop.
    """
    while isinstance(value, Result) and isinstance(value.op, SharedView):
        value = value.op.buffer
    if not isinstance(value, Result):
        return False
    return isinstance(value.op, SharedSlot) or value.op.parent is not body


def has_next_slot(value: Value) -> bool:
    """Whether what an operand reads may be kept while the next is waited for: the only slot of a
    ring may not.
    """
    while isinstance(value, Result) and isinstance(value.op, SharedView):
        value = value.op.buffer
    if not isinstance(value, Result) or not isinstance(value.op, SharedSlot):
        return True
    kind = value.op.buffer.type
    return isinstance(kind, SharedType) and kind.depth > 1


def guarded(loop: For) -> tuple[If, Builder]:
    """Replace the results of a loop by those of a condition that the loop runs at all; the builder
    stands where the loop's replacement belongs.
    """
    builder = Builder.before(loop)
    runs = Compare(loop.lower, loop.upper, predicate="lt", loc=loop.loc)
    condition = builder.insert(runs).result
    then, otherwise = Region(), Region()
    otherwise.block.append(Yield(loop.initial, loc=loop.loc))
    types = [r.type for r in loop.results]
    made = builder.insert(
        If(condition, loc=loop.loc, result_types=types, regions=[then, otherwise])
    )
    for old, new in zip(loop.results, made.results, strict=True):
        new.name = old.name
        old.replace_all_uses_with(new)
    return made, Builder(then.block, None, loop.loc)
