"""Loop nests: loops over the chunks of a shape, and what happens in each chunk.

Loops over the other dimensions stand outside of the loop over chunks; the axis of a reduction that
is not the vector dimension stands inside, so that its accumulators stay in registers. Where masks
of the form `index < bound` hold for all of a chunk's elements, they cost nothing: the chunks below
every bound have a loop of their own. In a chunk everything is read and computed first, then
stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from blocklang.codegen.targets import CpuTarget
from blocklang.ir.core import Result, Value
from blocklang.ir.op import Op
from blocklang.ir.ops.elementwise import Compare
from blocklang.ir.ops.memory import AtomicRMW, Store
from blocklang.ir.ops.reduce import Reduce
from blocklang.ir.types import DType, element_type

from .atomics import atomic
from .emitter import Coordinate, CpuEmitter, Lanes
from .guards import emit_guards
from .memory import store_buffer
from .places import ZERO, Place
from .plan import Action, Buffer, Evaluate, Execute, Nest
from .reduce import Reduction

Key = tuple[Value, tuple[int, ...]]


def emit_nest(e: CpuEmitter, nest: Nest) -> None:
    """The code of a nest."""
    e.reads, e.work, e.memo = nest.reads, nest.work, {}
    if not nest.shape:
        for action in nest.actions:
            assert isinstance(action, Execute)
            e.place = ()
            e.scalar_op(action.op)
        return
    reductions: dict[Op, Reduction] = {
        a.op: Reduction(e, a.op, _widths(e.cpu, nest))
        for a in nest.actions
        if isinstance(a, Execute) and isinstance(a.op, Reduce)
    }
    if nest.guards:
        meets, after = e.new_label("staged"), e.new_label("done")
        apart = e.new_label("fused")
        condition = emit_guards(e, nest)
        e.line(f"br i1 {condition}, label %{apart}, label %{meets}")
        e.label(meets)
        _emit_passes(e, nest, reductions, nest.stores, is_rare=True)
        e.line(f"br label %{after}")
        e.label(apart)
        _emit_passes(e, nest, reductions, nest.staged)
        e.jump(after)
    else:
        _emit_passes(e, nest, reductions, nest.staged)
    for reduction in reductions.values():
        reduction.bind_scalars()


def _emit_passes(
    e: CpuEmitter,
    nest: Nest,
    reductions: dict[Op, Reduction],
    staged: Sequence[Store],
    is_rare: bool = False,
) -> None:
    """Everything but the staged stores, then these one by one; short code if that is rare."""
    actions: list[Action] = [
        a for a in nest.actions if not (isinstance(a, Execute) and a.op in staged)
    ]
    needed = {v for store in staged for v in store.operands}
    kept = {v: b for v, b in nest.kept.items() if v in needed}
    actions += [Evaluate(v, -1, b) for v, b in kept.items()]
    e.reads = nest.reads
    _Loops(e, nest, actions, reductions, is_rare).emit()
    e.reads = {**nest.reads, **kept}
    for store in staged:
        _Loops(e, nest, [Execute(store, 0)], {}, is_rare).emit()


def _widths(target: CpuTarget, nest: Nest) -> list[int]:
    """The widths of a nest's chunks: of all, and of the last one if it is shorter."""
    extent = nest.shape[nest.vector]
    width = max(1, min(extent, target.vector_bits * target.unroll // nest.bits))
    return [width] if extent % width == 0 else [width, extent % width]


@dataclass
class _Loops:
    """One pass of a nest."""

    e: CpuEmitter
    nest: Nest
    actions: list[Action]
    reductions: dict[Op, Reduction]
    is_rare: bool

    def emit(self) -> None:
        if not self.actions:
            return
        nest, e = self.nest, self.e
        self.widths = _widths(e.cpu, nest)
        is_inner = nest.axis is not None and nest.axis != nest.vector and bool(self.reductions)
        self.inner = nest.axis if is_inner else None
        self.at: dict[int, Coordinate] = {}
        with ExitStack() as loops:
            for dimension, extent in enumerate(nest.shape):
                if extent > 1 and dimension not in (nest.vector, self.inner):
                    index = loops.enter_context(e.loop("0", str(extent), 1))
                    self.at[dimension] = Coordinate(dimension, index, 0)
            self._row()

    def _row(self) -> None:
        """All chunks along the vector dimension."""
        e, width = self.e, self.widths[0]
        main = self.nest.shape[self.nest.vector] // width * width
        if self.inner is None:
            for reduction in self.reductions.values():
                reduction.begin(self.widths)
        for start, stop, true in self._segments(main, width):
            e.true = true
            if main == width:
                self._column("0", width)
            else:
                with e.loop(start, stop, width) as base:
                    self._column(base, width)
        e.true = frozenset()
        for rest in self.widths[1:]:
            self._column(str(main), rest)
        if self.inner is None:
            for reduction in self.reductions.values():
                reduction.end_across(self.widths, self._place(reduction.op))

    def _column(self, base: str, width: int) -> None:
        """One chunk, or the chunks of one column along the axis of the reductions."""
        e, vector = self.e, self.nest.vector
        e.width, e.memo = width, {}
        self.at.pop(vector, None)
        if self.nest.shape[vector] > 1:
            self.at[vector] = Coordinate(vector, base, int(width > 1))
        if self.inner is None:
            is_first = "true" if base == "0" or width != self.widths[0] else ""
            self._chunk(is_first or e.emit(f"icmp eq i64 {base}, 0"))
            return
        for reduction in self.reductions.values():
            reduction.begin([width])
        if self.nest.shape[self.inner] == 1:
            self._chunk("true")
        else:
            with e.loop("0", str(self.nest.shape[self.inner]), 1) as index:
                e.memo = {}
                self.at[self.inner] = Coordinate(self.inner, index, 0)
                self._chunk(e.emit(f"icmp eq i64 {index}, 0"))
        for reduction in self.reductions.values():
            reduction.end_along(self._place(reduction.op))

    def _chunk(self, is_first: str) -> None:
        e = self.e
        place = self._place()
        pending: list[tuple[Buffer, Value, Lanes]] = []
        stores: list[Store] = []
        for action in self.actions:
            if isinstance(action, Evaluate):
                lanes = e.evaluate(action.value, place)
                if action.buffer is not None:
                    pending.append((action.buffer, action.value, lanes))
                continue
            e.place = place
            if isinstance(action.op, Reduce):
                self.reductions[action.op].accumulate(place, is_first)
            elif isinstance(action.op, Store):
                stores.append(action.op)
            else:
                self._effect(action.op, place, pending)
        for store in stores:
            for value in store.operands:
                e.evaluate(value, place)
        e.place = place
        for store in stores:
            e.op(store)
        for buffer, value, lanes in pending:
            store_buffer(e, buffer, value.type, place, lanes)

    def _effect(self, op: Op, place: Place, pending: list[tuple[Buffer, Value, Lanes]]) -> None:
        """An atomic or an assertion."""
        if not isinstance(op, AtomicRMW):
            self.e.op(op)
            return
        lanes = atomic(self.e, op)
        if op.result.uses:
            pending.append((self.e.buffers[op.result], op.result, lanes))

    def _place(self, reduced: Op | None = None) -> Place:
        """The place of the present chunk, without the axis of a reduction where one is given."""
        place = [self.at.get(d, ZERO) for d in range(len(self.nest.shape))]
        if isinstance(reduced, Reduce):
            del place[reduced.axis]
        return tuple(place)

    # ------------------------------------------------------------ bounds

    def _segments(self, main: int, width: int) -> Iterator[tuple[str, str, frozenset[Key]]]:
        """The loops over whole chunks: from, to, and which comparisons hold throughout."""
        bounds = list(self._bounds()) if main > width and not self.is_rare else []
        if not bounds:
            yield "0", str(main), frozenset()
            return
        e = self.e
        full = str(main)
        for compare, place in bounds:
            limit = self._limit(compare, place)
            full = e.emit(f"call i64 @llvm.smin.i64(i64 {full}, i64 {limit})")
        full = e.emit(f"call i64 @llvm.smax.i64(i64 {full}, i64 0)")
        chunks = e.emit(f"udiv i64 {full}, {width}")
        full = e.emit(f"mul nuw nsw i64 {chunks}, {width}")
        yield "0", full, frozenset((c, _key(place)) for c, place in bounds)
        yield full, str(main), frozenset()

    def _bounds(self) -> Iterator[tuple[Result, Place]]:
        """Comparisons that hold exactly for the first indices along the vector dimension."""
        vector = self.nest.vector
        for value, place in self.nest.seen:
            if not isinstance(value, Result) or not isinstance(value.op, Compare):
                continue
            kind = element_type(value.op.left.type)
            is_index = isinstance(kind, DType) and kind.kind == "int" and kind.bits >= 32
            if not is_index or value in self.e.reads or place.count(vector) != 1:
                continue
            if self.inner is not None and self.inner in place:
                continue
            own = place.index(vector)
            along = [self.e.strides.of(v)[own] for v in value.op.operands]
            rising = ([1, 0], ("lt", "le")), ([0, 1], ("gt", "ge"))
            if any(along == s and value.op.predicate in p for s, p in rising):
                yield value, place

    def _limit(self, compare: Result, place: Place) -> str:
        """How many indices from 0 on satisfy a comparison (an i64, any sign)."""
        e, op, vector = self.e, compare.op, self.nest.vector
        assert isinstance(op, Compare)
        e.memo = {}
        at = {**self.at, vector: Coordinate(vector, "0", 0)}
        here = tuple(ZERO if c is ZERO else at[c] for c in place)
        kind = e.scalar_type(op.left.type)
        ends = [e.evaluate(v, here).text for v in op.operands]
        if kind != "i64":
            ends = [e.emit(f"sext {kind} {text} to i64") for text in ends]
        if op.predicate in ("gt", "ge"):
            ends.reverse()
        limit = e.emit(f"sub i64 {ends[1]}, {ends[0]}")
        is_strict = op.predicate in ("lt", "gt")
        return limit if is_strict else e.emit(f"add i64 {limit}, 1")


def _key(place: Place) -> tuple[int, ...]:
    return tuple(-1 if c is ZERO else c for c in place)
