"""The tensor memory accelerator: maps of tensors, copies of boxes, slots of buffers.

A map is a parameter of the kernel, behind the ordinary ones, which the launcher encodes from a
recipe. An instruction moves one box; a buffer of several has them one behind the other, as
`shared_tile` has its panels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from blocklang.codegen.lower import lowers
from blocklang.ir.analysis.host import Expression, host_expression
from blocklang.ir.core import Function, Result, Value
from blocklang.ir.layout import WARP_BITS_OF_GROUP, is_one_run, pieces, warpgroup_steps
from blocklang.ir.ops.asynchronous import (
    FenceAsync,
    SharedSlot,
    SharedView,
    TensorMap,
    TmaLoad,
    TmaSend,
    TmaStore,
    TmaStoreWait,
)
from blocklang.ir.ops.descriptor import MakeTensorDescriptor
from blocklang.ir.types import BlockType, SharedType

from .emitter import SHARED, NvptxEmitter
from .mbarrier import barrier
from .memory import storage_type
from .shared import store_block

_FEATURE = "has_bulk_tensor_copies"
_GROUP_THREADS = 128
_FIRST_BARRIER = 2
"""Of the named barriers, one for each warpgroup: those before are for all threads, and for all
consumers.
"""
_FENCE = "call void @llvm.nvvm.fence.proxy.async.shared_cta()"
_Copy = TmaLoad | TmaStore | TmaSend


def tensor_maps(kernel: Function) -> list[TensorMap]:
    """The maps of a kernel, in the order of its parameters."""
    return [op for op in kernel.walk() if isinstance(op, TensorMap)]


def parameters(e: NvptxEmitter, kernel: Function) -> list[str]:
    """The kernel's parameters for its maps."""
    texts = []
    for number, op in enumerate(tensor_maps(kernel)):
        e.names[op.results[0]] = name = f"%tensor_map{number}"
        # Without "grid_constant", LLVM copies the map to where the accelerator cannot read it.
        texts.append(f'ptr byval([128 x i8]) align 64 "nvvm.grid_constant" {name}')
    return texts


def described(map: Value) -> MakeTensorDescriptor:
    """The descriptor behind a map."""
    assert isinstance(map, Result)
    assert isinstance(map.op, TensorMap)
    made_by = map.op.descriptor
    assert isinstance(made_by, Result)
    assert isinstance(made_by.op, MakeTensorDescriptor)
    return made_by.op


def recipes(kernel: Function) -> list[dict[str, Any]]:
    """How the launcher encodes each map, from expressions on the kernel's arguments: shape and
    strides (in elements) by axis of the tensor, and the attributes of `TensorMap`.
    """
    return [_recipe(op) for op in tensor_maps(kernel)]


def _recipe(op: TensorMap) -> dict[str, Any]:
    tensor = described(op.results[0])
    return {
        "pointer": _expression(tensor.pointer),
        "shape": [_expression(size) for size in tensor.shape],
        "strides": [_expression(stride) for stride in tensor.strides],
        "element": str(op.descriptor.type.element),  # type: ignore[union-attr]
        "axes": list(op.axes),
        "box": list(op.box),
        "swizzle": op.swizzle,
        "rounding": op.rounding,
        "padding": tensor.padding,
    }


def _expression(value: Value) -> Expression:
    found = host_expression(value)
    assert found is not None, "a map follows from the kernel's arguments alone"
    return found


@lowers(MakeTensorDescriptor, on=("nvptx",), feature=_FEATURE)
def _(e: NvptxEmitter, op: MakeTensorDescriptor) -> None:
    """The launcher knows what it says."""


@lowers(TensorMap, on=("nvptx",), feature=_FEATURE)
def _(e: NvptxEmitter, op: TensorMap) -> None:
    assert op.parent is not None
    together = [other for other in op.parent.ops if isinstance(other, TensorMap)]
    if op is together[0]:
        with e.one_thread():
            for each in together:
                e.line(f"call void @llvm.nvvm.prefetch.tensormap.p0(ptr {e[each.results[0]]})")


@lowers(SharedSlot, on=("nvptx",))
def _(e: NvptxEmitter, op: SharedSlot) -> str:
    size = f"[{_buffer(op.buffer).slot_bytes} x i8]"
    return e.emit(f"getelementptr {size}, {SHARED} {e[op.buffer]}, i32 {e[op.index]}")


@lowers(SharedView, on=("nvptx",))
def _(e: NvptxEmitter, op: SharedView) -> str:
    return e[op.buffer]


