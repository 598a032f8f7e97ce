"""pipeline-loads: what a loop loads for its products is copied to shared memory ahead of time.

Of a loop whose body loads blocks that reach products (through conversions, casts and moves), each
such load becomes an asynchronous copy to one of `num_stages` slots, started `num_stages - 1`
iterations before its reader:

    for i:                              copies for iterations 0 .. n-2, each a group
      x = load p                        for i, with the slot of iteration i and what p is made of,
      y = convert_layout x      ->          both as iteration i + n - 1 needs it:
      dot y ...                           wait for all but the last n - 2 groups; barrier
      p = p + step                        copy to the slot that iteration i - 1 has read; close the
                                          group
                                          y = shared_load of the slot; dot y ...
                                        wait for all groups

A warpgroup may still read its slot in the next iteration, which `overlap-dots` decides later: with
a factor for one, copies run one iteration less ahead, if there are more than two slots. They are
made visible to it before the barrier, and started behind the first product, which need not wait.

Addresses and masks are computed by copies of the ops that made them, which must be free of effects
and products; loop-carried values among them are carried a second time, n - 1 steps ahead. Copies
for iterations that do not come write zeros. Loads whose pieces have less than 4 bytes stay as they
are, and so do loops that write to memory, unless their author wished for stages: what is loaded
early might be what they write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from blocklang.ir.analysis.axis import AxisAnalysis, analyze_axes
from blocklang.ir.builder import Builder
from blocklang.ir.core import Argument, Function, Module, Operation, Result, Value, clone
from blocklang.ir.layout import LinearLayout, best_shared, conversion, copied_elements
from blocklang.ir.op import Effect, Op
from blocklang.ir.ops.async_copy import AsyncCommit, AsyncCopy, AsyncWait, NextSlot
from blocklang.ir.ops.asynchronous import FenceAsync, LoadShared, SharedSlot, SharedView, ToShared
from blocklang.ir.ops.control import For, Yield
from blocklang.ir.ops.dot import Dot
from blocklang.ir.ops.elementwise import Add, And, Cast, Compare, Multiply
from blocklang.ir.ops.memory import Load
from blocklang.ir.ops.program import Constant, is_constant
from blocklang.ir.ops.shape import ConvertLayout, Permute
from blocklang.ir.ops.shared import Barrier, SharedAlloc, SharedLoad
from blocklang.ir.types import BlockType, DType, SharedType, element_type, i1, i32, i64, shape_of

from ._pending import warpgroup_dots
from ._room import SPARE, buffer_bytes, conversion_bytes
from .lower_conversions import shared_vector
from .manager import Pass
from .map_dot import feeds_product
from .vectorize import vector_width

LEAST_BYTES = 4
DEFAULT_STAGES = 3


@dataclass(frozen=True)
class PipelineLoads(Pass):
    """Copy what loops load for products ahead of time, with no more slots than a program's `limit`
    of shared memory allows (0: any number of bytes).
    """

    limit: int = 0
    name: ClassVar[str] = "pipeline-loads"

    def _run(self, module: Module) -> None:
        for function in module.functions.values():
            loops = [op for op in function.walk() if isinstance(op, For) and _loads_factors(op)]
            if not loops:
                continue
            axes = analyze_axes(function)
            free = self.limit - buffer_bytes(function.walk()) - SPARE
            taken: dict[Operation, int] = {}
            for loop in loops:
                depth = loop.num_stages or _stages(function)
                copies = _copies(loop, axes) if depth > 1 and _may_load_early(loop) else []
                if copies and self.limit:
                    # Loops that follow each other have their slots in the same bytes.
                    around = sum(taken.get(holder, 0) for holder in loop.holders)
                    inside = _moved_through(loop, copies)
                    depth = min(depth, _deepest(copies, free - around - inside))
                if copies and depth > 1:
                    made = _Pipeline(loop, depth, copies).build()
                    taken[made] = depth * sum(copy.slot.bytes for copy in copies)


def _deepest(copies: list[_Copy], free: int) -> int:
    """How many slots there is room for, if nothing else keeps what is copied."""
    kept = {keeper: None for copy in copies for keeper, _ in _kept(copy.load.results[0])}
    return (free + buffer_bytes(kept)) // sum(copy.slot.bytes for copy in copies)


def _moved_through(loop: For, copies: list[_Copy]) -> int:
    """Bytes of shared memory for other conversions in a loop, one after the other."""
    ours = {copy.load.results[0] for copy in copies}
    others = (
        op for op in loop.walk() if not (isinstance(op, ConvertLayout) and op.operand in ours)
    )
    return conversion_bytes(others)


def _stages(function: Function) -> int:
    return int(function.attributes.get("num_stages", DEFAULT_STAGES))


def _loads_factors(loop: For) -> bool:
    return any(isinstance(op, Load) and feeds_product(op.results[0]) for op in loop.body.block.ops)


def _may_load_early(loop: For) -> bool:
    """Whether loads of later iterations may come before what this one does."""
    effects = Effect.NONE
    for op in loop.body.walk():
        assert isinstance(op, Op)
        if isinstance(op, LoadShared):
            # Other copies bring the factors.
            return False
        effects |= op.effects
    forbidden = Effect.SYNCHRONIZE | (Effect.NONE if loop.num_stages else Effect.WRITE)
    return not effects & forbidden


# ---------------------------------------------------------------- what can be copied


@dataclass
class _Slice:
    """The ops of a loop's body of which values are made, and the carried values among these."""

    ops: set[Operation] = field(default_factory=set)
    carried: set[int] = field(default_factory=set)


