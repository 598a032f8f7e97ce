"""Matrix products of blocks, for tensor cores where the target has them."""

from __future__ import annotations

from collections.abc import Sequence

from blocklang.ir.core import Value
from blocklang.ir.layout import LinearLayout
from blocklang.ir.op import Op, attribute, operand, output, require
from blocklang.ir.types import (
    BlockType,
    DType,
    Element,
    SharedType,
    Type,
    element_type,
    f16,
    f32,
    f64,
    i32,
    shape_of,
)


class Dot(Op, mnemonic="dot"):
    """`acc` + `a` x `b`: (M, K) by (K, N) into (M, N), or a batch of these with one axis before.

    `precision` says how f32 operands are rounded: "tf32" once, "tf32x3" as a sum of three
    products, "ieee" not at all. At most `max_imprecise` products of 8-bit floats are summed in the
    tensor core's own accumulator before they join `acc` (0: any number). `instruction`, `warps`
    (along M and N) and `layout`, that of the result, are the choice of `map_dot`; with "wgmma" `b`,
    and `a` too unless it is a block, lie in shared memory.
    """

    a: Value = operand()
    b: Value = operand()
    acc: Value = operand()
    precision: str = attribute(default="tf32")  # tf32, tf32x3, ieee
    max_imprecise: int = attribute(default=0)
    instruction: str = attribute(default="")  # "", wgmma, mma, fma
    warps: tuple[int, ...] = attribute(default=())
    layout: LinearLayout | None = attribute(default=None)
    result = output()

    def infer(self) -> Sequence[Type]:
        return [self.acc.type]

    def check(self) -> None:
        require(isinstance(self.acc.type, BlockType), "acc is a block")
        for value in (self.a, self.b):
            require(isinstance(value.type, BlockType | SharedType), "a and b are blocks or buffers")
        a, b, acc = (shape_of(v.type) for v in (self.a, self.b, self.acc))
        require(len(a) == len(b) == len(acc) and len(a) in (2, 3), "all have rank 2, or all 3")
        require(a[-1] == b[-2], "the columns of a are the rows of b")
        require(acc == (*a[:-1], b[-1]) and a[:-2] == b[:-2], f"{a} x {b} does not give {acc}")
        kinds = element_type(self.a.type), element_type(self.b.type)
        both_float8 = all(getattr(k, "is_float8", False) for k in kinds)
        require(kinds[0] == kinds[1] or both_float8, "a and b have one element type")
        total = element_type(self.acc.type)
        require(
            total in accumulators(kinds[0]), f"products of {kinds[0]} are not summed in {total}"
        )
        require(self.precision in ("tf32", "tf32x3", "ieee"), "unknown precision")
        require(self.instruction in ("", "wgmma", "mma", "fma"), "unknown instruction")


def accumulators(kind: Element) -> tuple[DType, ...]:
    """The element types in which products of elements of `kind` can be summed, the usual one
    first; none where there are no products. Those of i32 are what a back end makes of i8 and u8.
    """
    if not isinstance(kind, DType):
        return ()
    if kind.is_float:
        wide = f64 if kind.bits == 64 else f32
        return (f32, f16) if kind.is_float8 or kind == f16 else (wide,)
    return (i32,) if kind.bits == 8 or kind == i32 else ()
