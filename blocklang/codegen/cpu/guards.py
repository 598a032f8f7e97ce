"""Checks at run time that accesses of one nest do not meet (see `conflicts`).

Their addresses change steadily along every dimension, so that the lowest and the highest one are at
corners of the block.
"""

from __future__ import annotations

import itertools

from blocklang.ir.core import Value
from blocklang.ir.ops.memory import MemoryAccess
from blocklang.ir.types import PointerType, element_type, shape_of

from .emitter import Coordinate, CpuEmitter
from .places import ZERO
from .plan import Nest


def emit_guards(e: CpuEmitter, nest: Nest) -> str:
    """An i1 that says whether all guards of the nest hold."""
    e.memo = {}
    ranges: dict[Value, tuple[str, str, str]] = {}
    condition = "true"
    for guard in nest.guards:
        assert isinstance(guard.earlier, MemoryAccess)
        pointers = guard.earlier.pointer, guard.later.pointer
        for pointer in pointers:
            if pointer not in ranges:
                ranges[pointer] = _range(e, pointer)
        (first, low, high), (other_first, other_low, other_high) = (ranges[p] for p in pointers)
        below = e.emit(f"icmp ule i64 {high}, {other_low}")
        above = e.emit(f"icmp ule i64 {other_high}, {low}")
        holds = e.emit(f"or i1 {below}, {above}")
        if guard.may_coincide:
            same = e.emit(f"icmp eq i64 {first}, {other_first}")
            holds = e.emit(f"or i1 {holds}, {same}")
        condition = holds if condition == "true" else e.emit(f"and i1 {condition}, {holds}")
    return condition


def _range(e: CpuEmitter, pointer: Value) -> tuple[str, str, str]:
    """The address of the first element, the lowest address, and the end of the highest one."""
    kind = element_type(pointer.type)
    assert isinstance(kind, PointerType)
    corners = []
    for ends in itertools.product(*(sorted({0, n - 1}) for n in shape_of(pointer.type))):
        place = tuple(
            ZERO if n == 1 else Coordinate(d, str(i), 0)
            for d, (i, n) in enumerate(zip(ends, shape_of(pointer.type), strict=True))
        )
        address = e.evaluate(pointer, place).text
        corners.append(e.emit(f"ptrtoint ptr {address} to i64"))
    low = high = corners[0]
    for corner in corners[1:]:
        low = e.emit(f"call i64 @llvm.umin.i64(i64 {low}, i64 {corner})")
        high = e.emit(f"call i64 @llvm.umax.i64(i64 {high}, i64 {corner})")
    return corners[0], low, e.emit(f"add i64 {high}, {kind.element.bytes}")