@dataclass
class _Copy:
    """A load to be replaced, its slice, and the type of one slot."""

    load: Load
    needs: _Slice
    slot: SharedType
    vector: int


def _copies(loop: For, axes: AxisAnalysis) -> list[_Copy]:
    found = (_copy(op, loop, axes) for op in loop.body.block.ops if isinstance(op, Load))
    return [copy for copy in found if copy is not None]


def _copy(op: Load, loop: For, axes: AxisAnalysis) -> _Copy | None:
    block = op.results[0].type
    if not isinstance(block, BlockType) or not isinstance(block.element, DType):
        return None
    if op.volatile or op.cache == "cv" or not feeds_product(op.results[0]):
        return None
    if op.other is not None and not is_constant(op.other, 0):
        return None
    assert block.layout is not None
    vector = vector_width(op, axes)
    layout = _slot_layout(op.results[0], block.layout, vector)
    if layout is None:
        return None
    vector = min(vector, copied_elements(block.layout, layout))
    needs = _slice([v for v in (op.pointer, op.mask) if v is not None], loop)
    if needs is None or vector * block.element.bytes < LEAST_BYTES:
        return None
    return _Copy(op, needs, SharedType(block.shape, block.element, layout), vector)


def _slot_layout(loaded: Value, layout: LinearLayout, vector: int) -> LinearLayout | None:
    """The layout in shared memory that the users of what is loaded want; None if they need none."""
    kind = element_type(loaded.type)
    assert isinstance(kind, DType)
    for keeper, order in _kept(loaded):
        kept = keeper.results[0].type
        assert isinstance(kept, SharedType)
        return kept.layout.permute(sorted(range(len(order)), key=lambda axis: order[axis]))
    for user in loaded.users:
        target = user.results[0].type if isinstance(user, ConvertLayout) else None
        if isinstance(target, BlockType) and target.layout is not None:
            if vector * kind.bytes < LEAST_BYTES:
                return None
            if conversion(layout, target.layout).kind == "shared":
                return best_shared(layout, target.layout, kind.bits, copied=vector)
    return None


def _kept(loaded: Value) -> list[tuple[ToShared, tuple[int, ...]]]:
    """The ops that keep what is loaded in shared memory, perhaps with its axes in another order."""
    found: list[tuple[ToShared, tuple[int, ...]]] = []
    pending = [(loaded, tuple(range(len(shape_of(loaded.type)))))]
    while pending:
        value, order = pending.pop()
        for user in value.users:
            if isinstance(user, ToShared):
                found.append((user, order))
            elif isinstance(user, Permute):
                pending.append((user.results[0], tuple(order[axis] for axis in user.order)))
    return found


def _slice(values: Sequence[Value], loop: For) -> _Slice | None:
    """What `values` are made of inside the loop; None if it cannot be computed ahead."""
    block = loop.body.block
    found = _Slice()
    pending = list(values)
    while pending:
        value = pending.pop()
        if isinstance(value, Argument):
            position = value.index - 1
            if value.block is block and position >= 0 and position not in found.carried:
                found.carried.add(position)
                pending.append(block.terminator.operands[position])
        elif isinstance(value, Result) and value.op.parent is block and value.op not in found.ops:
            op = value.op
            assert isinstance(op, Op)
            if not op.is_pure or op.regions or isinstance(op, Dot | ConvertLayout):
                return None
            found.ops.add(op)
            pending += op.operands
    return found


