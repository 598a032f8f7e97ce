"""Which values follow from the arguments of the kernel alone: the launcher can compute them.

An expression is JSON: `["arg", TYPE, number of the argument]`, `["const", TYPE, integer]`, or
`[MNEMONIC, TYPE, ATTRIBUTES, EXPRESSION, ...]` for an elementwise op on integers and pointers. TYPE
is the text of the result's type. Values that depend on the program, on memory, or on floats are
none of these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy

from blocklang.ir.compute import elementwise, numpy_type
from blocklang.ir.core import Argument, Block, Result, Value
from blocklang.ir.location import SYNTHETIC
from blocklang.ir.op import REGISTRY, Op
from blocklang.ir.ops.elementwise import Elementwise
from blocklang.ir.ops.program import Constant, Hint
from blocklang.ir.types import DTYPES, DType, Element, PointerType

Expression = list[Any]


def host_expression(value: Value) -> Expression | None:
    """How the launcher computes a scalar integer or pointer, or None where it cannot."""
    type = value.type
    if not (isinstance(type, PointerType) or (isinstance(type, DType) and type.is_integer)):
        return None
    if isinstance(value, Argument):
        # Arguments of inner blocks are what loops carry.
        is_given = value.block.region is None or value.block.region.op is None
        return ["arg", str(type), value.index] if is_given else None
    assert isinstance(value, Result)
    op = value.op
    if isinstance(op, Constant):
        return ["const", str(type), op.value]
    if isinstance(op, Hint):
        return host_expression(op.value)
    if not isinstance(op, Elementwise):
        return None
    operands = [host_expression(operand) for operand in op.operands]
    if None in operands:
        return None
    return [op.mnemonic, str(type), dict(op.attributes), *operands]


def arguments_of(expression: Expression) -> set[int]:
    """The numbers of the arguments that an expression reads."""
    kind, _, detail, *operands = expression
    if kind == "arg":
        return {detail}
    return set().union(*map(arguments_of, operands))


def host_function(expression: Expression) -> Callable[[Sequence[int]], int]:
    """A function that computes an expression from the kernel's arguments, exactly as the IR's ops
    are defined. Pointers are addresses.
    """
    compute, _ = _compile(expression)

    def run(arguments: Sequence[int]) -> int:
        return int(compute(arguments))

    return run


def _compile(expression: Expression) -> tuple[Callable[[Sequence[int]], Any], Element]:
    kind, text, detail, *operands = expression
    type = _type(text)
    dtype = numpy_type(type)
    if kind == "arg":
        return lambda arguments: numpy.asarray(arguments[detail]).astype(dtype), type
    if kind == "const":
        constant = numpy.asarray(detail).astype(dtype)
        return lambda arguments: constant, type
    inner, types = zip(*map(_compile, operands), strict=True)
    values = Block()
    op: Op = REGISTRY[kind](
        *(values.add_argument(t, SYNTHETIC) for t in types),
        loc=SYNTHETIC,
        result_types=[type],
        **detail,
    )
    assert isinstance(op, Elementwise)
    made: Elementwise = op
    return lambda arguments: elementwise(made, [each(arguments) for each in inner]), type


def _type(text: str) -> Element:
    if text.startswith("ptr<"):
        return PointerType(_type(text[4:-1]))
    return DTYPES[text]
