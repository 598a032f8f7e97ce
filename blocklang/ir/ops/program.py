"""Where values come from: the program's place in the grid, constants, ranges; and what is known of
values.
"""

from __future__ import annotations

import math

from blocklang.ir.core import Result, Value
from blocklang.ir.op import Effect, Op, attribute, operand, output, require
from blocklang.ir.types import BlockType, DType, Type, element_type, i1, i32


class ProgramId(Op, mnemonic="program_id"):
    """The index of this program along `axis` (0, 1 or 2) of the grid."""

    axis: int = attribute()
    result = output()

    def infer(self) -> list[Type]:
        return [i32]

    def check(self) -> None:
        require(self.axis in (0, 1, 2), "axis is 0, 1 or 2")


class NumPrograms(Op, mnemonic="num_programs"):
    """The number of programs along `axis` (0, 1 or 2) of the grid."""

    axis: int = attribute()
    result = output()

    def infer(self) -> list[Type]:
        return [i32]

    def check(self) -> None:
        require(self.axis in (0, 1, 2), "axis is 0, 1 or 2")


class Constant(Op, mnemonic="constant"):
    """A compile-time number; every element of a block result has the same value."""

    value: int | float = attribute()
    result = output()

    def check(self) -> None:
        kind = element_type(self.results[0].type)
        require(isinstance(kind, DType), "a constant is a number")
        assert isinstance(kind, DType)
        if kind.is_integer:
            require(type(self.value) is int, "an integer constant needs an int")
            require(kind.minimum <= self.value <= kind.maximum, f"{self.value} does not fit {kind}")
        else:
            require(type(self.value) is float, "a float constant needs a float")


class Splat(Op, mnemonic="splat"):
    """A block whose elements all equal one scalar or pointer."""

    value: Value = operand()
    result = output()

    def check(self) -> None:
        type = self.results[0].type
        require(isinstance(type, BlockType), "the result is a block")
        require(
            element_type(type) == self.value.type, "the result's elements have the operand's type"
        )


class Arange(Op, mnemonic="arange"):
    """The integers from `start` to `end` (exclusive) as a block of rank 1."""

    start: int = attribute()
    end: int = attribute()
    result = output()

    def check(self) -> None:
        type = self.results[0].type
        require(
            isinstance(type, BlockType) and type.shape == (self.end - self.start,),
            "shape is (end - start,)",
        )
        require(element_type(type) == i32, "elements are i32")


class Hint(Op, mnemonic="hint"):
    """`value` itself, of which the author promises divisibility, contiguity or constancy along
    each dimension.

    Each attribute is empty or has one entry a dimension (one entry for a scalar). A false promise
    is undefined behaviour.
    """

    value: Value = operand()
    divisibility: tuple[int, ...] = attribute(default=())
    contiguity: tuple[int, ...] = attribute(default=())
    constancy: tuple[int, ...] = attribute(default=())
    result = output()

    def infer(self) -> list[Type]:
        return [self.value.type]


class Assume(Op, mnemonic="assume", effects=Effect.OBSERVABLE):
    """The author promises that the scalar `condition` holds here; a false promise is undefined
    behaviour.
    """

    condition: Value = operand()

    def check(self) -> None:
        require(self.condition.type == i1, "condition is a scalar i1")


def constant_value(value: Value | None) -> int | float | None:
    """The number that every element of `value` is known to equal, or None."""
    while isinstance(value, Result):
        if isinstance(value.op, Constant):
            return value.op.value
        if not isinstance(value.op, Splat):
            return None
        value = value.op.value
    return None


def is_constant(value: Value | None, number: float) -> bool:
    """Whether every element of `value` is known to be `number` (+0.0 and -0.0 differ)."""
    known = constant_value(value)
    return (
        known is not None
        and known == number
        and math.copysign(1, known) == math.copysign(1, number)
    )
