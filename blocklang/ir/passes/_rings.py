"""Rings: buffers in shared memory that one side fills and another empties, slot after slot.

A ring has barriers "full" and "empty" for each slot. Which slot is next, and in which phase its
barriers are, are two integers, which `Threading` carries through the loops and branches around the
places where a ring is used. This is the one implementation of slots and phases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from blocklang.ir.builder import Builder
from blocklang.ir.core import Block, Operation, Value
from blocklang.ir.op import Op
from blocklang.ir.ops.asynchronous import LoadShared, MBarrierExpect, SharedView, TensorMap, TmaLoad
from blocklang.ir.ops.control import For, If, Yield
from blocklang.ir.ops.elementwise import Add, Compare, Select, Xor
from blocklang.ir.types import SharedType, i32


@dataclass(eq=False)
class Ring:
    """Buffers of `depth` slots, one for each of `kinds`, which are filled and read together.

    With `everywhere` the blocks of threads of a cluster fill their slots together. `empty` is
    absent where the reader and the writer are the same threads.
    """

    kinds: tuple[SharedType, ...]
    depth: int
    everywhere: bool = False
    buffers: list[Value] = field(default_factory=list)
    full: Value | None = None
    empty: Value | None = None

    @property
    def bytes(self) -> int:
        """Bytes that fill one slot."""
        return sum(kind.slot_bytes for kind in self.kinds)


@dataclass(eq=False)
class Fill:
    """Copies that fill a slot of `ring` together, because the same ops read them."""

    ring: Ring
    loads: list[LoadShared]

    @property
    def home(self) -> Block:
        """The block in which the copies stand."""
        block = self.loads[0].parent
        assert block is not None
        return block

    @property
    def readers(self) -> list[Operation]:
        """The ops of the home block that read the slot, or hold ops that do."""
        found = {holder_in(self.home, op) for load in self.loads for op in readers(load)}
        return [op for op in self.home.ops if op in found]


@dataclass(frozen=True)
class Place:
    """Where a ring stands: the next slot, and the parity of its phase."""

    index: Value
    phase: Value


def _kind(load: LoadShared) -> SharedType:
    kind = load.results[0].type
    assert isinstance(kind, SharedType)
    return kind


def readers(load: LoadShared) -> list[Operation]:
    """The ops that read what was copied, through any views of it."""
    found: list[Operation] = []
    pending = list(load.results[0].users)
    while pending:
        user = pending.pop()
        if isinstance(user, SharedView):
            pending += user.results[0].users
        else:
            found.append(user)
    return found


def holder_in(block: Block, op: Operation) -> Operation:
    """The op of `block` that is `op` or holds it."""
    while op.parent is not block:
        outer = op.parent_op
        assert outer is not None, f"{op.mnemonic} is not in the block"
        op = outer
    return op


def find_fills(
    loads: Iterable[LoadShared],
    depth: Callable[[LoadShared], int],
    is_common: Callable[[LoadShared], bool] = lambda _: False,
) -> list[Fill]:
    """Group copies of one block that have the same readers, and give each group a ring. What is
    common to a cluster and what is not are apart.

    Groups of one shape share a ring if they stand in loops (or branches) that follow each other:
    then slots are read in the order in which they are filled.
    """
    groups: dict[tuple[Block | None, frozenset[Operation], bool], list[LoadShared]] = {}
    for load in loads:
        key = load.parent, frozenset(readers(load)), is_common(load)
        groups.setdefault(key, []).append(load)
    fills: list[Fill] = []
    for group in groups.values():
        kinds, slots = tuple(map(_kind, group)), depth(group[0])
        fill = Fill(Ring(kinds, slots), group)
        for ring in dict.fromkeys(each.ring for each in fills):
            others = [each for each in fills if each.ring is ring]
            if (ring.kinds, ring.depth) == (kinds, slots) and all(_apart(fill, o) for o in others):
                fill.ring = ring
                break
        fills.append(fill)
    return fills


def _apart(one: Fill, other: Fill) -> bool:
    """Whether neither group stands in the other's block or inside it."""
    return not (_encloses(one.home, other.home) or _encloses(other.home, one.home))


def _encloses(outer: Block, inner: Block | None) -> bool:
    while inner is not None and inner is not outer:
        holder = inner.region.op if inner.region is not None else None
        inner = holder.parent if holder is not None else None
    return inner is outer


def copy(builder: Builder, fill: Fill, place: Place, buffers: Iterable[Value]) -> None:
    """Announce a fill's bytes, and start its copies into `buffers`, each taken when needed."""
    ring = fill.ring
    assert ring.full is not None
    builder.insert(MBarrierExpect(ring.full, place.index, bytes=ring.bytes, loc=builder.loc))
    for load, buffer in zip(fill.loads, buffers, strict=True):
        builder.insert(
            TmaLoad(
                load.map, load.indices, buffer=buffer, barriers=ring.full, index=place.index,
                everywhere=ring.everywhere, loc=load.loc,
            )
        )  # fmt: skip


