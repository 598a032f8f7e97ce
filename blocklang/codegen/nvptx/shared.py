"""Shared memory, barriers, and conversions between layouts."""

from __future__ import annotations

from collections.abc import Callable

from blocklang.codegen.lower import lowers
from blocklang.ir.core import Value
from blocklang.ir.layout import (
    ShufflePlan,
    Swap,
    conversion,
    matrix_access,
    prefers_matrices,
    shared_access,
)
from blocklang.ir.ops.shape import ConvertLayout
from blocklang.ir.ops.shared import Barrier, SharedAlloc, SharedLoad, SharedStore
from blocklang.ir.types import BlockType, SharedType, element_type

from .elements import layout_of
from .emitter import LANE_BITS, SHARED, NvptxEmitter
from .matrices import STORE_CAPABILITY, address, first_offset, load_matrices, store_matrices
from .memory import Words, storage_type, store_words
from .reduce import through_words


@lowers(SharedAlloc, on=("nvptx",))
def _(e: NvptxEmitter, op: SharedAlloc) -> str:
    assert op.offset >= 0, "allocate_shared has not run"
    return f"getelementptr (i8, {SHARED} @shared_memory, i32 {op.offset})"


@lowers(Barrier, on=("nvptx",))
def _(e: NvptxEmitter, op: Barrier) -> None:
    if e.num_warps == 1:
        e.line("call void @llvm.nvvm.bar.warp.sync(i32 -1)")
    elif e.partition == "consumer":
        # The producer does not take part.
        name = "@llvm.nvvm.barrier.cta.sync.aligned.count"
        e.line(f"call void {name}(i32 1, i32 {32 * e.num_warps})")
    else:
        e.line("call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)")


def _buffer(value: Value) -> SharedType:
    assert isinstance(value.type, SharedType)
    return value.type


@lowers(SharedStore, on=("nvptx",))
def _(e: NvptxEmitter, op: SharedStore) -> None:
    assert isinstance(op.value.type, BlockType)
    store_block(e, e[op.value], op.value.type, op.buffer, op.vector)


def store_block(e: NvptxEmitter, value: str, block: BlockType, to: Value, vector: int) -> None:
    """Each thread stores its elements of a block, `vector` at a time."""
    buffer = _buffer(to)
    assert block.layout is not None
    owner = e.owner(block)
    if e.target.capability >= STORE_CAPABILITY and owner is None:
        matrices = matrix_access(block.layout, buffer.layout, buffer.element.bits)
        if matrices and prefers_matrices(block.layout, buffer.layout, buffer.element.bits):
            return store_matrices(e, value, block, to, matrices)
    access = shared_access(block.layout, buffer.layout, vector)
    scalar, size = storage_type(e, block), buffer.element.bytes
    words = Words(scalar, 8 * size, vector)
    base, used = first_offset(e, access.lane, access.warp, size)
    for registers, offset in zip(access.vectors, access.offsets, strict=True):
        piece = e.shuffle(value, scalar, block.registers, registers)
        pointer = address(e, e[to], base, used, offset * size)
        if owner is None:
            kind = f"<{vector} x {scalar}>"
            e.line(f"store {kind} {piece}, {SHARED} {pointer}, align {size * vector}")
        else:
            store_words(e, words, "st.shared", (SHARED, "r"), pointer, piece, owner)


@lowers(SharedLoad, on=("nvptx",))
def _(e: NvptxEmitter, op: SharedLoad) -> str:
    block, buffer = op.results[0].type, _buffer(op.buffer)
    assert isinstance(block, BlockType)
    assert block.layout is not None
    matrices = matrix_access(block.layout, buffer.layout, buffer.element.bits)
    if matrices is not None:
        return load_matrices(e, op, matrices)
    access = shared_access(block.layout, buffer.layout, op.vector)
    scalar, size = storage_type(e, block), buffer.element.bytes
    base, used = first_offset(e, access.lane, access.warp, size)
    pieces: list[str] = []
    order: list[int] = []
    for registers, offset in zip(access.vectors, access.offsets, strict=True):
        pointer = address(e, e[op.buffer], base, used, offset * size)
        kind = f"<{op.vector} x {scalar}>"
        pieces.append(e.emit(f"load {kind}, {SHARED} {pointer}, align {size * op.vector}"))
        order.extend(registers)
    loaded = e.concatenate(pieces, scalar, op.vector)
    # Element k of what was loaded is register order[k]; replicas copy the register that was loaded.
    positions = {register: k for k, register in enumerate(order)}
    return e.shuffle(loaded, scalar, len(order), [positions[c] for c in access.copies])


@lowers(ConvertLayout, on=("nvptx",))
def _(e: NvptxEmitter, op: ConvertLayout) -> str:
    source, target = layout_of(op.operand), layout_of(op.results[0])
    how = conversion(source, target)
    scalar, size = e.scalar_type(op.operand.type), source.in_size("register")
    if how.registers is not None:
        return e.shuffle(e[op.operand], scalar, size, how.registers)
    assert how.plan is not None, f"{how.kind} conversions are lowered before"
    return _execute(e, op, how.plan, size)


def _execute(e: NvptxEmitter, op: ConvertLayout, plan: ShufflePlan, size: int) -> str:
    """Swaps, shuffles, swaps: see `ShufflePlan`."""
    element = element_type(op.operand.type)
    scalar = e.scalar_type(element)
    vector = e[op.operand]
    for swap in plan.before:
        vector = _swap(e, swap, vector, scalar, size)
    sender, _ = e.thread_map(plan.lane_bases, plan.warp_bases)
    rounds: dict[tuple[int, int], str] = {}
    for each in plan.rounds:
        key = each.register, each.constant
        if key in rounds:
            continue
        one = e.shuffle(vector, scalar, size, [each.register])
        if not (plan.is_xor and each.constant == 0):
            one = through_words(e, one, element, 1, _sending(e, plan, sender, each.constant))
        rounds[key] = e.extract(one, f"<1 x {scalar}>", 0)
    vector = e.build_vector([rounds[r.register, r.constant] for r in plan.rounds], scalar)
    for swap in plan.after:
        vector = _swap(e, swap, vector, scalar, len(plan.rounds))
    return vector


def _sending(
    e: NvptxEmitter, plan: ShufflePlan, sender: str, constant: int
) -> Callable[[str], str]:
    """The shuffle of one round, as a function of the 32-bit word to send."""
    if plan.is_xor:
        form, lane = "bfly", str(constant)
    else:
        form = "idx"
        lane = e.emit(f"xor i32 {sender}, {constant}") if constant else sender
    call = f"call i32 @llvm.nvvm.shfl.sync.{form}.i32(i32 -1, i32 {{}}, i32 {lane}, i32 31)"
    return lambda word: e.emit(call.format(word))


def _swap(e: NvptxEmitter, swap: Swap, vector: str, scalar: str, size: int) -> str:
    """Registers r and r ^ offset exchanged in the threads that the masks select."""
    mask = swap.lane_mask | swap.warp_mask << LANE_BITS
    bits = e.emit(f"and i32 %tid, {mask}")
    parity = e.emit(f"call i32 @llvm.ctpop.i32(i32 {bits})")
    odd = e.emit(f"trunc i32 {parity} to i1")
    kind = f"<{size} x {scalar}>"
    swapped = e.shuffle(vector, scalar, size, [r ^ swap.offset for r in range(size)])
    return e.emit(f"select i1 {odd}, {kind} {swapped}, {kind} {vector}")