# ---------------------------------------------------------------- the new loop


class _Pipeline:
    """One loop that is being rewritten."""

    def __init__(self, loop: For, depth: int, copies: list[_Copy]) -> None:
        self.loop, self.depth, self.copies = loop, depth, copies
        self.has_warpgroups = any(_kept(copy.load.results[0]) for copy in copies)
        # Of two slots one is read and one is filled: products must be done where they are read.
        self.ahead = max(depth - 1 - self.has_warpgroups, 1)
        self.block = loop.body.block
        # Ops of the slices in the order of the text, and carried positions, in order.
        ops = set().union(*(copy.needs.ops for copy in copies))
        self.ops = [op for op in self.block.ops if op in ops]
        self.carried = sorted(set().union(*(copy.needs.carried for copy in copies)))

    def build(self) -> For:
        """Rewrite the loop; the new one."""
        loop, before = self.loop, Builder.before(self.loop)
        self.buffers = [
            before.insert(
                SharedAlloc(loc=copy.load.loc, result_types=[replace(copy.slot, depth=self.depth)])
            ).result
            for copy in self.copies
        ]
        ahead = [loop.initial[position] for position in self.carried]
        for number in range(self.ahead):
            ahead = self.copy_ahead(before, loop.lower, ahead, number, before.constant(number, i32))
        made = self.extended([before.constant(0, i32), *ahead])
        self.rewrite_body(made)
        assert made.parent is not None
        behind = Builder(made.parent, made.parent.ops.index(made) + 1, loop.loc)
        behind.insert(AsyncWait(groups=0, loc=loop.loc))
        return made

    def copy_ahead(
        self, builder: Builder, index: Value, ahead: Sequence[Value], steps: int, slot: Value
    ) -> list[Value]:
        """Start the copies for the iteration `steps` after that of `index`, and close the group;
        `ahead` are the carried values there. The carried values one step further.
        """
        mapping: dict[Value, Value] = {self.block.arguments[0]: self._index(builder, index, steps)}
        for position, value in zip(self.carried, ahead, strict=True):
            mapping[self.block.arguments[position + 1]] = value
        for op in self.ops:
            builder.insert(clone(op, mapping))
        comes = self._comes(builder, index, steps)
        for copy, buffer in zip(self.copies, self.buffers, strict=True):
            with builder.at(copy.load.loc):
                self._start(builder, copy, buffer, slot, mapping, comes)
        builder.insert(AsyncCommit(loc=builder.loc))
        leaving = [self.block.terminator.operands[position] for position in self.carried]
        return [mapping.get(value, value) for value in leaving]

    def _start(
        self, builder: Builder, copy: _Copy, buffer: Value, slot: Value,
        mapping: dict[Value, Value], comes: Value,
    ) -> None:  # fmt: skip
        load, loc = copy.load, builder.loc
        pointer = mapping.get(load.pointer, load.pointer)
        assert isinstance(pointer.type, BlockType)
        mask = builder.splat(comes, replace(pointer.type, element=i1))
        if load.mask is not None:
            mask = builder.insert(And(mapping.get(load.mask, load.mask), mask, loc=loc)).results[0]
            mask.type = replace(pointer.type, element=i1)
        place = builder.insert(SharedSlot(buffer, slot, loc=loc)).result
        builder.insert(AsyncCopy(pointer, mask, vector=copy.vector, buffer=place, loc=loc))

    def _index(self, builder: Builder, index: Value, steps: int) -> Value:
        """The index `steps` iterations later."""
        if steps == 0:
            return index
        distance = self._distance(builder, self.loop.step, steps)
        return builder.insert(Add(index, distance, loc=builder.loc)).results[0]

    def _distance(self, builder: Builder, step: Value, steps: int) -> Value:
        factor = builder.constant(steps, step.type)
        return builder.insert(Multiply(step, factor, loc=builder.loc)).results[0]

    def _comes(self, builder: Builder, index: Value, steps: int) -> Value:
        """Whether there is an iteration `steps` after that of `index`; in 64 bits, where the index
        beyond the last one does not wrap around.
        """
        kind = index.type
        assert isinstance(kind, DType)
        wide = i64 if kind.bits < 64 else kind
        index, upper, step = (
            v if v.type == wide else self._cast(builder, v, wide)
            for v in (index, self.loop.upper, self.loop.step)
        )
        if steps:
            distance = self._distance(builder, step, steps)
            index = builder.insert(Add(index, distance, loc=builder.loc)).results[0]
        return builder.insert(Compare(index, upper, predicate="lt", loc=builder.loc)).results[0]

    def _cast(self, builder: Builder, value: Value, kind: DType) -> Value:
        if isinstance(value.owner, Constant):
            return builder.constant(value.owner.value, kind)
        return builder.insert(Cast(value, loc=builder.loc, result_types=[kind])).results[0]

    def extended(self, extra: Sequence[Value]) -> For:
        """The loop with `extra` carried values, which its body does not yield yet."""
        loop = self.loop
        builder = Builder.before(loop)
        for value in extra:
            self.block.add_argument(value.type, loop.loc, value.name)
        initial = (*loop.initial, *extra)
        regions, loop.regions = loop.regions, []
        made = For(
            loop.lower, loop.upper, loop.step, initial, loc=loop.loc,
            result_types=[v.type for v in initial], regions=regions,
        )  # fmt: skip
        made.attributes.update(loop.attributes)
        builder.insert(made)
        for old, new in zip(loop.results, made.results, strict=False):
            new.name = old.name
        loop.replace_with(made.results[: len(loop.results)])
        return made

    def rewrite_body(self, made: For) -> None:
        """Waits and copies first; loads from the slot instead of loads from memory."""
        block, loc = self.block, made.loc
        first = len(block.arguments) - 1 - len(self.carried)
        slot, ahead = block.arguments[first], block.arguments[first + 1 :]
        self.loop = made
        builder = Builder(block, 0, loc)
        builder.insert(AsyncWait(groups=self.ahead - 1, loc=loc))
        if self.has_warpgroups:
            builder.insert(FenceAsync(loc=loc))
        builder.insert(Barrier(loc=loc))
        products = warpgroup_dots(block.ops)
        if products:
            # Products do not wait until the copies are started.
            builder = Builder(block, block.ops.index(products[0]) + 1, loc)
        free = builder.insert(NextSlot(slot, self.depth, self.ahead, loc=loc)).result
        index = block.arguments[0]
        following = self.copy_ahead(builder, index, ahead, self.ahead, free)
        for copy, buffer in zip(self.copies, self.buffers, strict=True):
            _read(copy, buffer, slot)
        terminator = block.terminator
        builder = Builder.before(terminator)
        later = builder.insert(NextSlot(slot, self.depth, loc=loc)).result
        values = (*terminator.operands, later, *following)
        builder.insert(Yield(values, loc=terminator.loc))
        terminator.erase()


