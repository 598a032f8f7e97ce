"""The engine of forward analyses over structured control flow: one fact a value.

Facts start optimistic: a loop-carried value is first taken to be what enters the loop, and joined
with what the body yields until nothing changes. After `PATIENCE` rounds `widen` gives up on what
still changes, so that nested loops stay cheap. What facts mean is up to the subclass; this file
knows how they flow through `for`, `while`, `if`, reductions and ops that are unknown to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Generic, TypeVar

from blocklang.ir.core import Argument, Block, Function, Region, Value
from blocklang.ir.op import Op
from blocklang.ir.ops.control import For, If, While
from blocklang.ir.ops.reduce import Reduce

Fact = TypeVar("Fact")
PATIENCE = 4
"""Rounds of a loop before facts that still change are widened."""


class ForwardAnalysis(Generic[Fact]):
    """Base of the analyses; `run` fills `facts`."""

    def __init__(self) -> None:
        self.facts: dict[Value, Fact] = {}

    # --- What a subclass says ---

    def argument(self, argument: Argument) -> Fact:
        """What is known of an argument of the function."""
        raise NotImplementedError

    def unknown(self, value: Value) -> Fact:
        """What holds of any value of that type."""
        raise NotImplementedError

    def transfer(self, op: Op) -> Sequence[Fact]:
        """The facts of the results of an op without regions, from those of its operands."""
        raise NotImplementedError

    def join(self, first: Fact, second: Fact, value: Value) -> Fact:
        """What holds of `value` if it is described by one fact or the other."""
        raise NotImplementedError

    def widen(self, before: Fact, after: Fact, value: Value) -> Fact:
        """A fact below both that a loop reaches in a few steps at most."""
        raise NotImplementedError

    def loop_index(self, loop: For) -> Fact:
        """What holds of the index inside `loop`."""
        raise NotImplementedError

    def element(self, block: Value, element: Value) -> Fact:
        """What holds of `element`, which is any element of `block`."""
        raise NotImplementedError

    def reduced(self, op: Reduce, index: int, element: Fact) -> Fact:
        """What holds of result `index`, of whose elements `element` holds."""
        raise NotImplementedError

    def enter(self, op: Op, region: Region) -> None:
        """Called before the ops of a region of `op`, each time they are analysed."""

    def leave(self, op: Op, region: Region) -> None:
        """Called behind the last op of a region."""

    # --- How facts flow ---

    def run(self, function: Function) -> None:
        """Analyse the whole function."""
        for argument in function.arguments:
            self.facts[argument] = self.argument(argument)
        self.block(function.block)

    def block(self, block: Block) -> None:
        """Analyse the ops of a block in order; its arguments have facts already."""
        for op in block.ops:
            assert isinstance(op, Op)
            if isinstance(op, For):
                self.facts[op.regions[0].block.arguments[0]] = self.loop_index(op)
                self._loop(op)
            elif isinstance(op, While):
                self._loop(op)
            elif isinstance(op, If):
                self._if(op)
            elif isinstance(op, Reduce):
                self._reduce(op)
            elif op.regions:
                self._opaque(op)
            elif not op.is_terminator:
                self._assign(op.results, self.transfer(op))
                self.after(op)

    def after(self, op: Op) -> None:
        """Called behind an op without regions: it may say something of other values."""

    def _assign(self, values: Sequence[Value], facts: Sequence[Fact]) -> None:
        self.facts.update(zip(values, facts, strict=True))

    def _of(self, values: Sequence[Value]) -> list[Fact]:
        return [self.facts[v] for v in values]

    def _region(self, op: Op, region: Region) -> list[Fact]:
        """Analyse a region; the facts of its terminator's operands, as they are inside."""
        self.enter(op, region)
        self.block(region.block)
        facts = self._of(region.block.terminator.operands)
        self.leave(op, region)
        return facts

    def _loop(self, op: For | While) -> None:
        facts = self._of(op.initial)
        arguments = op.regions[0].block.arguments[len(op.regions[0].block.arguments) - len(facts) :]
        for round in count():
            self._assign(arguments, facts)
            yielded = self._region(op, op.regions[0])
            leaving = yielded[1:]
            if isinstance(op, While):
                self._assign(op.regions[1].block.arguments, leaving)
                yielded = self._region(op, op.regions[1])
            again = self._step(facts, yielded, arguments, round)
            if again == facts:
                break
            facts = again
        self._assign(op.results, leaving if isinstance(op, While) else facts)

    def _step(
        self, before: list[Fact], yielded: list[Fact], values: Sequence[Value], round: int
    ) -> list[Fact]:
        facts = [self.join(*each) for each in zip(before, yielded, values, strict=True)]
        if round < PATIENCE:
            return facts
        changes = zip(before, facts, values, strict=True)
        return [old if old == new else self.widen(old, new, v) for old, new, v in changes]

    def _if(self, op: If) -> None:
        then, otherwise = (self._region(op, r) for r in op.regions)
        for result, first, second in zip(op.results, then, otherwise, strict=True):
            self.facts[result] = self.join(first, second, result)

    def _reduce(self, op: Reduce) -> None:
        arguments = op.regions[0].block.arguments
        half = len(arguments) // 2
        facts = [self.element(v, a) for v, a in zip(op.inputs, arguments, strict=False)]
        for round in count():
            self._assign(arguments, facts * 2)
            yielded = self._region(op, op.regions[0])
            again = self._step(facts, yielded, arguments[:half], round)
            if again == facts:
                break
            facts = again
        for index, result in enumerate(op.results):
            self.facts[result] = self.reduced(op, index, facts[index])

    def _opaque(self, op: Op) -> None:
        for region in op.regions:
            for argument in region.block.arguments:
                self.facts[argument] = self.unknown(argument)
            self._region(op, region)
        for result in op.results:
            self.facts[result] = self.unknown(result)
