"""The product without tensor cores, once its operands lie in shared memory."""

from __future__ import annotations

from collections.abc import Sequence

from blocklang.ir.core import Value
from blocklang.ir.op import Effect, Op, operand, output, require
from blocklang.ir.types import BlockType, SharedType, Type, shape_of


class SharedDot(Op, mnemonic="shared_dot", effects=Effect.READ_SHARED):
    """`acc` + `a` x `b` with `a` and `b` in shared memory: each thread multiplies and adds the rows
    and columns of the elements of `acc` that it has.
    """

    a: Value = operand()
    b: Value = operand()
    acc: Value = operand()
    result = output()

    def infer(self) -> Sequence[Type]:
        return [self.acc.type]

    def check(self) -> None:
        require(isinstance(self.acc.type, BlockType), "acc is a block")
        require(
            isinstance(self.a.type, SharedType) and isinstance(self.b.type, SharedType),
            "a and b are buffers",
        )
        a, b, acc = (shape_of(v.type) for v in (self.a, self.b, self.acc))
        require(a[-1] == b[-2], "the columns of a are the rows of b")
        require(acc == (*a[:-1], b[-1]) and a[:-2] == b[:-2], f"{a} x {b} does not give {acc}")
