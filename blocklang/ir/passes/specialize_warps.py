"""specialize-warps: one warpgroup brings the data, the others compute.

Copies by the tensor memory accelerator, and the scalars and loops that they need, make up the
producer; it is the kernel with everything else removed. The consumer is the kernel in which copies
are slots of rings that the producer fills ahead of time. Between them there is nothing but the
rings: a slot is full when its bytes have arrived, empty when every warp has read it. The producer
does not wait where a loop ends, so that the next tile's copies run under this tile's epilogue.

Kernels are left alone whose copies depend on what only the consumer knows, and those with a loop
that forbids it. Where a loop asks for it in vain, the function says why.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from blocklang.ir.builder import Builder
from blocklang.ir.core import (
    Block,
    Function,
    Module,
    Operation,
    Region,
    Result,
    Value,
    clone_region,
)
from blocklang.ir.op import Effect, Op
from blocklang.ir.ops.asynchronous import (
    ClusterRank,
    LoadShared,
    MBarrierAlloc,
    MBarrierArrive,
    MBarrierExpect,
    MBarrierWait,
    OneWarp,
    SharedSlot,
    SharedView,
    TensorMap,
    TmaLoad,
    WarpSpecialize,
)
from blocklang.ir.ops.control import For, If, Return, While, Yield
from blocklang.ir.ops.shared import SharedAlloc
from blocklang.ir.types import BlockType, MBarriersType, SharedType, i32

from ._rings import Fill, Place, Ring, Step, Threading, advance, copy, find_fills, with_box
from ._room import SPARE, buffer_bytes, conversion_bytes
from ._sends import send_in_larger_pieces, send_in_smaller_pieces
from .dce import Needed, keep_only
from .manager import Pass

_GROUP = 4
_PRODUCER_REGISTERS = 24
_CLUSTER_PRODUCER_REGISTERS = 40
_REGISTERS = 65536
_MOST_WARPS = 32
_MOST_REGISTERS = 240
NOT_SPECIALIZED = "not_specialized"
"""The attribute of a function that says why a loop's wish was not met."""
_NO_COPIES = "the tensor memory accelerator copies nothing for products in it"


@dataclass(frozen=True)
class SpecializeWarps(Pass):
    """Split a kernel into a producer and a consumer. Rings are as deep as is wished, or as a
    program's `limit` of shared memory allows (0: any number of bytes), where the wish is not that
    of the loop itself.
    """

    limit: int = 0
    name: ClassVar[str] = "specialize-warps"

    def _run(self, module: Module) -> None:
        for function in module.functions.values():
            loads = [op for op in function.walk() if isinstance(op, LoadShared)]
            loops = [op for op in function.walk() if isinstance(op, For)]
            if any(loop.warp_specialize == 0 and _holds(loop, loads) for loop in loops):
                continue
            problem = _obstacle(function, loads)
            for loop in (loop for loop in loops if loop.warp_specialize == 1):
                reason = problem or ("" if _holds(loop, loads) else _NO_COPIES)
                if reason and NOT_SPECIALIZED not in function.attributes:
                    function.attributes[NOT_SPECIALIZED] = (
                        f"{loop.loc}: warps are not specialized, as this loop asks: {reason}"
                    )
            if not problem:
                _Split(function, loads, self.limit).run()


def _holds(loop: For, loads: list[LoadShared]) -> bool:
    return any(loop in load.holders for load in loads)


def _obstacle(function: Function, loads: list[LoadShared]) -> str:
    """Why warps are not specialized, or an empty text: some copy must stand in a loop, and one
    thread be able to find out by itself what to copy, from scalars alone.
    """
    num_warps = int(function.attributes["num_warps"])
    if num_warps % _GROUP:
        return f"num_warps={num_warps} makes no whole warpgroups"
    if num_warps + _GROUP > _MOST_WARPS:
        return f"num_warps={num_warps} leaves none for a producer"
    if not any(_loops_around(load) for load in loads):
        return _NO_COPIES
    needed = Needed(function, lambda op: isinstance(op, LoadShared))
    for op in needed.ops:
        if isinstance(op, LoadShared | For | If):
            continue
        assert isinstance(op, Op)
        touched = () if op.is_terminator else (*op.operands, *op.results)
        has_blocks = any(isinstance(v.type, BlockType) for v in touched)
        if isinstance(op, While) or op.effects & ~Effect.READ or has_blocks:
            return f"what is copied depends on more than scalars, here: {op.loc}"
    if any(isinstance(v.type, BlockType) for v in needed.values):
        return "what is copied depends on blocks"
    return ""


