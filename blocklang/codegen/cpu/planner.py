"""From the ops of a kernel to its complete plan: grouping, keeping, conflicts, vectors, scratch."""

from __future__ import annotations

from collections.abc import Sequence

from blocklang.ir.core import Block, Function, Value
from blocklang.ir.op import Op
from blocklang.ir.ops.control import Condition, For, If, While
from blocklang.ir.types import BlockType

from .conflicts import settle_conflicts
from .cost import Costs
from .grouping import Context, Grouping
from .keeping import Keeping
from .plan import Buffer, Control, Evaluate, Nest, Plan
from .strides import Strides
from .vectors import choose_vectors


def plan_kernel(kernel: Function) -> tuple[Plan, Context]:
    """The plan of a kernel without calls, at stage "block"."""
    context = Context(Costs(Strides()))
    return _plan_block(context, kernel.block, (), ()), context


def _plan_block(
    context: Context,
    block: Block,
    values: Sequence[Value],
    targets: Sequence[Buffer | None],
    present: Sequence[Buffer | None] = (),
) -> Plan:
    yielded = [(v, t) for v, t in zip(values, targets, strict=True) if t is not None]
    replaced = {
        t: p for t, p in zip(targets, present, strict=False) if t is not None and p is not None
    }
    grouping = Grouping(context, block, yielded, lambda op: _plan_control(context, op), replaced)
    plan = grouping.run()
    Keeping(grouping).run()
    for level in plan.levels:
        if isinstance(level.step, Nest) and level.step.shape:
            settle_conflicts(context.costs, grouping.positions, level.step)
            choose_vectors(context.costs.strides, level.step)
    return plan


def _plan_control(context: Context, op: Op) -> Control:
    if isinstance(op, If):
        control = _plan_if(context, op)
    elif isinstance(op, For):
        control = _plan_for(context, op)
    else:
        assert isinstance(op, While)
        control = _plan_while(context, op)
    context.controls[op] = control
    return control


def _buffers(values: Sequence[Value]) -> list[Buffer | None]:
    return [Buffer.of(v.type) if isinstance(v.type, BlockType) else None for v in values]


def _bind(context: Context, values: Sequence[Value], buffers: Sequence[Buffer | None]) -> None:
    """`values` live in `buffers`."""
    context.buffers.update((v, b) for v, b in zip(values, buffers, strict=True) if b is not None)


def _plan_if(context: Context, op: If) -> Control:
    following = _buffers(op.results)
    regions = [
        _plan_block(context, r.block, r.block.terminator.operands, following) for r in op.regions
    ]
    _bind(context, op.results, following)
    return Control(op, regions, [], following)


def _plan_for(context: Context, op: For) -> Control:
    body = op.regions[0].block
    incoming, following = _buffers(op.initial), _buffers(op.initial)
    _bind(context, body.arguments[1:], incoming)
    yielded = body.terminator.operands
    plan = _plan_block(context, body, yielded, following, incoming)
    for index, argument in enumerate(body.arguments[1:]):
        target, present = following[index], incoming[index]
        if target is None or present is None:
            continue
        if context.buffers.get(yielded[index]) is present:
            following[index] = present
        elif _may_update_in_place(plan, argument, target):
            following[index] = present
            _replace(context, plan, target, present)
    _bind(context, op.results, incoming)
    return Control(op, [plan], incoming, following)


def _may_update_in_place(plan: Plan, argument: Value, target: Buffer) -> bool:
    """Whether the next value of a carried block may overwrite the present one: nothing reads that
    afterwards, or, in the nest that writes, at another place.
    """
    has_written = False
    for level in plan.levels:
        nest = level.step
        if not isinstance(nest, Nest):
            if nest is not None and has_written:
                return False
            continue
        writes = any(getattr(action, "buffer", None) is target for action in nest.actions)
        places = [place for value, place in nest.seen if value is argument]
        if has_written and (places or argument in nest.reads):
            return False
        if writes:
            whole = tuple(range(len(nest.shape)))
            has_written = True
            if nest.stores or any(_differs(p, whole, nest.shape) for p in places):
                return False
    return has_written


def _replace(context: Context, plan: Plan, old: Buffer, new: Buffer) -> None:
    """Let the nests of `plan`, and the sums of products, use `new` instead of `old`."""
    changed = {value for value, buffer in context.buffers.items() if buffer is old}
    context.buffers.update(dict.fromkeys(changed, new))
    for nest in plan.nests():
        nest.reads.update((v, new) for v in changed & nest.reads.keys())
        for action in nest.actions:
            if isinstance(action, Evaluate) and action.buffer is old:
                action.buffer = new


def _differs(place: tuple[object, ...], whole: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    if len(place) != len(whole):
        return True
    return any(n > 1 and p != w for p, w, n in zip(place, whole, shape, strict=True))


def _plan_while(context: Context, op: While) -> Control:
    before, body = (region.block for region in op.regions)
    incoming, following = _buffers(op.initial), _buffers(op.initial)
    _bind(context, before.arguments, incoming)
    condition = before.terminator
    assert isinstance(condition, Condition)
    plans = [_plan_block(context, before, condition.values, following)]
    _bind(context, body.arguments, following)
    plans.append(_plan_block(context, body, body.terminator.operands, incoming))
    _bind(context, op.results, following)
    return Control(op, plans, incoming, following)
