"""defer-reductions: sums that loops carry are summed over the threads once, behind the loop.

    for i, t = 0:                           for i, u = 0:
      r = reduce(x, axis)                     p = reduce(x, axis) within_thread
      t = t * s + r              ->           u = u * s + p
                                            t = reduce(u, axis)

What a thread holds of `u` are its own sums, so that the shuffles, and for rows that several warps
hold also the way through shared memory, leave the loop. The factor `s` may be absent.

Integers are summed in any order. Floats are, if no summand can be negative and the factor is a
number from 0 to 1, as that of a running maximum is: then no thread's sum is ever larger than the
whole one, and the rounding of both is bounded alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from blocklang.ir.builder import Builder
from blocklang.ir.core import Argument, Module, Result, Value
from blocklang.ir.op import Op
from blocklang.ir.ops.control import For, Yield
from blocklang.ir.ops.elementwise import (
    Absolute,
    Add,
    Cast,
    Exp,
    Exp2,
    Maximum,
    Multiply,
    Select,
    Sqrt,
    Subtract,
)
from blocklang.ir.ops.program import constant_value, is_constant
from blocklang.ir.ops.reduce import Reduce
from blocklang.ir.ops.shape import Broadcast, ConvertLayout, ExpandDims, Permute, Reshape
from blocklang.ir.types import BlockType, DType, element_type

from .manager import Pass

_MOVES = Broadcast | ConvertLayout | ExpandDims | Permute | Reshape


@dataclass(frozen=True)
class DeferReductions(Pass):
    """Sum over threads behind loops."""

    name: ClassVar[str] = "defer-reductions"

    def _run(self, module: Module) -> None:
        for op in list(module.walk()):
            if isinstance(op, For):
                loop = op
                for position in range(len(op.results)):
                    found = _find(loop, position)
                    if found is not None:
                        loop = found.defer()


@dataclass
class _Sum:
    """A carried sum: `add` adds what `reduce` gives to `rest`, which is `total`, times `factor`."""

    loop: For
    position: int
    add: Add
    reduce: Reduce
    rest: Value
    factor: Value | None

    @property
    def total(self) -> Argument:
        """What the loop carries."""
        found: Argument = self.loop.body.block.arguments[self.position + 1]
        return found

    def defer(self) -> For:
        """Let the loop carry each thread's part of the sum; the new loop."""
        before = Builder.before(self.reduce)
        partial = before.insert(self.reduce.over(self.reduce.inputs, within_thread=True))
        kind = partial.results[0].type
        assert isinstance(kind, BlockType)
        self.total.type = kind
        builder = Builder.before(self.add)
        left: Value = self.total
        if self.factor is not None:
            spread = _spread(builder, self.factor, kind, self.reduce.axis)
            left = builder.insert(Multiply(left, spread, loc=self.add.loc)).result
        made = builder.insert(Add(left, partial.results[0], loc=self.add.loc))
        self.add.replace_with([made.result])
        if self.factor is not None:
            assert isinstance(self.rest, Result)
            self.rest.op.erase()
        finished = self.finish(kind)
        self.reduce.erase()
        return finished

    def finish(self, kind: BlockType) -> For:
        """The loop anew, and the sum over the threads behind it."""
        old = self.loop
        builder = Builder.before(old)
        initial = list(old.initial)
        initial[self.position] = builder.constant(0, kind)
        regions, old.regions = old.regions, []
        made = builder.insert(old.again(initial, regions))
        results: list[Value] = list(made.results)
        builder.loc = self.reduce.loc
        whole = builder.insert(self.reduce.over([made.results[self.position]]))
        results[self.position] = whole.results[0]
        for before, after in zip(old.results, made.results, strict=True):
            after.name = before.name
        old.replace_with(results)
        return made


def _spread(builder: Builder, value: Value, kind: BlockType, axis: int) -> Value:
    """A value for each row, for each entry of the row."""
    if not isinstance(value.type, BlockType):
        return builder.splat(value, kind)
    assert value.type.layout is not None
    wide = builder.insert(ExpandDims(value, axis=axis, loc=builder.loc)).result
    assert isinstance(wide.type, BlockType)
    wide.type = replace(wide.type, layout=value.type.layout.expand_dims(axis))
    target = replace(kind, element=wide.type.element)
    return builder.insert(Broadcast(wide, loc=builder.loc, result_types=[target])).result


# ---------------------------------------------------------------- what can be deferred


