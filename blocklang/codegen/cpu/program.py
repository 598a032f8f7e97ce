"""Where values come from, and how blocks are seen in another shape."""

from __future__ import annotations

from blocklang.codegen.lower import lowers
from blocklang.ir.ops.program import Arange, Assume, NumPrograms, ProgramId
from blocklang.ir.ops.shape import Broadcast, ExpandDims, Permute, Reshape
from blocklang.ir.ops.shared import Barrier

from .emitter import Coordinate, CpuEmitter, Lanes, uniform
from .places import inline_operands


@lowers(ProgramId, on=("cpu",))
def _(e: CpuEmitter, op: ProgramId) -> str:
    return f"%program_{'xyz'[op.axis]}"


@lowers(NumPrograms, on=("cpu",))
def _(e: CpuEmitter, op: NumPrograms) -> str:
    return f"%programs_{'xyz'[op.axis]}"


@lowers(Barrier, on=("cpu",))
def _(e: CpuEmitter, op: Barrier) -> None:
    """A program is one thread, whose memory accesses happen in order."""


@lowers(Assume, on=("cpu",))
def _(e: CpuEmitter, op: Assume) -> None:
    e.line(f"call void @llvm.assume(i1 {e[op.condition]})")


@lowers(Arange, on=("cpu",))
def _(e: CpuEmitter, op: Arange) -> Lanes:
    (index,) = e.place
    if not isinstance(index, Coordinate):
        return uniform(str(op.start))
    if not index.base.startswith("%"):
        return Lanes(str(int(index.base) + op.start), index.step)
    base = e.emit(f"trunc i64 {index.base} to i32")
    if op.start:
        base = e.emit(f"add i32 {base}, {op.start}")
    return Lanes(base, index.step)


@lowers(ExpandDims, Broadcast, Permute, Reshape, on=("cpu",))
def _(e: CpuEmitter, op: ExpandDims | Broadcast | Permute | Reshape) -> Lanes:
    operands = inline_operands(op, e.place)
    assert operands is not None, "reshaped blocks come from buffers"
    ((value, place),) = operands
    return e.evaluate(value, place)
