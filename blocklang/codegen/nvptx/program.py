"""Program indices, ranges, and ops that only relabel elements."""

from __future__ import annotations

from blocklang.codegen.lower import lowers
from blocklang.codegen.targets import MAX_GRID
from blocklang.ir.ops.program import Arange, Assume, NumPrograms, ProgramId
from blocklang.ir.ops.shape import Broadcast, ExpandDims, Permute, Reshape

from .elements import layout_of, source_registers
from .emitter import NvptxEmitter


@lowers(ProgramId, on=("nvptx",))
def _(e: NvptxEmitter, op: ProgramId) -> str:
    bound = MAX_GRID[op.axis]
    if e.num_ctas > 1:
        # Several blocks of threads are one program: the number of the cluster.
        return e.emit(f"call i32 @llvm.nvvm.read.ptx.sreg.clusterid.{'xyz'[op.axis]}()")
    return e.emit(
        f"call range(i32 0, {bound}) i32 @llvm.nvvm.read.ptx.sreg.ctaid.{'xyz'[op.axis]}()"
    )


@lowers(NumPrograms, on=("nvptx",))
def _(e: NvptxEmitter, op: NumPrograms) -> str:
    if e.num_ctas > 1:
        return e.emit(f"call i32 @llvm.nvvm.read.ptx.sreg.nclusterid.{'xyz'[op.axis]}()")
    # Behind the largest i32 comes the smallest one.
    bound = (MAX_GRID[op.axis] + 1 + 2**31) % 2**32 - 2**31
    name = f"@llvm.nvvm.read.ptx.sreg.nctaid.{'xyz'[op.axis]}()"
    return e.emit(f"call range(i32 1, {bound}) i32 {name}")


@lowers(Arange, on=("nvptx",))
def _(e: NvptxEmitter, op: Arange) -> str:
    block = op.results[0].type
    layout = layout_of(op.results[0])
    start = e.first_coordinate(layout, 0)
    e.ranges[op.results[0]] = start
    vector = e.spread(layout, 0, *start)
    if op.start == 0:
        return vector
    return e.emit(f"add nsw {e.type(block)} {vector}, {e.constant(op.start, block)}")


@lowers(Assume, on=("nvptx",))
def _(e: NvptxEmitter, op: Assume) -> None:
    e.line(f"call void @llvm.assume(i1 {e[op.condition]})")


@lowers(Broadcast, ExpandDims, on=("nvptx",))
def _(e: NvptxEmitter, op: Broadcast | ExpandDims) -> str:
    """Each register of the result is a register of the same thread: the one that holds its
    source.
    """
    source = layout_of(op.operand).in_size("register")
    return e.shuffle(e[op.operand], e.scalar_type(op.operand.type), source, source_registers(op))


@lowers(Reshape, Permute, on=("nvptx",))
def _(e: NvptxEmitter, op: Reshape | Permute) -> str:
    """The layouts differ only in how they name coordinates: registers stay."""
    return e[op.operand]
