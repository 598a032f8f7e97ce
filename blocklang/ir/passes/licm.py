"""licm: moves pure ops out of loops when their operands come from outside.

Pure ops cannot trap on any target, so an op may run although the loop would not have. Only integer
division stays where the divisor may be zero or minus one, which is undefined (the latter for the
most negative number).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from blocklang.ir.core import Module, Region, Result, Value, is_inside
from blocklang.ir.op import Op
from blocklang.ir.ops.control import For, While
from blocklang.ir.ops.elementwise import Divide, Remainder
from blocklang.ir.ops.program import constant_value
from blocklang.ir.types import DType, element_type

from .manager import Pass


@dataclass(frozen=True)
class LoopInvariantCodeMotion(Pass):
    """Hoist loop-invariant pure ops."""

    name: ClassVar[str] = "licm"

    def _run(self, module: Module) -> None:
        # Inner loops first: what leaves them may leave the outer ones too.
        loops = [op for op in module.walk() if isinstance(op, For | While)]
        for loop in reversed(loops):
            for region in loop.regions:
                _hoist(loop, region)


def _hoist(loop: Op, region: Region) -> None:
    assert loop.parent is not None
    for op in list(region.block.ops):
        assert isinstance(op, Op)
        if not op.is_pure or op.regions or _may_be_undefined(op):
            continue
        if any(_is_defined_in(v, region) for v in op.operands):
            continue
        op.detach()
        loop.parent.insert(loop.parent.ops.index(loop), op)


def _may_be_undefined(op: Op) -> bool:
    if not isinstance(op, Divide | Remainder):
        return False
    kind = element_type(op.right.type)
    return isinstance(kind, DType) and kind.is_integer and constant_value(op.right) in (None, 0, -1)


def _is_defined_in(value: Value, region: Region) -> bool:
    if isinstance(value, Result):
        return is_inside(value.op, region)
    owner = value.owner
    if owner is region.block:
        return True
    outer = owner.region.op if owner.region is not None else None  # type: ignore[union-attr]
    return outer is not None and is_inside(outer, region)
