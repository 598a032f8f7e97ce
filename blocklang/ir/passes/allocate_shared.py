"""allocate-shared: gives each shared-memory buffer its place.

Buffers that are never live at the same time share bytes, unless all together take few: what shares
bytes needs one more barrier. Placing the largest first, each as low as it fits, wastes little on
interval graphs and is deterministic. A buffer that is handed on, as a loop-carried value or to what
runs beside the threads, keeps its place for itself, and so do barriers. Only what the threads copy
for warpgroups, in a loop behind which they wait for both, shares its bytes like any other buffer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from blocklang.ir.analysis.liveness import Interval, live_intervals
from blocklang.ir.core import Function, Module, Operation, Value
from blocklang.ir.errors import TooMuchSharedMemory
from blocklang.ir.location import Location
from blocklang.ir.ops.async_copy import AsyncCopy
from blocklang.ir.ops.asynchronous import MBarrierAlloc, SharedSlot, SharedView, Wgmma
from blocklang.ir.ops.shared import SharedAccess, SharedAlloc
from blocklang.ir.ops.shared_dot import SharedDot
from blocklang.ir.types import MBarriersType, SharedType

from .manager import Pass

ALIGNMENT = 16
LINE_ALIGNMENT = 128
"""Swizzles count on which banks the rows of a slot begin in."""
TILE_ALIGNMENT = 1024
"""The pattern of the widest swizzle repeats after that many bytes, counted from address 0."""
LISTED_BUFFERS = 8


@dataclass(frozen=True)
class Buffer:
    """A placed buffer and the source line that asked for it."""

    offset: int
    bytes: int
    location: Location


@dataclass(frozen=True)
class AllocateShared(Pass):
    """Place all buffers; `limit` is the most bytes that a program may have (0: any number).

    As long as all buffers together take at most `spare` bytes, each has its own. The sum becomes
    the attribute `shared_bytes` of each function.
    """

    limit: int = 0
    spare: int = 2048
    name: ClassVar[str] = "allocate-shared"

    def _run(self, module: Module) -> None:
        for function in module.functions.values():
            _place(function, self.spare)
            found = buffers(function)
            total = max((b.offset + b.bytes for b in found), default=0)
            function.attributes["shared_bytes"] = total
            if self.limit and total > self.limit:
                raise _too_much(function, total, self.limit, found)


def buffers(function: Function) -> list[Buffer]:
    """All placed buffers of a function, in order."""
    return [Buffer(op.offset, _bytes(op), op.loc) for op in _allocations(function)]


Allocation = SharedAlloc | MBarrierAlloc


def _allocations(function: Function) -> list[Allocation]:
    return [op for op in function.walk() if isinstance(op, Allocation)]


def _bytes(op: Allocation) -> int:
    kind = op.results[0].type
    assert isinstance(kind, SharedType | MBarriersType)
    return kind.bytes


def _place(function: Function, spare: int) -> None:
    allocations = _allocations(function)
    shares = sum(_bytes(op) + _alignment(op) for op in allocations) > spare
    values = {op: _views(op.results[0]) for op in allocations}
    lives = live_intervals(function, [value for group in values.values() for value in group])
    placed: list[tuple[Allocation, Interval]] = []
    # `sorted` is stable: buffers of one size stay in the order of the text.
    for op in sorted(allocations, key=_bytes, reverse=True):
        ends = [lives[value] for value in values[op]]
        life = Interval(min(each.start for each in ends), max(each.end for each in ends))
        life = life if _is_local(op) else Interval(0, 1 << 62)
        taken = [other for other, its in placed if not shares or its.interferes(life)]
        op.offset = _lowest_fit(op, taken)
        placed.append((op, life))


def _views(buffer: Value) -> list[Value]:
    """A buffer, its slots, and what sees them under other coordinates."""
    found = [buffer]
    for value in found:
        found += [u.results[0] for u in value.users if isinstance(u, SharedSlot | SharedView)]
    return found


def _users(buffer: Value) -> list[Operation]:
    users = [user for value in _views(buffer) for user in value.users]
    return [user for user in users if not isinstance(user, SharedSlot | SharedView)]


def _is_local(op: Allocation) -> bool:
    """Whether only the threads use a buffer, in accesses that are done when the op is, or, copies,
    when their loop has waited for them; of what threads copy warpgroups may be the readers.
    """
    users = _users(op.results[0])
    local: tuple[type[Operation], ...] = (SharedAccess, SharedDot, AsyncCopy)
    if any(isinstance(user, AsyncCopy) for user in users):
        local = (*local, Wgmma)
    return isinstance(op, SharedAlloc) and all(isinstance(user, local) for user in users)


def _lowest_fit(op: Allocation, taken: Sequence[Allocation]) -> int:
    alignment = _alignment(op)
    offset = 0
    for other in sorted(taken, key=lambda each: each.offset):
        if other.offset >= offset + _bytes(op):
            break
        end = other.offset + _bytes(other)
        offset = max(offset, -(-end // alignment) * alignment)
    return offset


def _alignment(op: Allocation) -> int:
    kind = op.results[0].type
    if not isinstance(kind, SharedType):
        return ALIGNMENT
    everyone = _users(op.results[0])
    if not _is_local(op) or any(isinstance(user, Wgmma) for user in everyone):
        return TILE_ALIGNMENT
    users = [user for user in everyone if isinstance(user, SharedAccess)]
    least = LINE_ALIGNMENT if kind.depth > 1 else ALIGNMENT
    return max([least, *(user.vector * kind.element.bytes for user in users)])


def _too_much(
    function: Function, total: int, limit: int, found: list[Buffer]
) -> TooMuchSharedMemory:
    largest = sorted(found, key=lambda b: b.bytes, reverse=True)
    notes = [(f"{b.bytes} bytes at offset {b.offset} are for this", b.location) for b in largest]
    rest = len(notes) - LISTED_BUFFERS
    if rest > 0:
        notes[LISTED_BUFFERS:] = [(f"{rest} smaller buffers are not listed", function.loc)]
    return TooMuchSharedMemory(
        function.loc, tuple(notes), kernel=function.name, total=total, limit=limit
    )
