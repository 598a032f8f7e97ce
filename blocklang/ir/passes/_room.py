"""How much shared memory a kernel takes beside what a pass wants to put there."""

from __future__ import annotations

from collections.abc import Iterable

from blocklang.ir.core import Operation
from blocklang.ir.ops.asynchronous import MBarrierAlloc, ToShared
from blocklang.ir.ops.shape import ConvertLayout
from blocklang.ir.ops.shared import SharedAlloc
from blocklang.ir.types import MBarriersType, SharedType

from .lower_conversions import bytes_through_shared

SPARE = 2048
"""Bytes for what later passes add: reductions, and barriers of rings."""


def buffer_bytes(ops: Iterable[Operation]) -> int:
    """Bytes of the buffers that the ops are, or are going to be."""
    total = 0
    for op in ops:
        if isinstance(op, ToShared):
            total += op.bytes
        elif isinstance(op, SharedAlloc | MBarrierAlloc):
            kind = op.results[0].type
            assert isinstance(kind, SharedType | MBarriersType)
            total += kind.bytes
    return total


def conversion_bytes(ops: Iterable[Operation]) -> int:
    """Bytes that conversions among the ops take: they follow each other in the same bytes."""
    conversions = (op for op in ops if isinstance(op, ConvertLayout))
    return max(map(bytes_through_shared, conversions), default=0)