def _loops_around(op: Operation) -> list[For]:
    """The loops around an op, innermost first."""
    return [outer for outer in op.holders if isinstance(outer, For)]


@dataclass
class _Split:
    function: Function
    loads: list[LoadShared]
    limit: int

    def run(self) -> None:
        self.num_warps = int(self.function.attributes["num_warps"])
        self.num_ctas = int(self.function.attributes.get("num_ctas", 1))
        ops = list(self.function.walk())
        self.room = self.limit - buffer_bytes(ops) - conversion_bytes(ops) - SPARE
        fills = find_fills(self.loads, self.depth, self.is_common)
        rings = list(dict.fromkeys(fill.ring for fill in fills))
        self.fit(fills, rings)
        self.deepen(fills, rings)
        self.share(fills, rings)
        consumer = self.move_body()
        mapping: dict[Value, Value] = {}
        producer = clone_region(consumer, mapping)
        copies = [_copied(fill, mapping) for fill in fills]
        builder = Builder(self.function.block, len(self.function.block.ops) - 1, self.loads[0].loc)
        zero = builder.constant(0, i32)
        for ring in rings:
            self.allocate(builder, next(fill for fill in fills if fill.ring is ring))
        one = builder.constant(1, i32)
        _consume(consumer.block, fills, Place(zero, zero))
        _produce(producer.block, copies, Place(zero, one))
        producer = self.divide(producer, rings)
        first, rest = self.registers()
        builder.insert(
            WarpSpecialize(
                producer_registers=first, consumer_registers=rest,
                loc=self.loads[0].loc, regions=[consumer, producer],
            )
        )  # fmt: skip

    def depth(self, load: LoadShared) -> int:
        """Slots: the loop's or the kernel's stages where the copy is in an innermost loop."""
        loops = _loops_around(load)
        if not loops or any(isinstance(op, For) for op in loops[0].regions[0].walk()):
            return 1
        return int(loops[0].num_stages or self.function.attributes["num_stages"])

    def is_common(self, load: LoadShared) -> bool:
        """Whether all blocks of threads of a cluster copy the same, and there are rows enough for
        each of them to copy a share.
        """
        old = load.map.owner
        assert isinstance(old, TensorMap)
        if self.num_ctas == 1 or len(old.box) < 2 or old.box[-2] < 8 * self.num_ctas:
            return False
        needed = Needed(self.function, lambda op: op is load)
        return not any(isinstance(op, ClusterRank) for op in needed.ops)

    def share(self, fills: list[Fill], rings: list[Ring]) -> None:
        """Let each block of threads of a cluster copy a share of what is the same for all."""
        for ring in rings:
            loads = [load for fill in fills if fill.ring is ring for load in fill.loads]
            if all(self.is_common(load) for load in loads):
                ring.everywhere = True
                for load in loads:
                    load.set_operand(0, _map_of_share(load, self.num_ctas))

    def free(self, rings: Iterable[Ring]) -> int:
        """Bytes of shared memory that are left beside rings."""
        return self.room - sum(ring.bytes * ring.depth for ring in rings)

    def fit(self, fills: list[Fill], rings: list[Ring]) -> None:
        """Send results in pieces, and if that is not enough, take slots away, until all have room,
        largest rings first; not where a loop itself says how many it wants.
        """
        wished = {
            fill.ring
            for fill in fills
            if any(loop.num_stages for loop in _loops_around(fill.loads[0])[:1])
        }
        ops = list(self.function.walk())
        while self.limit and self.free(rings) < 0:
            if freed := send_in_smaller_pieces(ops):
                self.room += freed
                continue
            deep = [ring for ring in rings if ring.depth > 1 and ring not in wished]
            if not deep:
                return
            max(deep, key=lambda ring: ring.bytes * ring.depth).depth -= 1
        self.room -= send_in_larger_pieces(ops, self.free(rings))

    def deepen(self, fills: list[Fill], rings: list[Ring]) -> None:
        """Give what an outer loop copies a second slot, so that the next one arrives while this one
        is read.
        """
        free = self.free(rings)
        for fill in fills:
            first, is_single = fill.loads[0], fill.ring.depth == 1
            is_outer = is_single and self.depth(first) == 1 and _loops_around(first)
            if is_outer and (fill.ring.bytes <= free or not self.limit):
                fill.ring.depth = 2
                free -= fill.ring.bytes

    def move_body(self) -> Region:
        """Move the kernel's body into a region, but for tensor maps and what they are made of."""
        block = self.function.block
        kept: set[Operation] = set()
        pending: list[Operation] = [op for op in block.ops if isinstance(op, TensorMap | Return)]
        while pending:
            op = pending.pop()
            if op not in kept:
                kept.add(op)
                pending += [v.op for v in op.operands if isinstance(v, Result)]
        region = Region()
        for op in [op for op in block.ops if op not in kept]:
            op.detach()
            region.block.append(op)
        region.block.append(Yield((), loc=block.terminator.loc))
        return region

    def allocate(self, builder: Builder, fill: Fill) -> None:
        """The buffers and barriers of a ring, named after the first that fills it."""
        ring, loc = fill.ring, fill.loads[0].loc
        for load, kind in zip(fill.loads, ring.kinds, strict=True):
            slots = SharedType(kind.shape, kind.element, kind.layout, ring.depth)
            made = SharedAlloc(loc=load.loc, result_types=[slots])
            made.results[0].name = load.results[0].name
            ring.buffers.append(builder.insert(made).result)
        barriers = MBarriersType(ring.depth)
        full = MBarrierAlloc(arrivals=1, loc=loc, result_types=[barriers])
        readers = self.num_warps * (self.num_ctas if ring.everywhere else 1)
        empty = MBarrierAlloc(arrivals=readers, loc=loc, result_types=[barriers])
        ring.full = builder.insert(full).result
        ring.empty = builder.insert(empty).result
        ring.full.name, ring.empty.name = "full", "empty"

    def divide(self, region: Region, rings: list[Ring]) -> Region:
        """The producer for all rings as one for each, in a warp of its own: none of them waits for
        a slot while another one has room. Of more rings than warps some share one, and wait for
        each other.
        """
        if len(rings) == 1:
            self.strip(region, rings)
            return region
        made, loc = Region(), self.loads[0].loc
        for warp in range(min(_GROUP, len(rings))):
            body, own = clone_region(region, {}), rings[warp::_GROUP]
            self.strip(body, own)
            made.block.append(OneWarp(warp=warp, loc=loc, regions=[body]))
        self.strip(region, [])  # it uses nothing any more
        made.block.append(Yield((), loc=loc))
        return made

    def strip(self, region: Region, rings: list[Ring]) -> None:
        """Keep of the producer's body only what fills these rings."""
        barriers = {value for ring in rings for value in (ring.full, ring.empty)}
        kinds = TmaLoad | MBarrierWait | MBarrierExpect
        body = Function("producer", self.function.loc)
        body.body = region
        keep_only(body, lambda op: isinstance(op, kinds) and op.barriers in barriers)

    def registers(self) -> tuple[int, int]:
        """The registers of a producer's and of a consumer's thread: what the launch allocates, of
        which a producer needs few. With one consuming warpgroup each thread has all it can use.
        """
        groups = self.num_warps // _GROUP
        if groups == 1:
            return 0, 0
        at_launch = _REGISTERS // (32 * (self.num_warps + _GROUP)) // 8 * 8
        own = _PRODUCER_REGISTERS if self.num_ctas == 1 else _CLUSTER_PRODUCER_REGISTERS
        rest = (at_launch * (groups + 1) - own) // groups // 8 * 8
        return own, min(rest, _MOST_REGISTERS)


