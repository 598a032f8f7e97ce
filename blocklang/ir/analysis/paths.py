"""Follows every path through structured control flow, with small states that are exact.

A machine says what a state becomes at an op. Beside it go the numbers of a few scalars, those that
the machine reads (`Machine.roots`): constants, and what is computed from them and carried by loops.
All other scalars are unknown, so that branches on them are taken both ways and loops run any number
of times. A loop is followed until no new state reaches its start: that ends, because states and
numbers are few, and covers every number of iterations.

Two things are known of a loop: whether it runs at all (its bounds are numbers, or it stands under
the condition that its lower bound is below its upper one), and whether its index is still the lower
bound.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Generic, TypeVar

from blocklang.ir.compute import elementwise
from blocklang.ir.core import Argument, Block, Operation, Result, Value
from blocklang.ir.op import IRError, Op
from blocklang.ir.ops.async_copy import NextSlot
from blocklang.ir.ops.asynchronous import SharedSlot, SharedView, WarpSpecialize
from blocklang.ir.ops.control import For, If, While
from blocklang.ir.ops.elementwise import Compare, Elementwise
from blocklang.ir.ops.program import constant_value
from blocklang.ir.types import BlockType

State = TypeVar("State", bound=Hashable)
Numbers = dict[Value, int]
Pairs = Sequence[tuple[Value, Value]]

_LIMIT = 4096
"""States at the start of one loop: more means that a number grows without end."""


class Machine(Generic[State]):
    """What is checked along the paths. Methods raise an error where something is wrong."""

    def roots(self) -> Iterable[Value]:
        """The scalars, slots and views whose numbers `step` reads."""
        return ()

    def start(self) -> State:
        """The state where the paths begin."""
        raise NotImplementedError

    def is_relevant(self, op: Op) -> bool:
        """Whether the machine looks at an op at all."""
        raise NotImplementedError

    def step(self, op: Op, state: State, number: Numbers) -> State:
        """The state behind an op, which holds no other ops."""
        raise NotImplementedError

    def hand_over(self, state: State, pairs: Pairs) -> State:
        """The state when each pair's first value takes what the second one has."""
        return state

    def finish(self, op: Operation, state: State) -> None:
        """Check the state at `op`, where a path ends."""
        raise NotImplementedError


@dataclass(frozen=True)
class _Point(Generic[State]):
    """A state and the numbers that go with it."""

    state: State
    known: frozenset[tuple[Value, int]]

    @property
    def number(self) -> Numbers:
        return dict(self.known)


