"""What `prove-rings` follows of buffers that no ring has: stored by threads and read beside them,
and copied at the request of the threads that read them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from blocklang.ir.analysis.groups import Groups, products, stores
from blocklang.ir.analysis.paths import Machine, Numbers, number_of
from blocklang.ir.core import Function, Operation, Value
from blocklang.ir.op import Effect, Op
from blocklang.ir.ops.asynchronous import (
    FenceAsync,
    MBarrierExpect,
    MBarrierOp,
    MBarrierWait,
    TmaLoad,
    TmaStore,
    TmaStoreWait,
    Wgmma,
    WgmmaWait,
)

from ._prove_sides import refuse, slot_bytes, slots_of

_READ = "read"


class Readers(NamedTuple):
    """What reads a buffer beside the threads: products and stores under way, and whether some are
    done of which not all threads know.
    """

    products: Groups
    stores: Groups
    is_news: bool

    @property
    def are_done(self) -> bool:
        """Whether all threads know that nothing reads the buffer."""
        return not (self.is_news or self.products.facts or self.stores.facts)

    def step(self, op: Op, reads: bool) -> Readers:
        """The state behind `op`, which `reads` the buffer or does not."""
        facts = [_READ] if reads else []
        if isinstance(op, Wgmma):
            return self._replace(products=self.products.start(facts))
        if isinstance(op, TmaStore):
            return self._replace(stores=self.stores.start(facts))
        if isinstance(op, WgmmaWait):
            done, left = self.products.wait(op.groups)
            return self._replace(products=left, is_news=self.is_news or bool(done))
        if isinstance(op, TmaStoreWait):
            done, left = self.stores.wait(op.groups)
            return self._replace(stores=left, is_news=self.is_news or bool(done))
        if Effect.SYNCHRONIZE in op.effects:
            return self._replace(is_news=False)
        return self


def _no_readers(function: Function) -> Readers:
    return Readers(products(function), stores(function), False)


def _is_of_readers(op: Op) -> bool:
    kinds = Wgmma | WgmmaWait | TmaStore | TmaStoreWait
    return isinstance(op, kinds) or Effect.SYNCHRONIZE in op.effects


class Storing(NamedTuple):
    """`stage` is what has happened to the last store."""

    stage: str  # nothing, stored, fenced, visible
    readers: Readers


class Stored(Machine[Storing]):
    """A buffer that threads store to: store, fence, barrier, read, wait, barrier."""

    def __init__(self, function: Function, buffer: Value) -> None:
        self.slots = slots_of([buffer])
        self.nobody = _no_readers(function)

    def start(self) -> Storing:
        return Storing("nothing", self.nobody)

    def is_relevant(self, op: Op) -> bool:
        if _is_of_readers(op) or isinstance(op, FenceAsync):
            return True
        return Effect.WRITE_SHARED in op.effects and self.uses(op)

    def uses(self, op: Op) -> bool:
        return any(value in self.slots for value in op.operands)

    def step(self, op: Op, state: Storing, number: Numbers) -> Storing:
        stage, readers = state
        if Effect.WRITE_SHARED in op.effects:
            if not readers.are_done:
                refuse(op, f"{op.mnemonic} overwrites what is still read beside the threads")
            return Storing("stored", readers)
        reads = self.uses(op)
        if reads and stage != "visible":
            refuse(op, f"{op.mnemonic} reads what no fence and barrier have made visible")
        if isinstance(op, FenceAsync) and stage == "stored":
            stage = "fenced"
        elif Effect.SYNCHRONIZE in op.effects and stage == "fenced":
            stage = "visible"
        return Storing(stage, readers.step(op, reads))

    def finish(self, op: Operation, state: Storing) -> None:
        if state.readers.stores.facts:
            refuse(op, "the kernel ends before its last store has read shared memory")


@dataclass(frozen=True)
class AtOnce:
    """A barrier and the buffers whose copies report to it, without a producer."""

    full: Value
    buffers: tuple[Value, ...]


class Copying(NamedTuple):
    """`stage` is what has happened to the copies of this phase."""

    phase: int
    stage: str  # nothing, announced, there
    left: frozenset[Value]
    readers: Readers


class Copied(Machine[Copying]):
    """Buffers that are announced, copied to, and waited for by those who read them."""

    def __init__(self, function: Function, fill: AtOnce) -> None:
        self.full = fill.full
        self.buffers = {value: buffer for buffer in fill.buffers for value in slots_of([buffer])}
        self.all = frozenset(fill.buffers)
        self.bytes = sum(slot_bytes(buffer) for buffer in self.all)
        self.nobody = _no_readers(function)

    def roots(self) -> list[Value]:
        users = [op for op in self.full.users if isinstance(op, MBarrierOp)]
        return [value for op in users for value in op.operands[1:]]

    def start(self) -> Copying:
        return Copying(0, "nothing", frozenset(), self.nobody)

    def is_relevant(self, op: Op) -> bool:
        if _is_of_readers(op) or self.full in op.operands:
            return True
        touches = bool(op.effects & (Effect.READ_SHARED | Effect.WRITE_SHARED))
        return touches and any(value in self.buffers for value in op.operands)

    def step(self, op: Op, state: Copying, number: Numbers) -> Copying:
        phase, stage, left, readers = state
        if isinstance(op, MBarrierOp) and op.barriers is self.full:
            if number_of(op.index, number) != 0:
                refuse(op, "there is one barrier only")
            if isinstance(op, MBarrierExpect) and stage != "announced" and op.bytes == self.bytes:
                return Copying(phase, "announced", self.all, readers)
            if not isinstance(op, MBarrierWait) or stage != "announced" or left:
                refuse(op, f"{op.mnemonic} comes in another order than announce, copy, wait")
            if number_of(op.phase, number) != phase:
                refuse(op, "a copy is waited for in another phase than its own")
            return Copying(phase ^ 1, "there", left, readers)
        if isinstance(op, TmaLoad):
            buffer = self.buffers.get(op.buffer)
            if buffer not in left or stage != "announced" or op.barriers is not self.full:
                refuse(op, "a copy was not announced, or fills a buffer twice")
            if not readers.are_done:
                refuse(op, "a copy overwrites what is still read beside the threads")
            return Copying(phase, stage, left - {buffer}, readers)
        reads = any(value in self.buffers for value in op.operands)
        if reads and (stage != "there" or isinstance(op, TmaStore)):
            refuse(op, f"{op.mnemonic} reads a copy that was not waited for")
        if reads and Effect.WRITE_SHARED in op.effects:
            refuse(op, f"{op.mnemonic} writes what copies fill")
        return Copying(phase, stage, left, readers.step(op, reads))

    def finish(self, op: Operation, state: Copying) -> None:
        if state.stage == "announced":
            refuse(op, "a copy is never waited for")
