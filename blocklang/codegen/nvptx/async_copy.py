"""Asynchronous copies from global to shared memory (`cp.async`), and their groups."""

from __future__ import annotations

from blocklang.codegen.lower import lowers
from blocklang.ir.layout import shared_access
from blocklang.ir.ops.async_copy import AsyncCommit, AsyncCopy, AsyncWait, NextSlot
from blocklang.ir.types import SharedType

from .elements import element, layout_of
from .emitter import SHARED, NvptxEmitter
from .matrices import address, first_offset

_WHOLE_LINE = 16
"""Copies of that many bytes pass by the first-level cache."""


@lowers(AsyncCopy, on=("nvptx",), capability=80)
def _(e: NvptxEmitter, op: AsyncCopy) -> None:
    kind = op.buffer.type
    assert isinstance(kind, SharedType)
    size = kind.element.bytes
    access = shared_access(layout_of(op.pointer), kind.layout, op.vector)
    base, used = first_offset(e, access.lane, access.warp, size)
    owner = e.owner(op.pointer.type)
    for registers, offset in zip(access.vectors, access.offsets, strict=True):
        assert registers == tuple(range(registers[0], registers[0] + op.vector))
        target = address(e, e[op.buffer], base, used, offset * size)
        source = element(e, op.pointer, registers[0])
        mask = None if op.mask is None else element(e, op.mask, registers[0])
        _copy(e, target, source, size * op.vector, mask, owner)


def _copy(
    e: NvptxEmitter, target: str, source: str, size: int, mask: str | None, owner: str | None
) -> None:
    """One piece of `size` bytes: zeros where `mask` fails, nothing where `owner` fails."""
    space = "cg" if size == _WHOLE_LINE else "ca"
    operands = [f"{SHARED} {target}", f"ptr addrspace(1) {source}"]
    if mask is not None:
        operands.append(f"i32 {e.emit(f'select i1 {mask}, i32 {size}, i32 0')}")
    if owner is None:
        name = f"@llvm.nvvm.cp.async.{space}.shared.global.{size}"
        e.line(f"call void {name}{'.s' if mask is not None else ''}({', '.join(operands)})")
        return
    read = ", $2" if mask is not None else ""
    copy = f"@${len(operands)} cp.async.{space}.shared.global [$0], [$1], {size}{read};"
    constraints = ",".join(["r", "l", *("r" for _ in operands[2:]), "b", "~{memory}"])
    operands.append(f"i1 {owner}")
    e.line(f'call void asm sideeffect "{copy}", "{constraints}"({", ".join(operands)})')


@lowers(AsyncCommit, on=("nvptx",), capability=80)
def _(e: NvptxEmitter, op: AsyncCommit) -> None:
    e.line("call void @llvm.nvvm.cp.async.commit.group()")


@lowers(AsyncWait, on=("nvptx",), capability=80)
def _(e: NvptxEmitter, op: AsyncWait) -> None:
    e.line(f"call void @llvm.nvvm.cp.async.wait.group(i32 {op.groups})")


@lowers(NextSlot, on=("nvptx",))
def _(e: NvptxEmitter, op: NextSlot) -> str:
    after = e.emit(f"add nuw nsw i32 {e[op.index]}, {op.by}")
    wrapped = e.emit(f"sub i32 {after}, {op.depth}")
    is_past = e.emit(f"icmp uge i32 {after}, {op.depth}")
    return e.emit(f"select i1 {is_past}, i32 {wrapped}, i32 {after}")