def _map_of_share(load: LoadShared, count: int) -> Value:
    """The map for a share of the rows of what is copied."""
    old = load.map.owner
    assert isinstance(old, TensorMap)
    return with_box(old, (*old.box[:-2], old.box[-2] // count, old.box[-1])).result


def _copied(fill: Fill, mapping: dict[Value, Value]) -> Fill:
    """The same with the producer's copies of the loads."""
    loads = []
    for load in fill.loads:
        value = mapping[load.results[0]]
        assert isinstance(value, Result)
        assert isinstance(value.op, LoadShared)
        loads.append(value.op)
    return Fill(fill.ring, loads)


# ---------------------------------------------------------------- both sides


def _consume(block: Block, fills: list[Fill], start: Place) -> None:
    """Replace loads by slots that are waited for before the first reader and given back behind the
    last.
    """
    steps: dict[Operation, list[tuple[Ring, Step]]] = {}
    for fill in fills:
        readers = fill.readers
        after = fill.home.ops[fill.home.ops.index(readers[-1]) + 1]
        # What is full is given back before something else is waited for.
        steps.setdefault(after, []).insert(0, (fill.ring, _release(fill)))
        steps.setdefault(readers[0], []).append((fill.ring, _acquire(fill)))
    Threading(steps).run(block, dict.fromkeys((fill.ring for fill in fills), start))
    for fill in fills:
        for load in fill.loads:
            load.erase()


def _acquire(fill: Fill) -> Step:
    def step(op: Operation, place: Place) -> Place:
        builder = Builder.before(op)
        assert fill.ring.full is not None
        builder.insert(MBarrierWait(fill.ring.full, place.index, place.phase, loc=op.loc))
        for load, buffer in zip(fill.loads, fill.ring.buffers, strict=True):
            slot = builder.insert(SharedSlot(buffer, place.index, loc=load.loc)).result
            _move_views(load.results[0], builder)
            load.results[0].replace_all_uses_with(slot)
        return place

    return step


def _move_views(value: Value, builder: Builder) -> None:
    """Let the views of a buffer that stand in the same block follow it to where it is known now."""
    for user in value.users:
        if isinstance(user, SharedView) and user.parent is builder.block:
            position = builder.block.ops.index(user)
            user.detach()
            assert builder.index is not None
            builder.index -= position < builder.index
            builder.insert(user)
            _move_views(user.results[0], builder)


def _release(fill: Fill) -> Step:
    def step(op: Operation, place: Place) -> Place:
        builder = Builder.before(op)
        assert fill.ring.empty is not None
        builder.loc = fill.loads[0].loc
        arrive = MBarrierArrive(
            fill.ring.empty, place.index, everywhere=fill.ring.everywhere, loc=builder.loc
        )
        builder.insert(arrive)
        return advance(builder, place, fill.ring.depth)

    return step


def _produce(block: Block, fills: list[Fill], start: Place) -> None:
    """Replace loads by copies into slots that are empty."""
    steps: dict[Operation, list[tuple[Ring, Step]]] = {}
    for fill in fills:
        after = fill.home.ops[fill.home.ops.index(fill.loads[-1]) + 1]
        steps.setdefault(after, []).append((fill.ring, _fill(fill)))
    Threading(steps).run(block, dict.fromkeys((fill.ring for fill in fills), start))


def _fill(fill: Fill) -> Step:
    def step(op: Operation, place: Place) -> Place:
        ring, builder = fill.ring, Builder.before(op)
        builder.loc = fill.loads[0].loc
        assert ring.empty is not None
        builder.insert(MBarrierWait(ring.empty, place.index, place.phase, loc=builder.loc))
        slots = (
            builder.insert(SharedSlot(buffer, place.index, loc=load.loc)).result
            for load, buffer in zip(fill.loads, ring.buffers, strict=True)
        )
        copy(builder, fill, place, slots)
        return advance(builder, place, ring.depth)

    return step