@dataclass
class Paths(Generic[State]):
    """Follows `machine` along all paths."""

    machine: Machine[State]
    numbers: set[Value] = field(init=False)
    plans: dict[Block, list[Op]] = field(default_factory=dict)
    reads: dict[For, set[Value]] = field(default_factory=dict)
    iterations: dict[tuple[For, _Point[State], bool], set[_Point[State]]] = field(
        default_factory=dict
    )

    def __post_init__(self) -> None:
        self.numbers = _sources(self.machine.roots())

    def run(self, block: Block) -> None:
        """Follow all paths from the start of a block to its end."""
        for point in self.block(block, {_Point(self.machine.start(), frozenset())}):
            self.machine.finish(block.terminator, point.state)

    def block(self, block: Block, points: set[_Point[State]]) -> set[_Point[State]]:
        for op in self.relevant(block):
            match op:
                case For():
                    points = self.loop(op, points)
                case If():
                    points = self.branch(op, points)
                case WarpSpecialize():
                    points = self.block(op.consumer.block, points)
                case While():
                    points = self.while_loop(op, points)
                case _:
                    points = {self.op(op, point) for point in points}
        return points

    def relevant(self, block: Block) -> list[Op]:
        """The ops of a block that matter, found once."""
        found = self.plans.get(block)
        if found is None:
            found = [op for op in block.ops if isinstance(op, Op) and self.matters(op)]
            self.plans[block] = found
        return found

    def matters(self, op: Op) -> bool:
        if isinstance(op, For | If | While | WarpSpecialize):
            return self.is_inside(op)
        return self.machine.is_relevant(op) or any(result in self.numbers for result in op.results)

    def is_inside(self, op: Operation) -> bool:
        """Whether an op with regions holds, or yields, something that matters."""
        if any(result in self.numbers for result in op.results):
            return True
        inner = (each for region in op.regions for each in region.walk())
        return any(isinstance(each, Op) and self.machine.is_relevant(each) for each in inner)

    def op(self, op: Op, point: _Point[State]) -> _Point[State]:
        known, number = point.known, point.number
        if len(op.results) == 1 and op.results[0] in self.numbers:
            found = _compute(op, number)
            if found is not None:
                known |= {(op.results[0], found)}
        if not self.machine.is_relevant(op):
            return _Point(point.state, known)
        return _Point(self.machine.step(op, point.state, number), known)

    def branch(self, op: If, points: set[_Point[State]]) -> set[_Point[State]]:
        ends: set[_Point[State]] = set()
        for point in points:
            condition = number_of(op.condition, point.number)
            for chosen, region in zip((1, 0), op.regions, strict=True):
                if condition is not None and condition != chosen:
                    continue
                pairs = _pairs(op.results, region.block.terminator.operands)
                for end in self.block(region.block, {point}):
                    ends.add(self.handed(end, pairs, point))
        return ends

    def loop(self, op: For, points: set[_Point[State]]) -> set[_Point[State]]:
        arguments = op.regions[0].block.arguments[1:]
        ends: set[_Point[State]] = set()
        for outside in points:
            seen_outside = self.seen_inside(op, outside)
            first = self.handed(outside, _pairs(arguments, op.initial), seen_outside)
            pending = [(first, True)]
            seen = set(pending)
            while pending:
                head, is_first = pending.pop()
                if not (is_first and always_runs(op)):
                    ends.add(self.handed(head, _pairs(op.results, arguments), outside))
                new = {(point, False) for point in self.iteration(op, head, is_first, seen_outside)}
                pending += new - seen
                seen |= new
                if len(seen) > _LIMIT:
                    raise IRError("what runs beside the threads takes too many states in a loop")
        return ends

    def iteration(
        self, op: For, head: _Point[State], is_first: bool, outside: _Point[State]
    ) -> set[_Point[State]]:
        """Where the next iteration can start, if this one starts at `head`. Loops around this one
        come back to the same points: they are followed once.
        """
        found = self.iterations.get((op, head, is_first))
        if found is None:
            block = op.regions[0].block
            index, *arguments = block.arguments
            # The index has a number only as its distance from the lower bound: none, or some.
            place = {(index, 0 if is_first else 1)} if index in self.numbers else set()
            ends = self.block(block, {_Point(head.state, head.known | place)})
            pairs = _pairs(arguments, block.terminator.operands)
            found = {self.handed(end, pairs, outside) for end in ends}
            self.iterations[op, head, is_first] = found
        return found

    def while_loop(self, op: While, points: set[_Point[State]]) -> set[_Point[State]]:
        before, body = op.before.block, op.body.block
        values = before.terminator.operands[1:]
        ends: set[_Point[State]] = set()
        for outside in points:
            pending = [self.handed(outside, _pairs(before.arguments, op.initial), outside)]
            seen = set(pending)
            while pending:
                tested = self.block(before, {pending.pop()})
                ends |= {self.handed(p, _pairs(op.results, values), outside) for p in tested}
                starts = {self.handed(p, _pairs(body.arguments, values), outside) for p in tested}
                pairs = _pairs(before.arguments, body.terminator.operands)
                new = {self.handed(p, pairs, outside) for p in self.block(body, starts)} - seen
                pending += new
                seen |= new
                if len(seen) > _LIMIT:
                    raise IRError("what runs beside the threads takes too many states in a loop")
        return ends

    def seen_inside(self, op: For, outside: _Point[State]) -> _Point[State]:
        """The point with only those numbers that the loop's body reads."""
        read = self.reads.get(op)
        if read is None:
            read = {value for inner in op.walk() for value in inner.operands}
            self.reads[op] = read
        return _Point(outside.state, frozenset(each for each in outside.known if each[0] in read))

    def handed(self, point: _Point[State], pairs: Pairs, outside: _Point[State]) -> _Point[State]:
        """The point with `pairs` handed over, which knows nothing else that `outside` does not."""
        number = point.number
        kept = {
            (to, found)
            for to, source in pairs
            if to in self.numbers and (found := number_of(source, number)) is not None
        }
        return _Point(self.machine.hand_over(point.state, pairs), outside.known | kept)


def _pairs(targets: Sequence[Value], sources: Sequence[Value]) -> Pairs:
    return list(zip(targets, sources, strict=True))


def number_of(value: Value | None, known: Numbers) -> int | None:
    """The number of a scalar, if it is known."""
    if value is None:
        return None
    found = known.get(value)
    if found is None and not isinstance(value.type, BlockType):
        constant = constant_value(value)
        return int(constant) if isinstance(constant, int | bool) else None
    return found


