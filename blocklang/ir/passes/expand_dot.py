"""expand-dot: matrix products that no instruction of the target takes become such that do.

8-bit floats that cannot be multiplied as they are, or not summed in the wanted type, are converted
to f16, which has all their values.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from blocklang.ir.builder import Builder
from blocklang.ir.core import Module, Value
from blocklang.ir.ops.dot import Dot
from blocklang.ir.ops.elementwise import Cast
from blocklang.ir.types import BlockType, DType, element_type, f16

from .manager import Pass
from .map_dot import has_mma


@dataclass(frozen=True)
class ExpandDot(Pass):
    """Rewrite products for a GPU of a capability (80 for sm_80); `float8` says that 8-bit floats
    can be multiplied.
    """

    capability: int = 80
    float8: bool = False
    name: ClassVar[str] = "expand-dot"

    def _run(self, module: Module) -> None:
        for op in list(module.walk()):
            if isinstance(op, Dot) and not op.instruction:
                kinds = [element_type(v.type) for v in (op.a, op.b, op.acc)]
                left, right, total = (k for k in kinds if isinstance(k, DType))
                possible = has_mma(left, total, self.capability, self.float8)
                if (left.is_float8 or right.is_float8) and not possible:
                    _widen(op)


def _widen(op: Dot) -> None:
    builder = Builder.before(op)
    for index in (0, 1):
        op.set_operand(index, _as_half(builder, op.operands[index]))


def _as_half(builder: Builder, value: Value) -> Value:
    assert isinstance(value.type, BlockType)
    kind = replace(value.type, element=f16)
    return builder.insert(Cast(value, loc=builder.loc, result_types=[kind])).results[0]
