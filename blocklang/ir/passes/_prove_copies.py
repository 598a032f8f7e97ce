"""What `prove-rings` follows of buffers to which the threads themselves copy (`async_copy`) what
warpgroups read: slot by slot, with exact numbers.

The way of a slot, which every thread goes with what it has copied and a barrier with what all have:

    copied, its group closed, waited for, fenced, behind a barrier: there
    read by products, these waited for, behind a barrier: free

A slot is read only when it is there, and copied to only when it is free. Other buffers may have the
same bytes: they are used only while all slots are free, and then the slots hold nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from blocklang.ir.analysis.groups import Fact, Groups, products
from blocklang.ir.analysis.paths import Machine, Numbers, number_of
from blocklang.ir.core import Argument, Function, Operation, Value
from blocklang.ir.op import Effect, Op
from blocklang.ir.ops.async_copy import AsyncCommit, AsyncCopy, AsyncWait
from blocklang.ir.ops.asynchronous import FenceAsync, SharedSlot, SharedView, Wgmma, WgmmaWait
from blocklang.ir.ops.shared import SharedLoad
from blocklang.ir.types import SharedType

from ._prove_sides import refuse, slots_of

_Slots = frozenset[int]
_NONE: _Slots = frozenset()


class Filling(NamedTuple):
    """Slots by what has happened to them; those that are nowhere are free, and hold nothing.

    `open` are those to which copies have been started since the last group was closed, `copies` the
    groups under way. The copies of every thread to `own` slots are done, and for `fenced` ones each
    has told warpgroups so; behind a barrier these are `there`, all but `readable` ones for threads
    alone. Of `news` not all threads know that readers are done; nor, with `others`, that those are
    who used the bytes for other buffers.
    """

    open: _Slots
    copies: Groups
    own: _Slots
    fenced: _Slots
    there: _Slots
    readable: _Slots
    products: Groups
    news: _Slots
    others: bool

    @property
    def coming(self) -> _Slots:
        """Slots whose copies are not known to all threads as done."""
        return self.open | _slots(self.copies) | self.own | self.fenced


def _slots(groups: Groups) -> _Slots:
    return _numbers(groups.facts)


def _numbers(facts: Iterable[Fact]) -> _Slots:
    """Facts of groups are slots here."""
    return frozenset(fact for fact in facts if isinstance(fact, int))


class Filled(Machine[Filling]):
    """A buffer to which threads copy, for warpgroups; `rivals` share bytes with it."""

    def __init__(self, function: Function, buffer: Value, rivals: Sequence[Value]) -> None:
        assert isinstance(buffer.type, SharedType)
        self.depth = buffer.type.depth
        self.slots = slots_of([buffer])
        self.rivals = slots_of(rivals)
        waits = [op.groups for op in function.walk() if isinstance(op, AsyncWait)]
        self.copies = Groups(max(waits, default=0))
        self.products = products(function)

    def roots(self) -> list[Value]:
        inner = (v for v in self.slots if not isinstance(v, Argument) or v.block.region is not None)
        return list(inner)

    def start(self) -> Filling:
        return Filling(
            _NONE, self.copies, _NONE, _NONE, _NONE, _NONE, self.products, _NONE, others=False
        )

    def is_relevant(self, op: Op) -> bool:
        if isinstance(op, AsyncCommit | AsyncWait | FenceAsync | Wgmma | WgmmaWait):
            return True
        if Effect.SYNCHRONIZE in op.effects:
            return True
        return not op.regions and not isinstance(op, SharedSlot | SharedView) and self.uses(op)

    def uses(self, op: Op) -> bool:
        return any(value in self.slots or value in self.rivals for value in op.operands)

    def step(self, op: Op, state: Filling, number: Numbers) -> Filling:
        if isinstance(op, AsyncCommit):
            return state._replace(open=_NONE, copies=state.copies.start(state.open))
        if isinstance(op, AsyncWait):
            done, left = state.copies.wait(op.groups)
            return state._replace(copies=left, own=state.own | _numbers(done))
        if isinstance(op, FenceAsync):
            # What all threads knew of before is fenced again: warpgroups know it one barrier later.
            fenced = state.own | state.fenced | (state.there - state.readable)
            return state._replace(own=_NONE, fenced=fenced)
        if isinstance(op, WgmmaWait):
            done, left = state.products.wait(op.groups)
            return state._replace(products=left, news=state.news | _numbers(done))
        if Effect.SYNCHRONIZE in op.effects:
            return state._replace(
                own=_NONE, fenced=_NONE, there=state.there | state.own | state.fenced,
                readable=state.readable | state.fenced, news=_NONE, others=False,
            )  # fmt: skip
        return self.access(op, state, number)

    def access(self, op: Op, state: Filling, number: Numbers) -> Filling:
        """A copy to slots of the buffer, or what reads them."""
        if any(value in self.rivals for value in op.operands):
            state = self.rival(op, state)
        touched = frozenset(self.slot(op, v, number) for v in op.operands if v in self.slots)
        if not touched and not isinstance(op, Wgmma):
            return state
        if isinstance(op, AsyncCopy):
            if touched & state.coming:
                refuse(op, "a slot is copied to again before all threads know that copies are done")
            if state.others:
                refuse(op, f"{op.mnemonic} overwrites what other threads may still use")
            if touched & (_slots(state.products) | state.news):
                refuse(op, f"{op.mnemonic} overwrites what is still read beside the threads")
            return state._replace(
                open=state.open | touched,
                there=state.there - touched, readable=state.readable - touched,
            )  # fmt: skip
        if isinstance(op, Wgmma):
            if not touched <= state.readable:
                refuse(op, f"{op.mnemonic} reads what no wait, fence and barrier have made visible")
            return state._replace(products=state.products.start(touched))
        if not isinstance(op, SharedLoad):
            refuse(op, f"{op.mnemonic} is nothing that threads do to what they copy")
        if not touched <= state.there:
            refuse(op, f"{op.mnemonic} reads a copy that was not waited for")
        return state._replace(news=state.news | touched)

    def rival(self, op: Op, state: Filling) -> Filling:
        """The state when another buffer's bytes are used, which are some of ours."""
        if state.coming or _slots(state.products) or state.news:
            refuse(op, f"{op.mnemonic} uses bytes that are still copied to or read for warpgroups")
        return state._replace(there=_NONE, readable=_NONE, others=True)

    def slot(self, op: Op, value: Value, number: Numbers) -> int:
        """The number of a slot."""
        found = 0 if self.depth == 1 else number_of(value, number)
        if found is None or not 0 <= found < self.depth:
            refuse(op, f"{op.mnemonic} uses a slot whose number does not follow from the loop's")
        return found

    def finish(self, op: Operation, state: Filling) -> None:
        if state.open or state.copies.facts:
            refuse(op, "copies are never waited for")