def _compute(op: Op, known: Numbers) -> int | None:
    """The number of an op's result. That of a slot, or of a view of one, is its index."""
    if isinstance(op, SharedSlot):
        return number_of(op.index, known)
    if isinstance(op, SharedView):
        return number_of(op.buffer, known)
    if isinstance(op, NextSlot):
        index = number_of(op.index, known)
        return None if index is None else (index + op.by) % op.depth
    if isinstance(op, Compare) and (loop := compared_index(op)) is not None:
        return _compare_with_lower(op, loop, known)
    if not isinstance(op, Elementwise) or any(map(_is_index, op.operands)):
        return None
    operands = [number_of(value, known) for value in op.operands]
    return None if None in operands else _computed(op, tuple(operands))


@lru_cache(maxsize=1024)
def _computed(op: Elementwise, operands: tuple[int | None, ...]) -> int:
    return int(elementwise(op, operands))


def _is_index(value: Value) -> bool:
    if not isinstance(value, Argument) or value.index != 0 or value.block.region is None:
        return False
    return isinstance(value.block.region.op, For)


def compared_index(op: Compare) -> For | None:
    """The loop whose index is compared with its own lower bound."""
    for value, other in ((op.left, op.right), (op.right, op.left)):
        if isinstance(value, Argument) and _is_index(value):
            assert value.block.region is not None
            loop = value.block.region.op
            assert isinstance(loop, For)
            if same_scalar(loop.lower, other):
                return loop
    return None


def _compare_with_lower(op: Compare, loop: For, known: Numbers) -> int | None:
    distance = known.get(loop.regions[0].block.arguments[0])
    if distance is None:
        return None
    sides = (distance, 0) if _is_index(op.left) else (0, distance)
    return int(bool(Compare.evaluate(*sides, op.predicate)))


def same_scalar(one: Value, other: Value) -> bool:
    """Whether two values are one, or equal constants."""
    if one is other:
        return True
    known = constant_value(one)
    return known is not None and known == constant_value(other)


def always_runs(op: For) -> bool:
    """Whether a loop runs at least once, wherever control reaches it."""
    low, high = constant_value(op.lower), constant_value(op.upper)
    if low is not None and high is not None:
        return low < high
    return any(
        same_scalar(lower, op.lower) and same_scalar(upper, op.upper)
        for lower, upper in conditions_around(op)
    )


def conditions_around(op: Operation) -> list[tuple[Value, Value]]:
    """Pairs of scalars of which the first is below the second where an op stands."""
    found: list[tuple[Value, Value]] = []
    block, holder = op.parent, op.parent_op
    while holder is not None:
        if isinstance(holder, If) and block is holder.then.block:
            pair = below(holder.condition)
            if pair is not None:
                found.append(pair)
        block, holder = holder.parent, holder.parent_op
    return found


def below(condition: Value) -> tuple[Value, Value] | None:
    """The scalars of which a condition says that the first is below the second."""
    op = condition.op if isinstance(condition, Result) else None
    if not isinstance(op, Compare):
        return None
    if op.predicate == "lt":
        return op.left, op.right
    return (op.right, op.left) if op.predicate == "gt" else None


def _sources(roots: Iterable[Value]) -> set[Value]:
    """The scalars, slots and views from which `roots` may be computed."""
    found: set[Value] = set()
    pending = list(roots)
    while pending:
        value = pending.pop()
        if value in found or isinstance(value.type, BlockType):
            continue
        found.add(value)
        if isinstance(value, Argument):
            region = value.block.region
            loop = region.op if region is not None else None
            if isinstance(loop, For) and value.index:
                pending.append(loop.initial[value.index - 1])
                pending.append(value.block.terminator.operands[value.index - 1])
            elif isinstance(loop, While):
                tested = loop.before.block.terminator.operands[1:]
                again = loop.body.block.terminator.operands
                is_first = value.block is loop.before.block
                sources = (loop.initial, again) if is_first else (tested,)
                pending += [each[value.index] for each in sources]
            continue
        assert isinstance(value, Result)
        op = value.op
        if isinstance(op, For | If):
            pending += [r.block.terminator.operands[value.index] for r in op.regions]
            pending += [op.initial[value.index]] if isinstance(op, For) else []
        elif isinstance(op, While):
            pending.append(op.before.block.terminator.operands[1 + value.index])
        elif isinstance(op, Elementwise | SharedSlot | SharedView | NextSlot):
            pending += op.operands
    return found
