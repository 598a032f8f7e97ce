"""Places the buffers of a plan in scratch memory: two that live at the same time never overlap."""

from __future__ import annotations

from collections.abc import Iterator

from .grouping import Context
from .plan import Buffer, Control, Evaluate, Execute, Nest, Plan

ALIGNMENT = 64


def allocate(plan: Plan, context: Context) -> int:
    """Set the offsets of all buffers; returns how many bytes they need together."""
    lifetimes = _Lifetimes(context)
    lifetimes.plan(plan)
    placed: list[Buffer] = []
    for buffer in sorted(lifetimes.buffers, key=lambda b: (b.first, -b.bytes)):
        alive = [b for b in placed if b.first <= buffer.last and buffer.first <= b.last]
        buffer.offset = _gap(alive, buffer.bytes)
        placed.append(buffer)
    return max((b.offset + _aligned(b.bytes) for b in placed), default=0)


def _gap(alive: list[Buffer], size: int) -> int:
    """The lowest offset at which `size` bytes are free."""
    offset = 0
    for other in sorted(alive, key=lambda b: b.offset):
        if offset + size <= other.offset:
            break
        offset = max(offset, other.offset + _aligned(other.bytes))
    return offset


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


class _Lifetimes:
    """Numbers the steps of a plan and notes when each buffer is used."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.time = 0
        self.buffers: dict[Buffer, None] = {}

    def plan(self, plan: Plan) -> None:
        for level in plan.levels:
            if isinstance(level.step, Nest):
                self.time += 1
                for buffer in self._used(level.step):
                    self._touch(buffer)
            elif isinstance(level.step, Control):
                self._control(level.step)

    def _used(self, nest: Nest) -> Iterator[Buffer]:
        yield from nest.reads.values()
        yield from nest.kept.values()
        yield from nest.work
        for action in nest.actions:
            if isinstance(action, Execute):
                for result in action.op.results:
                    if result in self.context.buffers:
                        yield self.context.buffers[result]
            elif isinstance(action, Evaluate) and action.buffer is not None:
                yield action.buffer

    def _control(self, control: Control) -> None:
        self.time += 1
        start = self.time
        own = [b for b in (*control.incoming, *control.following) if b is not None]
        for buffer in own:
            self._touch(buffer)
        for region in control.regions:
            self.plan(region)
        self.time += 1
        # What a loop uses and did not make itself must last until its end.
        for buffer in self.buffers:
            if buffer in own or (buffer.first < start <= buffer.last):
                self._touch(buffer)

    def _touch(self, buffer: Buffer) -> None:
        buffer = buffer.storage
        buffer.touch(self.time)
        self.buffers[buffer] = None
