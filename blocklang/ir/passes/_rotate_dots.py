"""The software pipeline of two stages that `overlap_dots` makes of a loop with dependent products.

Stage 1 is the late products, which need the early ones through ordinary work, with the slots that
only they read, and with giving back those that both read; stage 0 is everything else. Iteration i
of the new loop does stage 0 of iteration i and stage 1 of iteration i - 1, in this order:

    A   what the early products need, and these; loads of the rest that need no product
    S   stage 1 of the iteration before, which ends with its products
        copies that the threads start for later iterations
        wait for the early products: as many groups as S has started stay under way
    C1  the rest of stage 0, as far as it needs nothing of S
        wait for the late products; their slots are given back
    C2  what does, and what overwrites the registers that the late products have read
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from blocklang.ir.builder import Builder
from blocklang.ir.core import Argument, Block, Operation, Region, Result, Value, clone
from blocklang.ir.op import Effect, Op
from blocklang.ir.ops.async_copy import AsyncCommit, AsyncCopy, AsyncWait
from blocklang.ir.ops.asynchronous import (
    FenceAsync,
    MBarrierArrive,
    MBarrierWait,
    SharedSlot,
    SharedView,
    WarpSpecialize,
)
from blocklang.ir.ops.control import For, Yield
from blocklang.ir.ops.dot import Dot
from blocklang.ir.ops.elementwise import Add
from blocklang.ir.ops.memory import Load
from blocklang.ir.ops.shape import ConvertLayout
from blocklang.ir.ops.shared import Barrier
from blocklang.ir.types import BlockType, DType

from ._pending import (
    compute_here,
    fills_of,
    finish_at_once,
    guarded,
    has_next_slot,
    is_kept,
    needed_by_stores,
    slot_of,
    start,
    wait,
)
from ._rings import holder_in

_MOST_REGISTERS = 255
_SHARE = 0.75
"""The part of a thread's registers that blocks of both stages may take; the rest is for addresses
and for what the work between the products needs.
"""
_RING_OPS = MBarrierWait | MBarrierArrive | SharedSlot | SharedView
_ARRIVAL_OPS = AsyncWait | FenceAsync | Barrier
"""What makes the copies of threads visible to warpgroups, where an iteration starts."""


def rotation(loop: For, dots: list[Dot]) -> Rotation | None:
    """How to pipeline a loop whose body holds `dots`, or None where that is not possible."""
    body = loop.regions[0].block
    late = [dot for dot in dots if any(_reaches(other, dot, body) for other in dots)]
    early = [dot for dot in dots if dot not in late]
    if not late or not early:
        return None
    buffers = [v for dot in dots for v in (dot.a, dot.b) if not isinstance(v.type, BlockType)]
    if not all(is_kept(v, body) for v in buffers):
        return None
    if any(_reaches(a, b, body) for a in late for b in late):
        return None
    # What both stages read stays while the next one is waited for, and so does what the threads
    # have copied for late products.
    both = _slots(early) & _slots(late)
    copied = {slot for slot in _slots(late) if fills_of(slot)}
    if not all(has_next_slot(slot.result) for slot in both | copied):
        return None
    found = Rotation(loop, early, late)
    return found if found.is_possible() else None


def _slots(dots: list[Dot]) -> set[SharedSlot]:
    """The slots that products read."""
    found = (slot_of(value) for dot in dots for value in (dot.a, dot.b))
    return {slot for slot in found if slot is not None}


def _reaches(source: Dot, target: Dot, body: Block) -> bool:
    """Whether an operand of `target`, other than what it is added to, needs `source` in the same
    iteration.
    """
    if source is target:
        return False
    return source in _needed([target.a, target.b], body)


def _needed(values: Iterable[Value], body: Block) -> set[Operation]:
    """The ops of the body that `values` need."""
    found: set[Operation] = set()
    pending = list(values)
    while pending:
        value = pending.pop()
        op = _op_in(value, body)
        if op is not None and op not in found:
            found.add(op)
            pending += _reads(op)
    return found


def _op_in(value: Value, body: Block) -> Operation | None:
    """The op of the body that defines a value."""
    return value.op if isinstance(value, Result) and value.op.parent is body else None


def _views(operand: Value, body: Block) -> list[Operation]:
    """The slot of the body that an operand is, and the views of it that lead there."""
    found: list[Operation] = []
    while (op := _op_in(operand, body)) is not None and isinstance(op, SharedSlot | SharedView):
        found.insert(0, op)
        operand = op.buffer
    return found


def _reads(op: Operation) -> list[Value]:
    """All that an op and what is inside it read; more than it needs does no harm."""
    return [value for inner in op.walk() for value in inner.operands]


@dataclass
class Rotation:
    """A loop, its products, and which ops and carried values belong to stage 1."""

    loop: For
    early: list[Dot]
    late: list[Dot]
    stage1: set[Operation] = field(default_factory=set)
    positions: set[int] = field(default_factory=set)

    # ------------------------------------------------------------ what is what

    def is_possible(self) -> bool:
        """Divide the body; whether the order that is wanted keeps every dependence."""
        self.body = self.loop.regions[0].block
        self.ends = self.body.terminator.operands
        if self.registers() > _SHARE * self.available():
            return False
        # What passes through shared memory could be loaded before the wait for its last reader.
        if any(isinstance(op, ConvertLayout) for op in self.overwriting()):
            return False
        self.divide()
        if any(not isinstance(op, Op) or op not in self.stage1 for op in self.late):
            return False
        for op in self.stage1:
            for result in op.results:
                for user, index in result.uses:
                    if user is self.body.terminator:
                        self.positions.add(index)
                    elif self.holder(user) not in self.stage1:
                        return False
        self.head = _needed([v for d in self.early for v in _reads(d)], self.body)
        self.head |= set(self.early)
        # Waiting for a slot goes with the first use of it.
        slots = {op.index for op in self.head if isinstance(op, SharedSlot)}
        self.head |= {
            op for op in self.body.ops if isinstance(op, MBarrierWait) and op.index in slots
        } - self.stage1
        self.head |= {op for op in self.body.ops if isinstance(op, _ARRIVAL_OPS)}
        arguments = {self.body.arguments[p + 1] for p in self.positions}
        return not any(v in arguments for op in self.head for v in _reads(op))

    def registers(self) -> float:
        """The registers of a thread that hold what both stages need while products run: results,
        and what the late ones read.
        """
        results = [dot.results[0] for dot in (*self.early, *self.late)]
        return sum(map(_registers, [*results, *(dot.a for dot in self.late)]))

    def available(self) -> int:
        """The registers that a thread can have."""
        splits = (op for op in self.loop.holders if isinstance(op, WarpSpecialize))
        given = next((split.consumer_registers for split in splits), 0)
        return given or _MOST_REGISTERS

    def holder(self, op: Operation) -> Operation:
        """The op of the body that is `op` or holds it."""
        return holder_in(self.body, op)

    def divide(self) -> None:
        """Stage 1: the late products, the slots that only they read, and the arithmetic that only
        these need. Begin with all that might belong, and drop what others need too.
        """
        self.split_slots()
        scalar = {
            op
            for op in self.body.ops
            if isinstance(op, _RING_OPS)
            or (op.results and not op.regions and not _has_blocks(op) and isinstance(op, Op)
                and op.is_pure)
        }  # fmt: skip
        read = self.slots(self.late)
        held = {slot.index for slot in read}
        # A slot that both read is waited for in stage 0, and given back by the last reader.
        awaited = held - {slot.index for slot in self.slots(self.early)}
        kept: set[Operation] = set(self.late)
        for op in scalar | read:
            if isinstance(op, SharedSlot):
                is_late = op in read
            elif isinstance(op, MBarrierWait | MBarrierArrive):
                is_late = op.index in (awaited if isinstance(op, MBarrierWait) else held)
            else:
                is_late = True
            if is_late:
                kept.add(op)
        positions = set(range(len(self.ends)))
        changed = True
        while changed:
            dropped = {
                op for op in kept if op not in self.late and not self.serves(op, kept, positions)
            }
            lost = {p for p in positions if not self.is_carried_for(p, kept)}
            changed = bool(dropped or lost)
            kept -= dropped
            positions -= lost
        self.stage1 = kept

    def split_slots(self) -> None:
        """Let late products name the slots that early ones read too by themselves: stages hand over
        the number of a slot, not the slot.
        """
        shared = self.slots(self.early) & self.slots(self.late)
        for dot in self.late:
            for index, operand in enumerate((dot.a, dot.b)):
                path = _views(operand, self.body)
                if path and path[0] in shared:
                    values: dict[Value, Value] = {}
                    builder = Builder.before(dot)
                    for op in path:
                        builder.insert(clone(op, values))
                    dot.set_operand(index, values[operand])

    def slots(self, dots: list[Dot]) -> set[SharedSlot]:
        """The slots of rings that products read."""
        paths = [_views(value, self.body) for dot in dots for value in (dot.a, dot.b)]
        return {path[0] for path in paths if path and isinstance(path[0], SharedSlot)}

    def serves(self, op: Operation, kept: set[Operation], positions: set[int]) -> bool:
        """Whether only stage 1 needs the results of an op."""
        for result in op.results:
            for user, index in result.uses:
                if user is self.body.terminator:
                    if index not in positions:
                        return False
                elif self.holder(user) not in kept:
                    return False
        return True

    def is_carried_for(self, position: int, kept: set[Operation]) -> bool:
        """Whether only stage 1 reads a carried value."""
        users = self.body.arguments[position + 1].users
        return all(user is not self.body.terminator and self.holder(user) in kept for user in users)

    # ------------------------------------------------------------ the new loop

    def run(self) -> None:
        """Replace the loop."""
        self.rest = [
            op for op in self.body.ops[:-1] if op not in self.head and op not in self.stage1
        ]
        self.crossing = self.find_crossing()
        self.late_arguments = [
            self.body.arguments[p + 1]
            for p in sorted(self.positions)
            if any(self.holder(u) in self.stage1 for u in self.body.arguments[p + 1].users)
        ]
        self.extra = needed_by_stores(self.loop)
        _, builder = guarded(self.loop, self.extra)
        first = self.prologue(builder)
        loop = self.steady(builder, first)
        self.epilogue(builder, loop)
        self.loop.erase()

    def find_crossing(self) -> list[Value]:
        """What stage 1 reads of the iteration's stage 0."""
        late = {self.body.arguments[p + 1] for p in self.positions}
        found: dict[Value, None] = {}
        for op in self.body.ops:
            for value in _reads(op) if op in self.stage1 else ():
                home = _op_in(value, self.body)
                is_argument = isinstance(value, Argument) and value.block is self.body
                if (home is not None and home not in self.stage1) or (
                    is_argument and value not in late
                ):
                    found[value] = None
        return list(found)

    def is_late(self, position: int) -> bool:
        return position in self.positions

    def prologue(self, builder: Builder) -> dict[Value, Value]:
        """Stage 0 of the first iteration."""
        arguments = self.body.arguments
        values: dict[Value, Value] = dict(
            zip(arguments, (self.loop.lower, *self.loop.initial), strict=True)
        )
        for op in self.body.ops[:-1]:
            if op not in self.stage1:
                copy = builder.insert(clone(op, values))
                if isinstance(copy, Dot) and op in self.early:
                    finish_at_once(copy)
                    builder.index = None
                    values[op.results[0]] = builder.block.ops[-1].results[0]
        return values

    def steady(self, builder: Builder, first: dict[Value, Value]) -> For:
        """The loop over all iterations but the first."""
        old, count = self.loop, len(self.ends)
        early = [p for p in range(count) if not self.is_late(p)]
        after_first = Add(old.lower, old.step, loc=old.loc)
        lower = builder.insert(after_first).result
        initial = [first.get(self.ends[p], self.ends[p]) for p in early]
        initial += [old.initial[a.index - 1] for a in self.late_arguments]
        initial += [first[v] for v in self.crossing]
        region = Region()
        index = region.block.add_argument(old.lower.type, old.loc, self.body.arguments[0].name)
        carried = [region.block.add_argument(v.type, v.location, v.name) for v in initial]
        stage0: dict[Value, Value] = {self.body.arguments[0]: index}
        stage1: dict[Value, Value] = {}
        stage0 |= {self.body.arguments[p + 1]: v for p, v in zip(early, carried, strict=False)}
        names = [*self.late_arguments, *self.crossing]
        stage1 |= dict(zip(names, carried[len(early) :], strict=True))
        inner = Builder(region.block, None, old.loc)
        self.emit_body(inner, stage0, stage1)
        ends = [stage0.get(self.ends[p], self.ends[p]) for p in early]
        ends += [
            stage1.get(self.ends[a.index - 1], self.ends[a.index - 1]) for a in self.late_arguments
        ]
        ends += [stage0[v] for v in self.crossing]
        inner.insert(Yield(tuple(ends), loc=old.loc))
        return builder.insert(old.again(initial, [region], lower))

    def epilogue(self, builder: Builder, loop: For) -> None:
        """Stage 1 of the last iteration, and what the old loop's results are now."""
        early = [p for p in range(len(self.ends)) if not self.is_late(p)]
        names = [*self.late_arguments, *self.crossing]
        stage1: dict[Value, Value] = dict(zip(names, loop.results[len(early) :], strict=True))
        known: Sequence[Value] = ()
        if any(isinstance(op, AsyncWait) for op in self.body.ops):
            # The last copies are for iterations that do not come; all others can be read then.
            builder.insert(AsyncWait(groups=0, loc=self.loop.loc))
            builder.insert(FenceAsync(loc=self.loop.loc))
        for op in [op for op in self.body.ops[:-1] if op in self.stage1]:
            copy = builder.insert(clone(op, stage1))
            if isinstance(copy, Dot):
                finish_at_once(copy)
                builder.index = None
                stage1[op.results[0]] = builder.block.ops[-1].results[0]
                if op is self.late[-1]:
                    # During the last product, before the wait for it.
                    builder.index = len(builder.block.ops) - 1
                    known = compute_here(builder, self.extra)
                    builder.index = None
        results: dict[int, Value] = dict(zip(early, loop.results, strict=False))
        for position in self.positions:
            results[position] = stage1.get(self.ends[position], self.ends[position])
        values = (results[p] for p in sorted(results))
        builder.insert(Yield((*values, *known), loc=self.loop.loc))

    # ------------------------------------------------------------ the order inside

    def emit_body(
        self, builder: Builder, stage0: dict[Value, Value], stage1: dict[Value, Value]
    ) -> None:
        """A, S, wait, C1, wait, C2: see above."""
        started0 = self.emit_starts(builder, [o for o in self.body.ops if o in self.head], stage0)
        delayed, loads, copies = self.delayed(), self.loads(), self.copies()
        for op in self.rest:
            if op in loads:
                builder.insert(clone(op, stage0))
        arrivals = [
            op for op in self.body.ops if op in self.stage1 and isinstance(op, MBarrierArrive)
        ]
        issue = [op for op in self.body.ops if op in self.stage1 and op not in arrivals]
        started1 = self.emit_starts(builder, issue, stage1)
        for op in self.rest:
            if op in copies and op not in loads:
                builder.insert(clone(op, stage0))
        self.emit_wait(builder, started0, len(started1), stage0, [])
        for op in self.rest:
            if op not in delayed and op not in loads and op not in copies:
                builder.insert(clone(op, stage0))
        overwriting = self.overwriting()
        sources = [v for op in self.body.ops if op in overwriting for v in op.operands]
        tied = [v for v in dict.fromkeys(sources) if isinstance(v.type, BlockType) and v in stage0]
        self.emit_wait(builder, started1, 0, stage1, tied, stage0)
        for op in arrivals:
            builder.insert(clone(op, stage1))
        for position in self.positions:
            stage0[self.body.arguments[position + 1]] = stage1.get(
                self.ends[position], self.ends[position]
            )
        for op in self.rest:
            if op in delayed:
                builder.insert(clone(op, stage0))

    def loads(self) -> set[Operation]:
        """Loads from global memory, and what these need, that begin before the wait: their values
        arrive while products run. None, where something writes.
        """
        if any(isinstance(op, Op) and Effect.WRITE in op.all_effects() for op in self.rest):
            return set()
        return self.beginning([op for op in self.rest if isinstance(op, Load)])

    def copies(self) -> set[Operation]:
        """The copies that threads start, if they all can before the wait for the early products,
        and what these need.
        """
        found = [op for op in self.rest if isinstance(op, AsyncCopy | AsyncCommit)]
        made = self.beginning(found)
        return made if made.issuperset(found) else set()

    def beginning(self, ops: Sequence[Operation]) -> set[Operation]:
        """Those of `ops` that need no product, with what they need of the rest."""
        behind = {*self.early, *self.late, *self.delayed()}
        found: set[Operation] = set()
        for op in ops:
            needed = {op, *_needed(op.operands, self.body)}
            own = needed - self.head
            if needed.isdisjoint(behind) and all(map(_may_begin, own)):
                found |= own
        return found

    def emit_starts(
        self, builder: Builder, ops: list[Operation], values: dict[Value, Value]
    ) -> list[Dot]:
        """Clone `ops`, with products only started; the products."""
        started = []
        for op in ops:
            if isinstance(op, Dot) and op in (*self.early, *self.late):
                copy = clone(op, values)
                assert isinstance(copy, Dot)
                values[op.results[0]] = start(builder, copy, copy.acc)
                copy.drop_operands()
                started.append(op)
            else:
                builder.insert(clone(op, values))
        return started

    def emit_wait(
        self, builder: Builder, started: list[Dot], groups: int, values: dict[Value, Value],
        tied: list[Value], others: dict[Value, Value] | None = None,
    ) -> None:  # fmt: skip
        """Wait for products; `tied` are what must not be touched before."""
        builder.loc = started[-1].loc
        pending = [values[dot.results[0]] for dot in started]
        extra = [others[v] for v in tied] if others is not None else []
        results = wait(builder, [*pending, *extra], groups, ready=True)
        for dot, result in zip(started, results, strict=False):
            values[dot.results[0]] = result
        if others is not None:
            others |= dict(zip(tied, results[len(started) :], strict=True))

    def overwriting(self) -> set[Operation]:
        """The ops that define what the next late products read from registers."""
        values = [v for dot in self.late for v in (dot.a,) if isinstance(v.type, BlockType)]
        return {op for v in values if (op := _op_in(v, self.body)) is not None}

    def delayed(self) -> set[Operation]:
        """The ops of stage 0 that come behind the wait for the late products."""
        found = self.overwriting()
        late = {self.body.arguments[p + 1] for p in self.positions}
        for op in self.rest:
            reads = _reads(op)
            if any(v in late or _op_in(v, self.body) in found for v in reads):
                found.add(op)
        return found


def _registers(value: Value) -> float:
    """The registers of a thread that a block takes."""
    if not isinstance(value.type, BlockType) or value.type.layout is None:
        return 0
    assert isinstance(value.type.element, DType)
    return value.type.layout.in_size("register") * value.type.element.bits / 32


def _may_begin(op: Operation) -> bool:
    if isinstance(op, Load | AsyncCopy | AsyncCommit):
        return True
    return isinstance(op, Op) and op.is_pure


def _has_blocks(op: Operation) -> bool:
    return any(isinstance(v.type, BlockType) for v in (*op.operands, *op.results))
