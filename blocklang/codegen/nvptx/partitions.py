"""Warps that do different work: a producer's warpgroup behind the program's own warps.

The ordinary warps keep their numbers, so that layouts need not know of the producer. One thread of
it executes the producer's region, or one in each of several warps its part of that; the others
leave, and no barrier of all threads may follow.
"""

from __future__ import annotations

from blocklang.codegen.lower import lowers
from blocklang.ir.core import Region
from blocklang.ir.ops.asynchronous import ClusterRank, OneWarp, WarpSpecialize

from .control import emit_ops
from .emitter import NvptxEmitter

PRODUCER_WARPS = 4
"""Registers are handed from one warpgroup to another: the producer has all four warps of one."""


@lowers(WarpSpecialize, on=("nvptx",), feature="has_warpgroups")
def _(e: NvptxEmitter, op: WarpSpecialize) -> None:
    assert not e.partition, "partitions do not nest"
    producer, consumer = e.new_label("producer"), e.new_label("consumer")
    end = e.new_label("endpartitions")
    behind = e.emit(f"icmp uge i32 %warp, {e.num_warps}")
    e.line(f"br i1 {behind}, label %{producer}, label %{consumer}")
    e.label(producer)
    _set_registers(e, "dec", op.producer_registers)
    if not any(isinstance(inner, OneWarp) for inner in op.producer.block.ops):
        _elect(e, 0, end)
    _partition(e, "producer", op.producer)
    e.location = op.loc
    e.line(f"br label %{end}")
    e.label(consumer)
    _set_registers(e, "inc", op.consumer_registers)
    _partition(e, "consumer", op.consumer)
    e.location = op.loc
    e.line(f"br label %{end}")
    e.label(end)


def meet_cluster(e: NvptxEmitter) -> None:
    """All threads of the cluster wait for each other."""
    e.line("call void @llvm.nvvm.barrier.cluster.arrive()")
    e.line("call void @llvm.nvvm.barrier.cluster.wait()")


@lowers(ClusterRank, on=("nvptx",), capability=90)
def _(e: NvptxEmitter, op: ClusterRank) -> str:
    return e.emit("call i32 @llvm.nvvm.read.ptx.sreg.cluster.ctarank()")


def _set_registers(e: NvptxEmitter, direction: str, count: int) -> None:
    if count:
        e.line(f"call void @llvm.nvvm.setmaxnreg.{direction}.sync.aligned.u32(i32 {count})")


@lowers(OneWarp, on=("nvptx",), feature="has_warpgroups")
def _(e: NvptxEmitter, op: OneWarp) -> None:
    end = e.new_label("endwarp")
    _elect(e, op.warp, end)
    emit_ops(e, op.body.block)
    e.location = op.loc
    e.line(f"br label %{end}")
    e.label(end)


def _elect(e: NvptxEmitter, warp: int, end: str) -> None:
    """One thread of a warp of the producer goes on, all others to `end`."""
    mine, elected = e.new_label("mine"), e.new_label("elected")
    is_mine = e.emit(f"icmp eq i32 %warp, {e.num_warps + warp}")
    e.line(f"br i1 {is_mine}, label %{mine}, label %{end}")
    e.label(mine)
    chosen = e.emit("call {i32, i1} @llvm.nvvm.elect.sync(i32 -1)")
    is_chosen = e.emit(f"extractvalue {{i32, i1}} {chosen}, 1")
    e.line(f"br i1 {is_chosen}, label %{elected}, label %{end}")
    e.label(elected)


def _partition(e: NvptxEmitter, name: str, region: Region) -> None:
    e.partition = name
    emit_ops(e, region.block)
    e.partition = ""