def _find(loop: For, position: int) -> _Sum | None:
    """The sum that is carried at a position, if it can be deferred."""
    block = loop.body.block
    total, end = block.arguments[position + 1], block.terminator.operands[position]
    if not is_constant(loop.initial[position], 0) or len(total.uses) != 1:
        return None
    add = end.owner
    if not isinstance(add, Add) or add.parent is not block or len(end.uses) != 1:
        return None
    for reduced, rest in (add.operands, tuple(reversed(add.operands))):
        reduce = reduced.owner
        if not isinstance(reduce, Reduce) or not _is_deferrable(reduce, loop):
            continue
        factor = _factor(rest, total)
        if rest is not total and factor is None:
            continue
        found = _Sum(loop, position, add, reduce, rest, factor)
        return found if _is_order_free(found) else None
    return None


def _factor(value: Value, total: Argument) -> Value | None:
    """What `total` is multiplied by, if `value` is such a product in the loop's body, for one
    user.
    """
    made = value.owner
    if not isinstance(made, Multiply) or made.parent is not total.block or len(value.uses) != 1:
        return None
    left, right = made.operands
    if total not in (left, right):
        return None
    return right if left is total else left


def _is_deferrable(op: Reduce, loop: For) -> bool:
    """Whether `op` sums one block over threads, for one user in the loop's body."""
    if len(op.inputs) != 1 or op.parent is not loop.body.block or len(op.results[0].uses) != 1:
        return False
    if op.is_partial or not _sums(op):
        return False
    kind = op.inputs[0].type
    assert isinstance(kind, BlockType)
    assert kind.layout is not None
    layout = kind.layout
    # A bit that moves along another axis too has no entry of its own.
    along = {dim: [b for b in layout.bases_of(dim) if b[op.axis]] for dim in layout.in_dims}
    is_plain = all(sum(map(bool, b)) == 1 for of_dim in along.values() for b in of_dim)
    return is_plain and any(along.get(dim) for dim in ("lane", "warp"))


def _sums(op: Reduce) -> bool:
    block = op.combine.block
    if len(block.ops) != 2:
        return False
    add, end = block.ops
    left, right = block.arguments
    return (
        isinstance(add, Add)
        and isinstance(end, Yield)
        and set(add.operands) == {left, right}
        and list(end.operands) == [add.result]
    )


def _is_order_free(found: _Sum) -> bool:
    """Whether the order of summation changes nothing, or nothing but the rounding."""
    kind = element_type(found.reduce.inputs[0].type)
    assert isinstance(kind, DType)
    if not kind.is_float:
        return True
    if found.factor is not None and not _is_share(found.factor):
        return False
    return _is_never_negative(found.reduce.inputs[0], 0)


def _is_share(value: Value) -> bool:
    """Whether a float is from 0 to 1, or no number: a constant, or the power of how far something
    is below its maximum with something else.
    """
    known = constant_value(value)
    if known is not None:
        return 0 <= known <= 1
    power = value.owner
    if not isinstance(power, Exp | Exp2):
        return False
    exponent = power.operands[0].owner
    while isinstance(exponent, Multiply):
        # Units of another base.
        numbers = [(v, constant_value(v)) for v in exponent.operands]
        rest = [v for v, number in numbers if number is None or not 0 < number < float("inf")]
        if len(rest) != 1:
            return False
        exponent = rest[0].owner
    if not isinstance(exponent, Subtract):
        return False
    less, more = exponent.operands
    return isinstance(more.owner, Maximum) and less in more.owner.operands


_DEEPEST = 12


def _is_never_negative(value: Value, depth: int) -> bool:
    """Whether a float is 0, positive, infinite or no number, by how it is made."""
    known = constant_value(value)
    if known is not None:
        return not known < 0
    op = value.owner
    if not isinstance(op, Op) or depth > _DEEPEST:
        return False
    if isinstance(op, Exp | Exp2 | Absolute | Sqrt):
        return True
    if isinstance(op, Multiply) and op.operands[0] is op.operands[1]:
        return True
    parts = list(op.operands)
    if isinstance(op, Cast):
        kind = element_type(op.operands[0].type)
        if not isinstance(kind, DType) or not kind.is_float:
            return False
    elif isinstance(op, Maximum):
        return any(_is_never_negative(part, depth + 1) for part in parts)
    elif isinstance(op, Select):
        parts = parts[1:]
    elif not isinstance(op, Add | Multiply | _MOVES):
        return False
    return all(_is_never_negative(part, depth + 1) for part in parts)
