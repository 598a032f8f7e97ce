"""Structured control flow and calls. Loop-carried values are block arguments."""

from __future__ import annotations

from collections.abc import Sequence

from blocklang.ir.core import Region, Value
from blocklang.ir.op import Effect, Op, attribute, operand, outputs, region, require
from blocklang.ir.types import DType, Type, i1


class Yield(Op, mnemonic="yield", terminator=True):
    """Ends a region and hands its values to the op that holds it."""

    values: tuple[Value, ...] = operand(variadic=True)


class Return(Op, mnemonic="return", terminator=True):
    """Ends a function."""

    values: tuple[Value, ...] = operand(variadic=True)


class Condition(Op, mnemonic="condition", terminator=True):
    """Ends the first region of a `while`: goes on with `values` if `condition` holds, else leaves
    with them.
    """

    condition: Value = operand()
    values: tuple[Value, ...] = operand(variadic=True)


class If(Op, mnemonic="if"):
    """Executes `then` or `otherwise`, as the scalar `condition` says; results are what that region
    yields.
    """

    condition: Value = operand()
    then = region()
    otherwise = region()
    results_ = outputs()

    def check(self) -> None:
        require(self.condition.type == i1, "condition is a scalar i1")
        for inner in self.regions:
            require(not inner.block.arguments, "regions of an if take no arguments")
            _check_yield(self, inner.block.terminator.operands)


class For(Op, mnemonic="for"):
    """Executes `body` for each index from `lower` below `upper` in steps of `step` (positive).

    The body takes the index and the carried values and yields the next ones; results are the last
    ones. `num_stages` (0: the compiler's choice) is the wish for software pipelining,
    `warp_specialize` (-1: the compiler's choice, 0: no, 1: yes) that for warps of their own for
    copies.
    """

    lower: Value = operand()
    upper: Value = operand()
    step: Value = operand()
    initial: tuple[Value, ...] = operand(variadic=True)
    num_stages: int = attribute(default=0)
    warp_specialize: int = attribute(default=-1)
    body = region()
    results_ = outputs()

    def again(
        self, initial: Sequence[Value], regions: list[Region], lower: Value | None = None
    ) -> For:
        """The loop anew, in no block yet: other values are carried, and it may start elsewhere."""
        return For(
            self.lower if lower is None else lower, self.upper, self.step, tuple(initial),
            **self.attributes, loc=self.loc, regions=regions,
        )  # fmt: skip

    def infer(self) -> Sequence[Type]:
        return [v.type for v in self.initial]

    def check(self) -> None:
        kind = self.lower.type
        require(isinstance(kind, DType) and kind.is_integer, "bounds are scalar integers")
        require(self.upper.type == kind and self.step.type == kind, "bounds and step have one type")
        block = self.regions[0].block
        types = [v.type for v in self.initial]
        require(
            [a.type for a in block.arguments] == [kind, *types],
            "the body takes the index and the carried values",
        )
        require(
            [r.type for r in self.results] == types, "results have the types of the carried values"
        )
        _check_yield(self, block.terminator.operands)


class While(Op, mnemonic="while"):
    """Executes `before`, which ends with a `condition`, and as long as that holds `body`, which
    yields to `before`.
    """

    initial: tuple[Value, ...] = operand(variadic=True)
    before = region()
    body = region()
    results_ = outputs()

    def infer(self) -> Sequence[Type]:
        return [v.type for v in self.initial]

    def check(self) -> None:
        types = [v.type for v in self.initial]
        for inner in self.regions:
            require(
                [a.type for a in inner.block.arguments] == types, "regions take the carried values"
            )
        condition = self.regions[0].block.terminator
        require(isinstance(condition, Condition), "the first region ends with a condition")
        _check_yield(self, condition.operands[1:])
        _check_yield(self, self.regions[1].block.terminator.operands)


class Call(Op, mnemonic="call", effects=Effect.OBSERVABLE):
    """Calls the function `callee` of the module; `inline` replaces it by the body."""

    callee: str = attribute()
    arguments: tuple[Value, ...] = operand(variadic=True)
    results_ = outputs()


def _check_yield(op: Op, values: Sequence[Value]) -> None:
    expected = [r.type for r in op.results]
    require(
        [v.type for v in values] == expected, f"{op.mnemonic} yields {[str(t) for t in expected]}"
    )
