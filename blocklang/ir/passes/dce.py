"""dce: removes ops without effects whose results nobody needs, and with them the values that loops
carry and branches yield for nobody.

First what is needed is marked, beginning with effects and with what functions return, and following
loops: a carried value is needed where its result or its argument in the body is, so that one which
only computes its own successor is not. A loop without effects and without needed results goes; that
it might not end is no reason to keep it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from blocklang.ir.core import Argument, Block, Function, Module, Operation, Result, Value
from blocklang.ir.op import Op
from blocklang.ir.ops.control import Condition, For, If, While, Yield

from .manager import Pass


@dataclass(frozen=True)
class DeadCodeElimination(Pass):
    """Remove what has no effect."""

    name: ClassVar[str] = "dce"

    def _run(self, module: Module) -> None:
        for function in module.functions.values():
            _sweep(function.block, Needed(function))


Carrying = For | If | While
"""Ops whose results are looked at one by one."""


def has_effects(op: Op) -> bool:
    """Whether an op does more than compute its results, so that it must stay."""
    return bool(op.effects)


def keep_only(function: Function, is_root: Callable[[Op], bool]) -> None:
    """Remove everything that the ops of which `is_root` holds do not need, effects or not."""
    _sweep(function.block, Needed(function, is_root))


class Needed:
    """The values and ops that a function needs for the sake of the ops of which `is_root` holds."""

    def __init__(self, function: Function, is_root: Callable[[Op], bool] = has_effects) -> None:
        self.values: set[Value] = set()
        self.ops: set[Operation] = set()
        self.positions: set[tuple[Operation, int]] = set()
        self.pending: list[Value] = []
        self.need(function.block.terminator)
        for op in function.walk():
            if isinstance(op, Op) and is_root(op):
                self.need(op)
        while self.pending:
            self.follow(self.pending.pop())

    def need(self, op: Operation) -> None:
        """The op must stay: what it reads is needed, and what it stands in."""
        if op in self.ops:
            return
        self.ops.add(op)
        for value in _own_operands(op):
            self.need_value(value)
        if not isinstance(op, Carrying):
            for region in op.regions:
                self.need(region.block.terminator)
        if op.parent_op is not None:
            self.need(op.parent_op)

    def need_value(self, value: Value) -> None:
        """Some op that stays reads the value."""
        if value not in self.values:
            self.values.add(value)
            self.pending.append(value)

    def follow(self, value: Value) -> None:
        """Need what the value is made of."""
        if isinstance(value, Result):
            self.need(value.op)
            if isinstance(value.op, Carrying):
                self.position(value.op, value.index)
            return
        assert isinstance(value, Argument)
        region = value.block.region
        if region is None or region.op is None:
            return
        self.need(region.op)
        if isinstance(region.op, While):
            self.position(region.op, value.index)
        elif isinstance(region.op, For) and value.index > 0:
            self.position(region.op, value.index - 1)

    def position(self, op: Carrying, index: int) -> None:
        """Carried or yielded value number `index` is needed."""
        self.positions.add((op, index))
        for source in _sources(op, index):
            self.need_value(source)


def _own_operands(op: Operation) -> Sequence[Value]:
    """The operands that are needed with the op itself: carried values are looked at one by one."""
    if isinstance(op, For):
        return op.operands[:3]
    if isinstance(op, While):
        return [op.before.block.terminator.operands[0]]
    return op.operands


def _sources(op: Carrying, index: int) -> list[Value]:
    """Where result number `index` comes from, and what a loop needs to carry it."""
    terminators = [region.block.terminator for region in op.regions]
    values = [t.operands[index + isinstance(t, Condition)] for t in terminators]
    return values if isinstance(op, If) else [op.initial[index], *values]


def _sweep(block: Block, needed: Needed) -> None:
    for op in reversed(block.ops[:-1]):
        if op not in needed.ops:
            op.erase()
            continue
        is_carrying = isinstance(op, Carrying)
        kept = [r.index for r in op.results if not is_carrying or (op, r.index) in needed.positions]
        shrinks = len(kept) < len(op.results)
        if shrinks:
            _shrink_terminators(op, kept)
        for region in op.regions:
            _sweep(region.block, needed)
        if shrinks:
            _shrink(op, kept)


def _shrink_terminators(op: Operation, kept: list[int]) -> None:
    """Let the regions yield only the values numbered in `kept`."""
    for region in op.regions:
        old = region.block.terminator
        first = int(isinstance(old, Condition))
        values = tuple(old.operands[first + i] for i in kept)
        new: Op
        if isinstance(old, Condition):
            new = Condition(old.condition, values, loc=old.loc)
        else:
            new = Yield(values, loc=old.loc)
        old.erase()
        region.block.append(new)


def _shrink(op: Operation, kept: list[int]) -> None:
    """Replace a loop or branch by one that has only the results numbered in `kept`."""
    assert op.parent is not None
    for region in op.regions:
        surplus = len(region.block.arguments) - len(op.results)
        for index in reversed(range(len(op.results))):
            if index not in kept and region.block.arguments:
                region.block.remove_argument(surplus + index)
    is_loop = isinstance(op, For | While)
    first = len(op.operands) - len(op.results) * is_loop
    carried = [[op.operands[first + i] for i in kept]] if is_loop else []
    types = [op.results[i].type for i in kept]
    kind: Any = type(op)
    new: Op = kind(
        *op.operands[:first], *carried, **op.attributes,
        loc=op.loc, result_types=types, regions=op.regions,
    )  # fmt: skip
    op.regions = []
    op.parent.insert(op.parent.ops.index(op), new)
    for old, result in zip((op.results[i] for i in kept), new.results, strict=True):
        old.replace_all_uses_with(result)
    op.erase()
