"""Single registers of block values, computed as scalars.

A masked access of a vector needs one address and one predicate, not one for each element.
`element` therefore follows the index arithmetic behind a register (ranges, broadcasts, integer
ops, comparisons) and writes just that, with the constant part of an address last, where the
instruction's offset takes it up. What is not index arithmetic is extracted from its vector.
"""

from __future__ import annotations

from functools import lru_cache

from blocklang.codegen.lower import find_lowering
from blocklang.ir.core import Result, Value
from blocklang.ir.layout import LinearLayout
from blocklang.ir.op import Op
from blocklang.ir.ops.elementwise import AddPointer, Elementwise
from blocklang.ir.ops.program import Arange, Constant, Hint, Splat, constant_value
from blocklang.ir.ops.shape import Broadcast, ExpandDims, Permute, Reshape
from blocklang.ir.types import BlockType, DType, PointerType, element_type

from .emitter import NvptxEmitter


def layout_of(value: Value) -> LinearLayout:
    """The layout of a block value."""
    assert isinstance(value.type, BlockType)
    assert value.type.layout is not None
    return value.type.layout


@lru_cache(maxsize=1024)
def _sources(source: LinearLayout, target: LinearLayout, axis: int | None) -> tuple[int, ...]:
    holders = {source.apply(register=r): r for r in range(source.in_size("register"))}
    found = []
    for register in range(target.in_size("register")):
        at = target.apply(register=register)
        if axis is not None:
            at = (*at[:axis], *at[axis + 1 :])
        else:
            at = tuple(0 if size == 1 else c for c, size in zip(at, source.shape, strict=True))
        found.append(holders[at])
    return tuple(found)


def source_registers(op: Broadcast | ExpandDims) -> tuple[int, ...]:
    """For each register of the result, the register of the same thread that holds its source."""
    axis = op.axis if isinstance(op, ExpandDims) else None
    return _sources(layout_of(op.operand), layout_of(op.results[0]), axis)


def element(e: NvptxEmitter, value: Value, register: int) -> str:
    """Register `register` of `value` as an LLVM scalar; a scalar value itself."""
    if not isinstance(value.type, BlockType):
        return e[value]
    key = value, register, e.block_label
    if key not in e.elements:
        e.elements[key] = _element(e, value, register)
    return e.elements[key]


def _element(e: NvptxEmitter, value: Value, register: int) -> str:
    op = value.op if isinstance(value, Result) else None
    if isinstance(op, Splat):
        return e[op.value]
    if isinstance(op, Arange):
        start, used = e.ranges[value]
        offset = layout_of(value).apply(register=register)[0]
        place = e.combine_offset(start, used, offset)
        return e.emit(f"add nsw i32 {place}, {op.start}") if op.start else place
    if isinstance(op, Broadcast | ExpandDims):
        return element(e, op.operand, source_registers(op)[register])
    if isinstance(op, Reshape | Permute):
        return element(e, op.operand, register)
    if isinstance(op, Hint):
        return element(e, op.value, register)
    if isinstance(op, AddPointer):
        return _pointer(e, op, register)
    if isinstance(op, Constant | Elementwise) and _is_index(value):
        return _scalar_op(e, op, register)
    return e.extract(e[value], e.type(value.type), register)


def _is_index(value: Value) -> bool:
    kind = element_type(value.type)
    return isinstance(kind, PointerType) or kind.is_integer


def _scalar_op(e: NvptxEmitter, op: Op, register: int) -> str:
    """The op's own lowering on scalars."""
    names = {v: element(e, v, register) for v in op.operands}
    kind = element_type(op.operands[0].type) if op.operands else None
    lowering = find_lowering(e.target, type(op), kind if isinstance(kind, DType) else None)
    assert lowering is not None
    outer = {v: e.names[v] for v in op.operands}
    e.names.update(names)
    e.is_scalar = True
    try:
        name = lowering.function(e, op)
    finally:
        e.is_scalar = False
        e.names.update(outer)
    assert isinstance(name, str)
    return name


def _pointer(e: NvptxEmitter, op: AddPointer, register: int) -> str:
    pointer = element(e, op.pointer, register)
    kind = element_type(op.pointer.type)
    assert isinstance(kind, PointerType)
    size = f"[{kind.element.bytes} x i8]"
    base, constant = _affine(e, op.offset, register)
    if base is None:
        base, integer = element(e, op.offset, register), element_type(op.offset.type)
        assert isinstance(integer, DType)
        if not integer.is_signed and integer.bits < 64:
            base, integer_type = e.emit(f"zext i{integer.bits} {base} to i64"), "i64"
        else:
            integer_type = f"i{integer.bits}"
        return e.emit(f"getelementptr {size}, {e.pointer} {pointer}, {integer_type} {base}")
    pointer = e.emit(f"getelementptr {size}, {e.pointer} {pointer}, i32 {base}")
    if constant:
        pointer = e.emit(f"getelementptr {size}, {e.pointer} {pointer}, i64 {constant}")
    return pointer


def _affine(e: NvptxEmitter, value: Value, register: int) -> tuple[str | None, int]:
    """An offset as a base that all registers share plus a constant, where it is known to be such a
    sum.
    """
    op = value.op if isinstance(value, Result) else None
    if isinstance(op, Broadcast | ExpandDims):
        return _affine(e, op.operand, source_registers(op)[register])
    known = constant_value(value)
    if known is not None:
        return "0", int(known)
    if isinstance(op, Arange):
        start, used = e.ranges[value]
        offset = layout_of(value).apply(register=register)[0]
        if used & offset == 0:
            return start, op.start + offset
    return None, 0
