"""Barriers in shared memory: 8 bytes each, which count arrivals and announced bytes."""

from __future__ import annotations

from blocklang.codegen.lower import lowers
from blocklang.ir.core import Value
from blocklang.ir.ops.asynchronous import (
    MBarrierAlloc,
    MBarrierArrive,
    MBarrierExpect,
    MBarrierWait,
)
from blocklang.ir.types import MBarriersType

from . import partitions
from .emitter import SHARED, NvptxEmitter

_BYTES = 8


def _place(byte: int) -> str:
    return f"getelementptr (i8, {SHARED} @shared_memory, i32 {byte})"


def barrier(e: NvptxEmitter, barriers: Value, index: Value) -> str:
    """The address of one of several barriers."""
    return e.emit(f"getelementptr [{_BYTES} x i8], {SHARED} {e[barriers]}, i32 {e[index]}")


def _local_address(operand: int, barriers: Value) -> str:
    """PTX that defines `place`, the address of the barrier whose byte `operand` counts.

    The start of shared memory is taken here and not from LLVM, which would keep it in a register
    all the time. ptxas then takes what it is added to for different in each thread, and with it
    everything that is computed behind a wait at such an address.
    """
    made = barriers.owner
    assert isinstance(made, MBarrierAlloc)
    return (
        f".reg .b32 place; mov.b32 place, shared_memory; add.u32 place, place, ${operand}; "
        f"add.u32 place, place, {made.offset}; "
    )


def _byte(e: NvptxEmitter, index: Value) -> str:
    return e.emit(f"shl i32 {e[index]}, {_BYTES.bit_length() - 1}")


@lowers(MBarrierAlloc, on=("nvptx",), capability=90)
def _(e: NvptxEmitter, op: MBarrierAlloc) -> str:
    assert op.offset >= 0, "allocate_shared has not run"
    assert op.parent is not None
    together = [other for other in op.parent.ops if isinstance(other, MBarrierAlloc)]
    # Places are constants: the first op can prepare them all, with one barrier of the threads.
    if op is together[0]:
        _initialise(e, together)
    return _place(op.offset)


def _initialise(e: NvptxEmitter, ops: list[MBarrierAlloc]) -> None:
    assert not e.partition, "a partition cannot make barriers for the other one"
    with e.one_thread():
        for op in ops:
            kind = op.results[0].type
            assert isinstance(kind, MBarriersType)
            for index in range(kind.depth):
                place = _place(op.offset + _BYTES * index)
                name = "@llvm.nvvm.mbarrier.init.shared"
                e.line(f"call void {name}({SHARED} {place}, i32 {op.arrivals})")
        e.line("call void @llvm.nvvm.fence.mbarrier_init.release.cluster()")
        e.line("call void @llvm.nvvm.fence.proxy.async.shared_cta()")
    if e.num_ctas > 1:
        partitions.meet_cluster(e)
    else:
        e.line("call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)")


@lowers(MBarrierWait, on=("nvptx",), capability=90)
def _(e: NvptxEmitter, op: MBarrierWait) -> None:
    """The hardware suspends the thread for a while; it may give up before the phase is complete."""
    byte = _byte(e, op.index)
    wait, done = e.new_label("wait"), e.new_label("endwait")
    e.line(f"br label %{wait}")
    e.label(wait)
    (complete,) = e.assembly(
        f"{{ {_local_address(1, op.barriers)}"
        "mbarrier.try_wait.parity.shared::cta.b64 $0, [place], $2; }",
        [("b", "i1")],
        [("r", "i32", byte), ("r", "i32", e[op.phase])],
        memory=True,
    )
    e.line(f"br i1 {complete}, label %{done}, label %{wait}")
    e.label(done)


@lowers(MBarrierArrive, on=("nvptx",), capability=90)
def _(e: NvptxEmitter, op: MBarrierArrive) -> None:
    byte = _byte(e, op.index)
    predicate = None if op.predicate is None else e[op.predicate]
    if e.partition != "producer":
        # What the other lanes have read is read before the first one arrives for all.
        e.line("call void @llvm.nvvm.bar.warp.sync(i32 -1)")
        lane = e.emit("and i32 %tid, 31")
        if op.everywhere:
            _arrive_everywhere(e, op, byte, lane, predicate)
            return
        predicate = e.both(e.emit(f"icmp eq i32 {lane}, 0"), predicate)
    # A predicated instruction does not cut the code into basic blocks.
    e.assembly(
        f"{{ {_local_address(1, op.barriers)}@$0 mbarrier.arrive.shared::cta.b64 _, [place]; }}",
        [],
        [("b", "i1", predicate or "true"), ("r", "i32", byte)],
        memory=True,
    )


def _arrive_everywhere(
    e: NvptxEmitter, op: MBarrierArrive, byte: str, lane: str, predicate: str | None
) -> None:
    """Lane i arrives at the barrier of block of threads i.

    What the arrival announces is that products have read a slot, which the wait for them has
    ensured; nothing was written that the others read. Scopes wider than a block of threads, which
    write back and invalidate caches, are therefore not needed here nor where a wait sees it.
    """
    predicate = e.both(e.emit(f"icmp ult i32 {lane}, {e.num_ctas}"), predicate)
    assert predicate is not None
    e.assembly(
        f"{{ {_local_address(1, op.barriers)}mapa.shared::cluster.u32 place, place, $2; "
        "@$0 mbarrier.arrive.shared::cluster.b64 _, [place]; }",
        [],
        [("b", "i1", predicate), ("r", "i32", byte), ("r", "i32", lane)],
        memory=True,
    )


@lowers(MBarrierExpect, on=("nvptx",), capability=90)
def _(e: NvptxEmitter, op: MBarrierExpect) -> None:
    place = barrier(e, op.barriers, op.index)
    with e.one_thread():
        name = "@llvm.nvvm.mbarrier.arrive.expect.tx.scope.cta.space.cta"
        e.emit(f"call i64 {name}({SHARED} {place}, i32 {op.bytes})")
