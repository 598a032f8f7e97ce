"""lower-copies: gives buffers to the blocks that lie in shared memory for asynchronous readers.

- What the threads put there (`to_shared`) becomes a buffer, a store, and the fence that makes the
  store visible to warpgroups and the tensor memory accelerator. Where the accelerator takes it from
  there, the store waits until the accelerator has read what was there before.
- What the accelerator copies there for the threads that started it (`load_shared`, where warps are
  not specialized) becomes a buffer with a barrier, the copy, and the wait for it.

Barriers among the threads come later, by need. A kernel ends when its last stores are done.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from blocklang.ir.builder import Builder
from blocklang.ir.core import Function, Module, Operation, Value
from blocklang.ir.layout import warpgroup_steps
from blocklang.ir.layout.shared import MAX_ACCESS_BITS, max_vector
from blocklang.ir.ops.asynchronous import (
    FenceAsync,
    LoadShared,
    MBarrierAlloc,
    MBarrierWait,
    TensorMap,
    TmaSend,
    TmaStore,
    TmaStoreWait,
    ToShared,
    WarpSpecialize,
)
from blocklang.ir.ops.shared import Barrier, SharedAlloc, SharedStore
from blocklang.ir.types import BlockType, MBarriersType, SharedType, i32

from ._rings import Fill, Place, Ring, Step, Threading, advance, copy, find_fills, with_box
from ._sends import box_of_parts, piece_of
from .manager import Pass


@dataclass(frozen=True)
class LowerCopies(Pass):
    """Give buffers to blocks in shared memory."""

    name: ClassVar[str] = "lower-copies"

    def _run(self, module: Module) -> None:
        for function in module.functions.values():
            loads = [op for op in function.walk() if isinstance(op, LoadShared)]
            if loads:
                _load_at_once(function, loads)
            for op in list(function.walk()):
                if isinstance(op, ToShared):
                    _store(op)
            _wait_at_end(function)


def _store(op: ToShared) -> None:
    block, kind = op.operand.type, op.results[0].type
    assert isinstance(block, BlockType)
    assert block.layout is not None
    assert isinstance(kind, SharedType)
    builder = Builder.before(op)
    layout = block.layout
    if op.pieces > 1:
        piece = piece_of(op, op.pieces)
        assert piece is not None, "specialize-warps has found the pieces"
        layout, kind = piece
    made = builder.insert(SharedAlloc(loc=op.loc, result_types=[kind]))
    widest = MAX_ACCESS_BITS // max(block.element.bits, 8)
    vector = min(max_vector(layout, kind.layout), widest)
    sent = [user for user in op.results[0].users if isinstance(user, TmaStore)]
    if sent and (box := _box_if_by_warpgroups(sent[0])) is not None:
        _send(sent[0], box, op.operand, made.results[0], vector)
        op.erase()
        return
    if sent:
        builder.insert(TmaStoreWait(groups=_others(sent[0]), read=True, loc=op.loc))
        # One thread has waited; a barrier between other stores says nothing of this one.
        builder.insert(Barrier(loc=op.loc))
    builder.insert(SharedStore(made.results[0], value=op.operand, vector=vector, loc=op.loc))
    builder.insert(FenceAsync(loc=op.loc))
    op.replace_with([made.results[0]])


def _send(op: TmaStore, box: tuple[int, ...], value: Value, buffer: Value, vector: int) -> None:
    """Let each warpgroup store and send its part by itself, in copies of `box`."""
    map = op.map.owner
    assert isinstance(map, TensorMap)
    if map.box != box:
        map = with_box(map, box)
    sending = TmaSend(
        map.result, op.indices, value=value, buffer=buffer, vector=vector, groups=_others(op),
        reduce=op.reduce, loc=op.loc,
    )  # fmt: skip
    Builder.before(op).insert(sending)
    op.erase()


def _box_if_by_warpgroups(op: TmaStore) -> tuple[int, ...] | None:
    """The box of copies in which each warpgroup sends its part; None where one thread sends all:
    without a producer, which relieves the threads from waiting for each other in any case, and of a
    single warpgroup, which the barrier of all threads serves as well, unless it is sent in pieces.
    """
    made = op.buffer.owner
    if not any(isinstance(holder, WarpSpecialize) for holder in op.holders):
        return None
    if not isinstance(made, ToShared) or (made.pieces == 1 and not _has_groups(made)):
        return None
    return box_of_parts(op)


def _has_groups(op: ToShared) -> bool:
    assert isinstance(op.operand.type, BlockType)
    assert op.operand.type.layout is not None
    return bool(warpgroup_steps(op.operand.type.layout))


def _others(op: TmaStore) -> int:
    """How many stores from other buffers follow each store from this one: these may still read.

    Only where all stores of the kernel stand in one block is the order known to be always the same,
    and only where they are of one kind does each thread that starts any start all. Of a buffer that
    is sent several times, any of them may be the last.
    """
    *_, top = op, *op.holders
    assert top.parent is not None
    assert op.parent is not None
    everywhere = [each for each in top.parent.walk() if isinstance(each, TmaStore | TmaSend)]
    here = [each for each in op.parent.ops if isinstance(each, TmaStore | TmaSend)]
    if sum(each.buffer is op.buffer for each in everywhere) > 1:
        return 0
    kinds = {isinstance(op, TmaSend) or _box_if_by_warpgroups(op) is not None for op in everywhere}
    return len(here) - 1 if len(here) == len(everywhere) and len(kinds) == 1 else 0


def _wait_at_end(function: Function) -> None:
    """Let the threads that start stores wait for the last ones."""
    block = function.block
    for op in block.ops:
        if isinstance(op, WarpSpecialize):
            block = op.consumer.block
    sent = [op for op in block.walk() if isinstance(op, TmaStore | TmaSend)]
    if sent:
        last = block.terminator
        parts = any(isinstance(op, TmaSend) for op in sent)
        builder = Builder.before(last)
        builder.insert(TmaStoreWait(groups=0, read=False, everywhere=parts, loc=last.loc))


# ---------------------------------------------------------------- loads without a producer


def _load_at_once(function: Function, loads: list[LoadShared]) -> None:
    fills = find_fills(loads, lambda _: 1)
    builder = Builder(function.block, 0, loads[0].loc)
    zero = builder.constant(0, i32)
    steps: dict[Operation, list[tuple[Ring, Step]]] = {}
    for fill in fills:
        last = max(fill.home.ops.index(load) for load in fill.loads)
        steps.setdefault(fill.home.ops[last + 1], []).append((fill.ring, _fill(fill)))
    for ring in dict.fromkeys(fill.ring for fill in fills):
        barriers = MBarrierAlloc(arrivals=1, loc=builder.loc, result_types=[MBarriersType(1)])
        ring.full = builder.insert(barriers).result
        for kind in ring.kinds:
            made = SharedAlloc(loc=builder.loc, result_types=[kind])
            ring.buffers.append(builder.insert(made).result)
    start = dict.fromkeys((fill.ring for fill in fills), Place(zero, zero))
    Threading(steps).run(function.block, start)


def _fill(fill: Fill) -> Step:
    def step(op: Operation, place: Place) -> Place:
        ring = fill.ring
        assert ring.full is not None
        builder = Builder.before(fill.loads[-1])
        builder.loc = fill.loads[0].loc
        copy(builder, fill, place, ring.buffers)
        builder.insert(MBarrierWait(ring.full, place.index, place.phase, loc=builder.loc))
        for load, buffer in zip(fill.loads, ring.buffers, strict=True):
            load.results[0].replace_all_uses_with(buffer)
            load.erase()
        return advance(builder, place, 1)

    return step
