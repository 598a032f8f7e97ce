"""cse: merges pure ops that compute the same; with loads it does nothing (memory may have changed
between).

An op may be replaced by an equal one that stands before it in the same block or an enclosing one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from blocklang.ir.core import Block, Module
from blocklang.ir.op import Op

from .manager import Pass


@dataclass(frozen=True)
class CommonSubexpressionElimination(Pass):
    """Merge equal pure ops."""

    name: ClassVar[str] = "cse"

    def _run(self, module: Module) -> None:
        for function in module.functions.values():
            _merge(function.block, {})


def _merge(block: Block, outer: dict[Any, Op]) -> None:
    known = dict(outer)
    for op in list(block.ops):
        assert isinstance(op, Op)
        for region in op.regions:
            _merge(region.block, known)
        if not op.is_pure or op.regions or not op.results:
            continue
        # Types make the key exact: 1, 1.0 and True are equal in Python; repr tells 0.0 from -0.0.
        attributes = tuple(repr(v) for v in op.attributes.values())
        operands = op.operands
        if op.is_commutative:
            operands = tuple(sorted(operands, key=id))
        key = type(op), operands, op.segments, attributes, tuple(r.type for r in op.results)
        if key in known:
            op.replace_with(known[key].results)
        else:
            known[key] = op
