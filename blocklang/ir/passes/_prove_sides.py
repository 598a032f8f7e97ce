"""What `prove-rings` follows along the paths of a producer and of a consumer, for one ring."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

from blocklang.ir.analysis.groups import Groups, products
from blocklang.ir.analysis.paths import Machine, Numbers, number_of
from blocklang.ir.core import Argument, Block, Function, Operation, Value
from blocklang.ir.errors import UnorderedAsyncMemory
from blocklang.ir.op import Effect, Op
from blocklang.ir.ops.asynchronous import (
    MBarrierArrive,
    MBarrierExpect,
    MBarrierOp,
    MBarrierWait,
    SharedSlot,
    SharedView,
    TmaLoad,
    TmaStore,
    Wgmma,
    WgmmaWait,
)
from blocklang.ir.ops.control import For, If, Yield
from blocklang.ir.types import SharedType


def refuse(op: Operation | Block, problem: str) -> NoReturn:
    """Raise the error that `problem` is found at `op`."""
    location = op.loc if isinstance(op, Operation) else None
    raise UnorderedAsyncMemory(location, problem=problem)


@dataclass(frozen=True)
class ProvedRing:
    """Barriers and buffers of `depth` slots each that belong together."""

    full: Value
    empty: Value
    buffers: tuple[Value, ...]
    depth: int

    @property
    def bytes(self) -> int:
        """Bytes of one slot of all buffers."""
        return sum(slot_bytes(buffer) for buffer in self.buffers)


def slot_bytes(buffer: Value) -> int:
    """Bytes of one slot of a buffer."""
    assert isinstance(buffer.type, SharedType)
    return buffer.type.slot_bytes


def slots_of(buffers: Iterable[Value]) -> set[Value]:
    """The buffers, their slots and views, and what carries these."""
    found: set[Value] = set()
    pending = list(buffers)
    while pending:
        value = pending.pop()
        if value in found:
            continue
        found.add(value)
        for user, index in value.uses:
            if isinstance(user, SharedSlot | SharedView):
                pending.append(user.results[0])
            elif isinstance(user, For):
                position = index - (len(user.operands) - len(user.initial))
                pending += [user.regions[0].block.arguments[position + 1], user.results[position]]
            elif isinstance(user, Yield) and user.parent_op is not None:
                holder = user.parent_op
                if isinstance(holder, For | If):
                    pending.append(holder.results[index])
                if isinstance(holder, For):
                    pending.append(holder.regions[0].block.arguments[index + 1])
    return found


@dataclass
class _Side:
    """The ring, and the ops that use it."""

    ring: ProvedRing

    def __post_init__(self) -> None:
        self.slots = slots_of(self.ring.buffers)

    def uses(self, op: Op) -> bool:
        """Whether an op uses the ring's barriers, buffers or slots."""
        ours = (self.ring.full, self.ring.empty)
        return any(value in self.slots or value in ours for value in op.operands)

    def roots(self) -> set[Value]:
        """The scalars that decide which slot is meant, in which phase."""
        found = set(self.slots)
        for barriers in (self.ring.full, self.ring.empty):
            for op in barriers.users:
                if isinstance(op, MBarrierOp):
                    found |= set(op.operands[1:])
                if isinstance(op, TmaLoad):
                    found.add(op.index)
        return {v for v in found if not isinstance(v, Argument) or v.block.region is not None}

    def slot(self, op: Op, value: Value, number: Numbers) -> int:
        """The number of a slot or of a barrier."""
        found = number_of(value, number)
        if found is None or not 0 <= found < self.ring.depth:
            refuse(op, f"{op.mnemonic} uses a slot whose number does not follow from the ring's")
        return found

    def wait(self, op: MBarrierWait, place: int, parity: int, number: Numbers) -> None:
        """Check that `op` waits for the slot and the phase of `place`."""
        depth = self.ring.depth
        if self.slot(op, op.index, number) != place % depth:
            refuse(op, "a slot is waited for that is not the next one of its ring")
        if number_of(op.phase, number) != (place // depth) ^ parity:
            refuse(op, "a slot is waited for in another phase than its own")


class Filling(NamedTuple):
    """`place` is the next slot, counted through both phases; `stage` what has happened to it."""

    place: int
    stage: str  # idle, waited, announced
    left: frozenset[Value]


class Producer(_Side, Machine[Filling]):
    """Waits for each slot, announces its bytes, and fills all its buffers."""

    def start(self) -> Filling:
        return Filling(0, "idle", frozenset())

    def is_relevant(self, op: Op) -> bool:
        return not op.regions and not isinstance(op, SharedSlot | Yield) and self.uses(op)

    def step(self, op: Op, state: Filling, number: Numbers) -> Filling:
        place, stage, left = state
        ring = self.ring
        if isinstance(op, MBarrierWait) and op.barriers is ring.empty and stage == "idle":
            self.wait(op, place, 1, number)
            return Filling(place, "waited", left)
        if isinstance(op, MBarrierExpect) and op.barriers is ring.full and stage == "waited":
            if self.slot(op, op.index, number) != place % ring.depth or op.bytes != ring.bytes:
                refuse(op, "another slot, or another number of bytes, is announced")
            return Filling(place, "announced", frozenset(ring.buffers))
        if isinstance(op, TmaLoad) and stage == "announced":
            buffer = next((b for b in left if op.buffer in slots_of([b])), None)
            if buffer is None or op.barriers is not ring.full:
                refuse(op, "a copy fills a buffer twice, or reports to another ring")
            for value in (op.index, op.buffer):
                if self.slot(op, value, number) != place % ring.depth:
                    refuse(op, "a copy goes to a slot that is not the one announced")
            left -= {buffer}
            if left:
                return Filling(place, stage, left)
            return Filling((place + 1) % (2 * ring.depth), "idle", left)
        refuse(op, f"{op.mnemonic} comes in another order than wait, announce, copy")

    def finish(self, op: Operation, state: Filling) -> None:
        if state.stage != "idle":
            refuse(op, "the producer ends with a slot that is not filled")


class Taking(NamedTuple):
    """`place` is the next slot, `held` the slots that are taken, by number; what the products under
    way read are slots too.
    """

    place: int
    held: frozenset[int]
    under_way: Groups


class Consumer(_Side, Machine[Taking]):
    """Waits for each slot, reads it, and gives it back once."""

    def __init__(self, ring: ProvedRing, function: Function) -> None:
        super().__init__(ring)
        self.nothing = products(function)

    def start(self) -> Taking:
        return Taking(0, frozenset(), self.nothing)

    def is_relevant(self, op: Op) -> bool:
        if isinstance(op, Wgmma | WgmmaWait):
            return True
        return (
            not op.regions
            and not isinstance(op, SharedSlot | SharedView | Yield)
            and (self.uses(op))
        )

    def step(self, op: Op, state: Taking, number: Numbers) -> Taking:
        place, held, under_way = state
        depth = self.ring.depth
        if isinstance(op, WgmmaWait):
            return Taking(place, held, under_way.wait(op.groups)[1])
        if isinstance(op, MBarrierWait) and op.barriers is self.ring.full:
            self.wait(op, place, 0, number)
            if place % depth in held:
                refuse(op, "a slot is waited for again before it was given back")
            return Taking((place + 1) % (2 * depth), held | {place % depth}, under_way)
        if isinstance(op, MBarrierArrive) and op.barriers is self.ring.empty:
            return self.give(op, state, number)
        only_reads = op.effects & (Effect.READ_SHARED | Effect.WRITE_SHARED) == Effect.READ_SHARED
        if isinstance(op, TmaStore) or not only_reads:
            refuse(op, f"{op.mnemonic} is nothing that a consumer does to a ring")
        read = {self.slot(op, v, number) for v in op.operands if v in self.slots}
        if not read <= held:
            refuse(op, f"{op.mnemonic} reads a slot that was not waited for")
        if isinstance(op, Wgmma):
            under_way = under_way.start(read)
        return Taking(place, held, under_way)

    def give(self, op: MBarrierArrive, state: Taking, number: Numbers) -> Taking:
        """A slot is given back, if the predicate holds."""
        if op.predicate is not None:
            holds = number_of(op.predicate, number)
            if holds is None:
                refuse(op, "whether a slot is given back does not follow from the iteration")
            if not holds:
                return state
        slot = self.slot(op, op.index, number)
        if slot not in state.held:
            refuse(op, "a slot is given back that is not held")
        if slot in state.under_way.facts:
            refuse(op, "a slot is given back before the products that read it are done")
        return Taking(state.place, state.held - {slot}, state.under_way)

    def finish(self, op: Operation, state: Taking) -> None:
        if state.held:
            refuse(op, "a slot is never given back")