def with_box(map: TensorMap, box: tuple[int, ...]) -> TensorMap:
    """Another map of the same tensor, behind `map`, whose copies move `box`."""
    made = TensorMap(map.descriptor, **{**map.attributes, "box": box}, loc=map.loc)
    return Builder.behind(map.result).insert(made)


def advance(builder: Builder, place: Place, depth: int) -> Place:
    """The place behind `place` in a ring of `depth` slots."""
    loc = builder.loc
    one = builder.constant(1, i32)
    flipped = builder.insert(Xor(place.phase, one, loc=loc)).result
    if depth == 1:
        return Place(place.index, flipped)
    following = builder.insert(Add(place.index, one, loc=loc)).result
    end = builder.constant(depth, i32)
    wraps = builder.insert(Compare(following, end, predicate="eq", loc=loc)).result
    zero = builder.constant(0, i32)
    index = builder.insert(Select(wraps, zero, following, loc=loc)).result
    return Place(index, builder.insert(Select(wraps, flipped, place.phase, loc=loc)).result)


class Threading:
    """Carries the places of rings through a block and everything inside it.

    `steps` says what happens at certain ops: called with the op, the ring and its place, before the
    op is looked at, it returns the ring's next place.
    """

    def __init__(self, steps: dict[Operation, list[tuple[Ring, Step]]]) -> None:
        self.steps = steps

    def run(self, block: Block, places: dict[Ring, Place]) -> dict[Ring, Place]:
        """Thread `places` through `block`; those at its end."""
        for op in list(block.ops):
            for ring, step in self.steps.get(op, ()):
                places[ring] = step(op, places[ring])
            used = self._used(op)
            if isinstance(op, For):
                places |= self._loop(op, {r: p for r, p in places.items() if r in used})
            elif isinstance(op, If):
                places |= self._branch(op, {r: p for r, p in places.items() if r in used})
            else:
                assert not used, f"no ring can be carried through {op.mnemonic}"
        return places

    def _used(self, op: Operation) -> set[Ring]:
        inner = (each for region in op.regions for each in region.walk())
        return {ring for each in inner for ring, _ in self.steps.get(each, ())}

    def _loop(self, op: For, places: dict[Ring, Place]) -> dict[Ring, Place]:
        if not places:
            return {}
        rings = list(places)
        extra = [v for r in rings for v in (places[r].index, places[r].phase)]
        loop, arguments = with_carried(op, extra)
        self._move_steps(op, loop)
        block = loop.regions[0].block
        ends = self.run(block, _places(rings, arguments))
        extend_yield(block, [v for r in rings for v in (ends[r].index, ends[r].phase)])
        return _places(rings, loop.results[-len(extra) :])

    def _branch(self, op: If, places: dict[Ring, Place]) -> dict[Ring, Place]:
        if not places:
            return {}
        rings = list(places)
        for region in op.regions:
            ends = self.run(region.block, dict(places))
            extend_yield(region.block, [v for r in rings for v in (ends[r].index, ends[r].phase)])
        extra = [i32] * (2 * len(rings))
        types = [*(r.type for r in op.results), *extra]
        made = If(op.condition, loc=op.loc, result_types=types, regions=op.regions)
        _take_over(op, made)
        self._move_steps(op, made)
        return _places(rings, made.results[-len(extra) :])

    def _move_steps(self, old: Operation, new: Operation) -> None:
        if old in self.steps:
            self.steps[new] = self.steps.pop(old)


Step = Callable[[Operation, Place], Place]


def _places(rings: Sequence[Ring], values: Sequence[Value]) -> dict[Ring, Place]:
    pairs = zip(values[::2], values[1::2], strict=True)
    return {ring: Place(*pair) for ring, pair in zip(rings, pairs, strict=True)}


def with_carried(op: For, extra: Sequence[Value]) -> tuple[For, list[Value]]:
    """The loop with further carried values, and the arguments of its body that stand for them.

    The caller has to extend the yield.
    """
    block = op.regions[0].block
    arguments: list[Value] = [block.add_argument(v.type, v.location, v.name) for v in extra]
    made = op.again((*op.initial, *extra), op.regions)
    _take_over(op, made)
    return made, arguments


def _take_over(op: Operation, made: Op) -> None:
    """Put `made`, which has the regions of `op` and further results, in its place."""
    assert op.parent is not None
    op.regions = []
    op.parent.insert(op.parent.ops.index(op), made)
    for old, new in zip(op.results, made.results, strict=False):
        new.name = old.name
        old.replace_all_uses_with(new)
    op.erase()


def extend_yield(block: Block, values: Sequence[Value]) -> None:
    """Let the block yield `values` too."""
    old = block.terminator
    made = Yield((*old.operands, *values), loc=old.loc)
    old.erase()
    block.append(made)