def _buffer(value: Value) -> SharedType:
    assert isinstance(value.type, SharedType)
    return value.type


def _boxes(
    e: NvptxEmitter, op: _Copy, indices: Sequence[Value], piece: int = 0
) -> Iterator[tuple[str, str]]:
    """Address and coordinates, as an instruction takes them, of each box of a buffer; of what is
    sent, of each box of this warpgroup's part of a piece.
    """
    kind = _buffer(op.buffer)
    assert isinstance(op.map, Result)
    known = op.map.op
    assert isinstance(known, TensorMap)
    assert len(known.axes) == len(kind.shape) == len(indices), "map, buffer, indices: one rank"
    sizes = [kind.shape[axis] for axis in known.axes]
    assert not any(n % b for n, b in zip(sizes, known.box, strict=True)), "boxes fill the buffer"
    assert is_one_run(sizes, known.box), "a box is one run of memory"
    counts = [n // b for n, b in zip(sizes, known.box, strict=True)]
    size = math.prod(known.box) * kind.element.bytes
    # Memory has the panels of the fastest axis outermost, then the slower axes from the slowest.
    distances = [size * math.prod(counts[i + 1 : -1]) for i in range(len(counts) - 1)]
    distances.append(size * math.prod(counts[:-1]))
    origins, start = [e[index] for index in indices], e[op.buffer]
    ahead = [0] * len(sizes)
    if isinstance(op, TmaSend):
        ahead[known.axes.index(op.pieces[0])] = piece * kind.shape[op.pieces[0]]
    parts, skipped = counts[:], [0] * len(counts)
    for share in _shares(e, op, known):
        axis = share.axis
        moved = e.emit(f"mul i32 {share.number}, {share.boxes * known.box[axis]}")
        origins[axis] = e.emit(f"add i32 {origins[axis]}, {moved}")
        byte = e.emit(f"mul i32 {share.number}, {share.boxes * distances[axis]}")
        start = e.emit(f"getelementptr i8, {SHARED} {start}, i32 {byte}")
        if share.is_bit:
            skipped[axis] |= share.boxes
        else:
            parts[axis] = share.boxes
    for panel, *slower in itertools.product(*map(range, (parts[-1], *parts[:-1]))):
        place = (*slower, panel)
        if any(number & bits for number, bits in zip(place, skipped, strict=True)):
            continue
        address = start
        coordinates: list[str] = []
        distance = sum(n * d for n, d in zip(place, distances, strict=True))
        if distance:
            address = e.emit(f"getelementptr i8, {SHARED} {start}, i32 {distance}")
        for origin, more, number, step in zip(origins, ahead, place, known.box, strict=True):
            further = more + number * step
            at = e.emit(f"add i32 {origin}, {further}") if further else origin
            coordinates.append(f"i32 {at}")
        yield address, ", ".join(reversed(coordinates))


@dataclass(frozen=True)
class _Share:
    """Some of the boxes along `axis` of a map: the run of `boxes` whose turn is `number`; or, if
    `boxes` stands for a bit, those that have this bit in their number exactly if `number` is 1.
    """

    axis: int
    boxes: int
    number: str
    is_bit: bool = False


def _shares(e: NvptxEmitter, op: _Copy, map: TensorMap) -> Iterator[_Share]:
    """Which boxes of a buffer this block of threads, or this warpgroup, copies."""
    if isinstance(op, TmaLoad) and op.everywhere:
        # Each block of threads has its share of the rows, in every panel.
        axis = len(map.axes) - 2
        rank = e.emit("call i32 @llvm.nvvm.read.ptx.sreg.cluster.ctarank()")
        count = _buffer(op.buffer).shape[map.axes[axis]] // map.box[axis]
        yield _Share(axis, count // e.num_ctas, rank)
    if isinstance(op, TmaSend):
        layout = op.value.type.layout  # type: ignore[union-attr]
        assert layout is not None
        steps = warpgroup_steps(layout)
        assert steps is not None, "warpgroups have parts of their own"
        for bit, (which, step) in enumerate(steps, WARP_BITS_OF_GROUP):
            axis = map.axes.index(which)
            assert step % map.box[axis] == 0, "no box has elements of two warpgroups"
            number = e.emit(f"and i32 {e.emit(f'lshr i32 %warp, {bit}')}, 1")
            yield _Share(axis, step // map.box[axis], number, is_bit=True)


@lowers(TmaLoad, on=("nvptx",), feature=_FEATURE)
def _(e: NvptxEmitter, op: TmaLoad) -> None:
    signal = barrier(e, op.barriers, op.index)
    name = f"@llvm.nvvm.cp.async.bulk.tensor.g2s.cta.tile.{len(op.indices)}d"
    if op.everywhere:
        _load_everywhere(e, op, signal)
        return
    with e.one_thread():
        for address, coordinates in _boxes(e, op, op.indices):
            places = f"{SHARED} {address}, {SHARED} {signal}, ptr {e[op.map]}"
            e.line(f"call void {name}({places}, {coordinates}, i64 0, i1 false)")


def _load_everywhere(e: NvptxEmitter, op: TmaLoad, signal: str) -> None:
    """Copies to the same place of all blocks of threads, whose barriers hear of it."""
    name = f"@llvm.nvvm.cp.async.bulk.tensor.g2s.tile.{len(op.indices)}d"
    everyone = (1 << e.num_ctas) - 1
    with e.one_thread():
        for address, coordinates in _boxes(e, op, op.indices):
            target = e.emit(f"addrspacecast {SHARED} {address} to ptr addrspace(7)")
            places = f"ptr addrspace(7) {target}, {SHARED} {signal}, ptr {e[op.map]}"
            hints = f"i16 {everyone}, i64 0, i1 true, i1 false, i32 0"
            e.line(f"call void {name}({places}, {coordinates}, {hints})")


@lowers(TmaStore, on=("nvptx",), feature=_FEATURE)
def _(e: NvptxEmitter, op: TmaStore) -> None:
    with e.one_thread():
        _store_boxes(e, op)


def _store_boxes(e: NvptxEmitter, op: TmaStore | TmaSend, piece: int = 0) -> None:
    assert op.reduce in ("", "add"), f"unknown reduction {op.reduce}"
    form = f"reduce.{op.reduce}" if op.reduce else "s2g"
    name = f"@llvm.nvvm.cp.async.bulk.tensor.{form}.tile.{len(op.indices)}d"
    for address, coordinates in _boxes(e, op, op.indices, piece):
        places = f"{SHARED} {address}, ptr {e[op.map]}"
        e.line(f"call void {name}({places}, {coordinates}, i64 0, i1 false)")
    e.line("call void @llvm.nvvm.cp.async.bulk.commit.group()")


def _first_of_group(e: NvptxEmitter) -> str:
    """Whether this thread is the first one of its warpgroup."""
    within = e.emit(f"and i32 %tid, {_GROUP_THREADS - 1}")
    return e.emit(f"icmp eq i32 {within}, 0")


@lowers(TmaSend, on=("nvptx",), feature=_FEATURE)
def _(e: NvptxEmitter, op: TmaSend) -> None:
    block, (axis, count) = op.value.type, op.pieces
    assert isinstance(block, BlockType)
    assert block.layout is not None
    cut = pieces(block.layout, axis, count)
    assert cut is not None, "each thread has the same share of all pieces"
    kind = BlockType(cut.layout.shape, block.element, cut.layout)
    group = e.emit(f"lshr i32 %warp, {WARP_BITS_OF_GROUP}")
    number = e.emit(f"add i32 {group}, {_FIRST_BARRIER}")
    name = "@llvm.nvvm.barrier.cta.sync.aligned.count"
    meet = f"call void {name}(i32 {number}, i32 {_GROUP_THREADS})"
    first = _first_of_group(e)
    for piece, registers in enumerate(cut.registers):
        # The piece before has left the same bytes.
        groups = 0 if piece else op.groups
        with e.guarded(first):
            e.line(f"call void @llvm.nvvm.cp.async.bulk.wait.group.read(i32 {groups})")
        e.line(meet)
        value = e.shuffle(e[op.value], storage_type(e, block), block.registers, registers)
        store_block(e, value, kind, op.buffer, op.vector)
        e.line(_FENCE)
        e.line(meet)
        with e.guarded(first):
            _store_boxes(e, op, piece)


@lowers(TmaStoreWait, on=("nvptx",), feature=_FEATURE)
def _(e: NvptxEmitter, op: TmaStoreWait) -> None:
    """Groups belong to the thread that started them."""
    with e.guarded(_first_of_group(e)) if op.everywhere else e.one_thread():
        form = ".read" if op.read else ""
        e.line(f"call void @llvm.nvvm.cp.async.bulk.wait.group{form}(i32 {op.groups})")


@lowers(FenceAsync, on=("nvptx",), capability=90)
def _(e: NvptxEmitter, op: FenceAsync) -> None:
    e.line(_FENCE)