def _read(copy: _Copy, buffer: Value, slot: Value) -> None:
    """Replace a load, and the conversions of what it loads, by loads from its slot."""
    load = copy.load
    result = load.results[0]
    builder = Builder.before(load)
    place = builder.insert(SharedSlot(buffer, slot, loc=load.loc)).result
    for keeper, order in _kept(result):
        seen = _seen_by(keeper, order, place)
        if seen is not None:
            keeper.replace_with([seen])
    _drop_moves(result)
    for user in list(result.users):
        if isinstance(user, ConvertLayout):
            user.replace_with([_shared_load(Builder.before(user), place, user.results[0])])
    if result.uses:
        result.replace_all_uses_with(_shared_load(builder, place, result))
    load.erase()


def _seen_by(keeper: ToShared, order: tuple[int, ...], place: Value) -> Value | None:
    """The slot `place` with its axes in `order`, if that is what `keeper` would have made."""
    kind, own = keeper.results[0].type, place.type
    assert isinstance(kind, SharedType)
    assert isinstance(own, SharedType)
    if kind == own:
        return place
    if own.layout.permute(order) != kind.layout:
        return None
    view = SharedView(place, loc=keeper.loc, result_types=[kind])
    return Builder.before(keeper).insert(view).result


def _drop_moves(value: Value) -> None:
    """Erase the permutations of a value that nobody needs any more."""
    for user in list(value.users):
        if isinstance(user, Permute):
            _drop_moves(user.results[0])
            if not user.results[0].uses:
                user.erase()


def _shared_load(builder: Builder, place: Value, value: Value) -> Value:
    kind, buffer = value.type, place.type
    assert isinstance(kind, BlockType)
    assert isinstance(buffer, SharedType)
    assert kind.layout is not None
    vector = shared_vector(kind.layout, buffer.layout, buffer.element)
    made = builder.insert(SharedLoad(place, vector=vector, loc=builder.loc, result_types=[kind]))
    made.result.name = value.name
    return made.result
