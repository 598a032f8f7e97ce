"""prove-rings: checks what runs beside the threads, without trusting the passes before it.

It shares no code with the passes that make rings and start products. From the final IR alone it
finds the rings of a specialized kernel (what the producer waits for, announces and fills), and then
follows all paths of each side, ring by ring, with exact numbers for slots and phases:

1. The producer waits for slot n % depth on "empty" in the right phase, announces all bytes of the
   slot on "full", and copies into each of the ring's buffers once, before it goes on to n + 1.
2. The consumer waits for slot n % depth on "full" in the right phase, before anything reads it, and
   arrives on "empty" exactly once, when the products that read it are done; none is kept.
3. Fills and takes come in one order and equally often, and the sides never wait for each other
   (`analysis/ring_order.py` says how far this is a proof).
4. Pending values become blocks behind a wait that covers them, what a product reads from registers
   is overwritten behind such a wait only, and every product is waited for.
5. What threads store for the tensor memory accelerator or for warpgroups is fenced and behind a
   barrier before it is read, and stored again only when the reader is done and a barrier has told
   all threads. The same for copies that the threads wait for themselves; those that they start with
   `async_copy` are followed slot by slot.
6. Buffers and barriers that are used beside the threads share no bytes with anything, but for those
   that threads fill with `async_copy`: others use their bytes when all slots are free.

Sound, and narrower than what hardware allows: a slot is waited for once, in order; predicates of
arrivals must follow from the number of the iteration; scalars that both sides load from memory are
taken to be the same. Which iteration the copies that threads start are for is not known. What it
refuses is a mistake in the compiler, not in the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from blocklang.ir.analysis import ring_order
from blocklang.ir.analysis.paths import Paths
from blocklang.ir.analysis.ring_order import Event, Expressions, compared_with_first
from blocklang.ir.core import Block, Function, Module, Operation, Value
from blocklang.ir.errors import UnorderedAsyncMemory
from blocklang.ir.op import Effect, Op
from blocklang.ir.ops.async_copy import AsyncCopy
from blocklang.ir.ops.asynchronous import (
    ClusterRank,
    MBarrierAlloc,
    MBarrierArrive,
    MBarrierExpect,
    MBarrierOp,
    MBarrierWait,
    OneWarp,
    SharedSlot,
    SharedView,
    TmaLoad,
    TmaSend,
    TmaStore,
    WarpSpecialize,
    Wgmma,
)
from blocklang.ir.ops.shared import SharedAlloc
from blocklang.ir.types import MBarriersType, SharedType

from ._prove_buffers import AtOnce, Copied, Stored
from ._prove_copies import Filled
from ._prove_products import Products, check_operands
from ._prove_sends import prove_sends
from ._prove_sides import Consumer, Producer, ProvedRing, refuse, slots_of
from .dce import Needed
from .manager import Pass

_WARPGROUP = 128
_WARPS = 4
_REGISTERS = 65536
_SHARED = Effect.READ_SHARED | Effect.WRITE_SHARED


@dataclass(frozen=True)
class ProveRings(Pass):
    """Fail where copies and products beside the threads are not ordered."""

    name: ClassVar[str] = "prove-rings"

    def _run(self, module: Module) -> None:
        for function in module.functions.values():
            _prove(function)


def _prove(function: Function) -> None:
    split = _split(function)
    rings = [] if split is None else _rings(function, split)
    _check_places(function)
    if split is not None:
        _check_partitions(function, split, rings)
        for home, own in _homes(split, rings).items():
            for ring in own:
                Paths(Producer(ring)).run(home)
                Paths(Consumer(ring, function)).run(split.consumer.block)
            _check_order(split, home, own)
    _prove_products(function)
    _prove_buffers(function, {buffer for ring in rings for buffer in ring.buffers})
    prove_sends(function, function.block if split is None else split.consumer.block)


def _split(function: Function) -> WarpSpecialize | None:
    found = [op for op in function.walk() if isinstance(op, WarpSpecialize)]
    if not found:
        return None
    (op,) = found
    if op.parent is not function.block:
        refuse(op, "partitions stand inside control flow")
    for later in function.block.ops[function.block.ops.index(op) + 1 : -1]:
        if isinstance(later, Op) and later.effects:
            refuse(later, f"{later.mnemonic} comes when the producer's warps are gone")
    return op


# ---------------------------------------------------------------- rings


def _rings(function: Function, split: WarpSpecialize) -> list[ProvedRing]:
    """The rings that the producer fills: barriers that are waited for, announced on, and filled."""
    pairs: dict[Value, Value] = {}
    for block in _blocks(split.producer.block):
        waited: MBarrierWait | None = None
        for op in block.ops:
            if isinstance(op, MBarrierWait):
                waited = op
            elif isinstance(op, MBarrierExpect):
                if waited is None or pairs.setdefault(op.barriers, waited.barriers) is not (
                    waited.barriers
                ):
                    refuse(op, "a slot is announced that was not waited for")
                waited = None
    filled: dict[Value, dict[Value, None]] = {full: {} for full in pairs}
    for op in split.producer.block.walk():
        if isinstance(op, TmaLoad):
            if op.barriers not in filled:
                refuse(op, "a copy reports to a barrier on which nothing is announced")
            filled[op.barriers][_allocation(op.buffer)] = None
    rings = [
        ProvedRing(full, empty, tuple(filled[full]), _depth(full)) for full, empty in pairs.items()
    ]
    known = [value for ring in rings for value in (ring.full, ring.empty, *ring.buffers)]
    if len(set(known)) != len(known):
        refuse(split, "two rings share a barrier or a buffer")
    for ring in rings:
        _check_ring(function, split, ring)
    return rings


def _homes(split: WarpSpecialize, rings: list[ProvedRing]) -> dict[Block, list[ProvedRing]]:
    """The producers, each executed by one thread, with the rings that each fills alone."""
    warps = [op for op in split.producer.block.ops if isinstance(op, OneWarp)]
    homes: dict[Block, list[ProvedRing]] = {op.body.block: [] for op in warps}
    if not homes:
        return {split.producer.block: rings}
    if len({op.warp for op in warps}) != len(warps) or len(warps) + 1 != len(
        split.producer.block.ops
    ):
        refuse(split, "two producers are one warp, or something is executed by none")
    for ring in rings:
        users = [user for value in (ring.full, ring.empty) for user in value.users]
        found = {home for home in homes for user in users if _is_in(user, home)}
        if len(found) != 1:
            refuse(ring.full.owner, "two producers fill one ring")
        homes[found.pop()].append(ring)
    return homes


def _check_ring(function: Function, split: WarpSpecialize, ring: ProvedRing) -> None:
    warps = int(function.attributes["num_warps"])
    if _is_everywhere(function, ring):
        warps *= int(function.attributes.get("num_ctas", 1))
    for barriers, arrivals in ((ring.full, 1), (ring.empty, warps)):
        made = barriers.owner
        if not isinstance(made, MBarrierAlloc) or made.parent is not function.block:
            refuse(split, "barriers of a ring are not made before the partitions")
        if made.arrivals != arrivals or _depth(barriers) != ring.depth:
            refuse(made, f"a ring of {ring.depth} slots has other barriers, or other arrivals")
    for buffer in ring.buffers:
        kind = buffer.type
        if not isinstance(kind, SharedType) or kind.depth != ring.depth:
            refuse(split, "a buffer of a ring has another number of slots")
    used = [user for value in (ring.full, ring.empty) for user in value.users]
    used += [user for buffer in ring.buffers for user in buffer.users]
    for user in used:
        if not any(_is_in(user, region.block) for region in split.regions):
            refuse(user, f"{user.mnemonic} uses a ring outside the partitions")


def _is_everywhere(function: Function, ring: ProvedRing) -> bool:
    """Whether the blocks of threads of a cluster fill a ring together: then all of them copy the
    same, equally often, and each hears of the readers of all.
    """
    copies = [
        op
        for op in function.walk()
        if isinstance(op, TmaLoad) and _allocation(op.buffer) in ring.buffers
    ]
    arrivals = [user for user in ring.empty.users if isinstance(user, MBarrierArrive)]
    everywhere = {op.everywhere for op in copies} | {op.everywhere for op in arrivals}
    if len(everywhere) > 1:
        refuse(copies[0], "some copies or arrivals are for the whole cluster, some are not")
    if everywhere == {True}:
        needed = Needed(function, lambda op: op in copies)
        if any(isinstance(op, ClusterRank) for op in needed.ops):
            refuse(copies[0], "a copy for the whole cluster is not the same everywhere")
    return everywhere == {True}


def _blocks(block: Block) -> Iterator[Block]:
    yield block
    for op in block.ops:
        for region in op.regions:
            yield from _blocks(region.block)


def _depth(barriers: Value) -> int:
    assert isinstance(barriers.type, MBarriersType)
    return barriers.type.depth


def _allocation(buffer: Value) -> Value:
    while isinstance(buffer.owner, SharedSlot | SharedView):
        buffer = buffer.owner.buffer
    return buffer


def _is_in(op: Operation, block: Block) -> bool:
    current: Operation | None = op
    while current is not None and current.parent is not block:
        current = current.parent_op
    return current is not None


# ---------------------------------------------------------------- both sides


def _check_partitions(function: Function, split: WarpSpecialize, rings: list[ProvedRing]) -> None:
    """What each side may do at all, and that the registers are there."""
    for op in split.producer.block.walk():
        assert isinstance(op, Op)
        if isinstance(op, OneWarp | TmaLoad | MBarrierWait | MBarrierExpect):
            continue
        if isinstance(op, MBarrierOp) or op.effects & ~Effect.READ:
            refuse(op, f"{op.mnemonic} is nothing for one thread of a producer")
    fulls = {ring.full for ring in rings}
    for op in split.consumer.block.walk():
        if isinstance(op, MBarrierOp) and op.barriers not in {
            *fulls, *(ring.empty for ring in rings)
        }:  # fmt: skip
            refuse(op, f"{op.mnemonic} uses barriers of no ring")
    first, rest = split.producer_registers, split.consumer_registers
    groups = int(function.attributes["num_warps"]) // _WARPS
    at_launch = _REGISTERS // (_WARPGROUP * (groups + 1)) // 8 * 8
    if bool(first) != bool(rest) or first % 8 or rest % 8 or max(first, rest) > 255:
        refuse(split, f"{first} and {rest} registers cannot be asked for")
    if first + groups * rest > at_launch * (groups + 1):
        refuse(split, f"{first} and {groups} times {rest} registers are more than were launched")


def _check_order(split: WarpSpecialize, home: Block, rings: list[ProvedRing]) -> None:
    """Hold a producer against the consumer, as to the rings that this one fills: others make it
    wait for nothing.
    """
    if not rings:
        return
    expressions = Expressions()
    numbers = {ring.full: i for i, ring in enumerate(rings)}
    empties = {ring.empty: i for i, ring in enumerate(rings)}

    def fills(op: Operation) -> Event | None:
        return Event("fill", numbers[op.barriers]) if isinstance(op, MBarrierExpect) else None

    def takes(op: Operation) -> Event | None:
        if isinstance(op, MBarrierWait) and op.barriers in numbers:
            return Event("take", numbers[op.barriers])
        if not isinstance(op, MBarrierArrive) or op.barriers not in empties:
            return None
        loop = None if op.predicate is None else compared_with_first(op.predicate)
        return Event("give", empties[op.barriers], loop)

    producer = ring_order.tree(home, fills, expressions)
    consumer = ring_order.tree(split.consumer.block, takes, expressions)
    for number, ring in enumerate(rings):
        filled = ring_order.order(producer, "fill", number)
        if filled != ring_order.order(consumer, "take", number):
            refuse(ring.full.owner, "a ring is not filled as it is emptied")
    problem = ring_order.find_circle(producer, consumer, [ring.depth for ring in rings])
    if problem:
        refuse(split, problem)


# ---------------------------------------------------------------- products and buffers


def _prove_products(function: Function) -> None:
    ops = [op for op in function.walk() if isinstance(op, Wgmma)]
    if not ops:
        return
    Paths(Products(function)).run(function.block)
    for op in ops:
        check_operands(op)


def _prove_buffers(function: Function, of_rings: set[Value]) -> None:
    at_once: dict[Value, list[Value]] = {}
    stored: list[Value] = []
    filled: list[Value] = []
    for op in function.walk():
        if isinstance(op, TmaLoad) and _allocation(op.buffer) not in of_rings:
            at_once.setdefault(op.barriers, []).append(_allocation(op.buffer))
    copied = {buffer for found in at_once.values() for buffer in found}
    for op in function.walk():
        if isinstance(op, SharedAlloc) and op.results[0] not in of_rings | copied:
            readers = {user for value in slots_of([op.results[0]]) for user in value.users}
            if any(isinstance(user, Wgmma | TmaStore) for user in readers):
                (filled if _is_filled(readers) else stored).append(op.results[0])
    for full, found in at_once.items():
        Paths(Copied(function, AtOnce(full, tuple(found)))).run(function.block)
    for buffer in stored:
        Paths(Stored(function, buffer)).run(function.block)
    allocations = _allocations(function) if filled else []
    for buffer in filled:
        rivals = [op.results[0] for op in _sharing(allocations, buffer.owner)]
        Paths(Filled(function, buffer, rivals)).run(function.block)


def _check_places(function: Function) -> None:
    """What is used beside the threads has bytes of its own, but for what these copy themselves."""
    total = int(function.attributes.get("shared_bytes", 0))
    alone: set[Op] = set()
    allocations = _allocations(function)
    for op in allocations:
        place = _place(op)
        if op.offset < 0 or place.stop > total:
            refuse(op, f"{op.mnemonic} is outside the {total} bytes that are asked for")
        users = {user for value in slots_of([op.results[0]]) for user in value.users}
        is_beside = any(isinstance(user, TmaLoad | TmaSend | TmaStore | Wgmma) for user in users)
        if isinstance(op, MBarrierAlloc) or (is_beside and not _is_filled(users)):
            alone.add(op)
    for op in allocations:
        for other in _sharing(allocations, op):
            if op in alone or other in alone:
                _overlap(op, other)


def _is_filled(users: set[Operation]) -> bool:
    """Whether the threads copy to a buffer, and nothing else fills it."""
    if any(isinstance(user, TmaLoad | TmaSend | TmaStore) for user in users):
        return False
    return any(isinstance(user, AsyncCopy) for user in users)


def _allocations(function: Function) -> list[SharedAlloc | MBarrierAlloc]:
    return [op for op in function.walk() if isinstance(op, SharedAlloc | MBarrierAlloc)]


def _place(op: SharedAlloc | MBarrierAlloc) -> range:
    kind = op.results[0].type
    assert isinstance(kind, SharedType | MBarriersType)
    return range(op.offset, op.offset + kind.bytes)


def _sharing(
    allocations: list[SharedAlloc | MBarrierAlloc], op: object
) -> list[SharedAlloc | MBarrierAlloc]:
    """The other allocations that have a byte of that one."""
    assert isinstance(op, SharedAlloc | MBarrierAlloc)
    mine, found = _place(op), []
    for other in allocations:
        its = _place(other)
        if other is not op and its.start < mine.stop and mine.start < its.stop:
            found.append(other)
    return found


def _overlap(op: Op, other: Op) -> None:
    notes = (("the other one is made here", other.loc),)
    problem = "what is used beside the threads shares bytes with another buffer"
    raise UnorderedAsyncMemory(op.loc, notes, problem=problem)
