"""Shared memory by 8 x 8 matrices: `ldmatrix`, and `stmatrix` from sm_90 on."""

from __future__ import annotations

from blocklang.codegen.emit import Emitter
from blocklang.ir.core import Value
from blocklang.ir.layout import MatrixAccess
from blocklang.ir.ops.shared import SharedLoad
from blocklang.ir.types import BlockType, SharedType

from .emitter import SHARED, NvptxEmitter
from .memory import storage_type

STORE_CAPABILITY = 90
"""From which capability on matrices can be stored."""


def load_matrices(e: NvptxEmitter, op: SharedLoad, access: MatrixAccess) -> str:
    """A block read from shared memory as matrices."""
    block = op.results[0].type
    assert isinstance(block, BlockType)
    kind = "i32" if access.count == 1 else "{" + ", ".join(["i32"] * access.count) + "}"
    per_word = len(access.words[0][0])
    words = [""] * (block.registers // per_word)
    for pointer, matrices in zip(_rows(e, op.buffer, access), access.words, strict=True):
        call = f"call {kind} @llvm.nvvm.ldmatrix.sync.aligned.{_form(access)}.p3"
        loaded = e.emit(f"{call}({SHARED} {pointer})")
        for index, registers in enumerate(matrices):
            word = loaded if access.count == 1 else e.emit(f"extractvalue {kind} {loaded}, {index}")
            words[registers[0] // per_word] = word
    packed = e.build_vector(words, "i32")
    wanted = f"<{block.registers} x {storage_type(e, block)}>"
    given = f"<{len(words)} x i32>"
    return packed if wanted == given else e.emit(f"bitcast {given} {packed} to {wanted}")


def store_matrices(
    e: NvptxEmitter, vector: str, block: BlockType, buffer: Value, access: MatrixAccess
) -> None:
    """The elements `vector` of a block written to shared memory as matrices; none has replicas."""
    per_word = len(access.words[0][0])
    given = f"<{block.registers} x {storage_type(e, block)}>"
    packed = f"<{block.registers // per_word} x i32>"
    if given != packed:
        vector = e.emit(f"bitcast {given} {vector} to {packed}")
    for pointer, matrices in zip(_rows(e, buffer, access), access.words, strict=True):
        words = [e.extract(vector, packed, registers[0] // per_word) for registers in matrices]
        operands = ", ".join([f"{SHARED} {pointer}", *(f"i32 {word}" for word in words)])
        e.line(f"call void @llvm.nvvm.stmatrix.sync.aligned.{_form(access)}.p3({operands})")


def _form(access: MatrixAccess) -> str:
    return f"m8n8.x{access.count}{'.trans' if access.transposed else ''}.b16"


def _rows(e: NvptxEmitter, buffer: Value, access: MatrixAccess) -> list[str]:
    """For each instruction, the address of the row that the thread names."""
    kind = buffer.type
    assert isinstance(kind, SharedType)
    size = kind.element.bytes
    base, used = first_offset(e, access.lane, access.warp, size)
    return [address(e, e[buffer], base, used, offset * size) for offset in access.offsets]


def first_offset(
    e: NvptxEmitter, lane: tuple[int, ...], warp: tuple[int, ...], size: int
) -> tuple[str, int]:
    """The byte offset of each thread's first access, from the elements (of `size` bytes) that the
    bits of its lane and warp add, and the bits that the offset can have.
    """
    base, used = e.thread_map(lane, warp)
    if size > 1:
        base = e.emit(f"mul nuw nsw i32 {base}, {size}")
    return base, used * size


def address(e: Emitter, buffer: str, base: str, used: int, offset: int) -> str:
    """The address of byte base ^ offset of a buffer. What no thread changes is added last, where
    the access takes it up.
    """
    met = offset & used
    place = e.emit(f"xor i32 {base}, {met}") if met else base
    pointer = e.emit(f"getelementptr inbounds i8, {SHARED} {buffer}, i32 {place}")
    if offset == met:
        return pointer
    return e.emit(f"getelementptr inbounds i8, {SHARED} {pointer}, i32 {offset - met}")
