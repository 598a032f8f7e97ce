"""Whether a producer and a consumer go around their rings in one order, equally often, and never
wait for each other.

Both sides become trees of loops, branches and events: a slot is filled, taken, given back. Loops
are known by their bounds and branches by their conditions, which are compared as expressions of
what both sides can compute (`Expressions`).

- For each ring the trees of fills and takes must be one. A loop of which the consumer does some
  iteration's events before or behind, under the condition that it runs at all, counts as whole.
- The two sides are then run against each other with loops of 0, 1, 2 and more iterations than the
  deepest ring has phases. Rings have no other state than these counts, so that a circle of waits
  shows in that many; still this part is a search, not a proof for every number of iterations.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from blocklang.ir.core import Argument, Block, Operation, Result, Value
from blocklang.ir.op import Effect, IRError, Op
from blocklang.ir.ops.control import For, If
from blocklang.ir.ops.elementwise import Add, Compare
from blocklang.ir.ops.program import Constant, constant_value

from .paths import below, compared_index, conditions_around, same_scalar

_MOST_EVENTS = 2000
"""Of one run: a longer one has repeated itself."""


@dataclass(frozen=True)
class Event:
    """A slot of ring number `ring` is filled, taken or given back: `kind` is fill, take or give.
    With `loop` it happens in all iterations of that loop but the first.
    """

    kind: str
    ring: int
    loop: For | None = None


@dataclass(frozen=True)
class Loop:
    """`trips` is absent where bounds are no constants; `is_later` says that the iteration at the
    lower bound is not among the loop's.
    """

    op: For
    key: int
    trips: int | None
    is_later: bool
    body: Tree


@dataclass(frozen=True)
class Branch:
    """With `runs` the condition is that the loop of that key runs."""

    key: int
    runs: int | None
    then: Tree
    otherwise: Tree


Tree = tuple[Event | Loop | Branch, ...]
Find = Callable[[Operation], Event | None]


# ---------------------------------------------------------------- expressions


@dataclass
class Expressions:
    """Numbers for scalars: two have one number if they are computed in the same way from the same
    arguments, constants and memory, which the passes before see to that nobody changes.
    """

    numbers: dict[tuple[object, ...], int] = field(default_factory=dict)
    known: dict[Value, int] = field(default_factory=dict)

    def of(self, value: Value) -> int:
        """The number of a scalar."""
        return self._of(value, ())

    def of_parts(self, *parts: object) -> int:
        """The number of a tuple."""
        return self.numbers.setdefault(parts, len(self.numbers))

    def _of(self, value: Value, open: tuple[Value, ...]) -> int:
        if value in open:
            return self.of_parts("itself", len(open) - open.index(value))
        if value not in self.known or open:
            found = self.of_parts(*self._parts(value, open))
            if open:
                return found
            self.known[value] = found
        return self.known[value]

    def _parts(self, value: Value, open: tuple[Value, ...]) -> tuple[object, ...]:
        if isinstance(value, Argument):
            region = value.block.region
            loop = region.op if region is not None else None
            if isinstance(loop, For):
                return self._carried(loop, value.index, open, value)
            return ("argument", value.index, id(value.block))
        assert isinstance(value, Result)
        op = value.op
        if isinstance(op, Constant):
            return ("constant", str(value.type), op.value)
        if isinstance(op, For):
            return ("end", *self._carried(op, value.index + 1, open, None))
        if isinstance(op, If):
            ends = (r.block.terminator.operands[value.index] for r in op.regions)
            return ("if", *(self._of(v, open) for v in (op.condition, *ends)))
        assert isinstance(op, Op)
        if op.regions or op.effects & ~Effect.READ:
            return ("this", id(op), value.index)
        attributes = repr(sorted(op.attributes.items(), key=lambda item: item[0]))
        operands = (self._of(v, open) for v in op.operands)
        return (op.mnemonic, attributes, str(value.type), value.index, *operands)

    def _carried(
        self, loop: For, index: int, open: tuple[Value, ...], value: Value | None
    ) -> tuple[object, ...]:
        bounds = tuple(self._of(v, open) for v in (loop.lower, loop.upper, loop.step))
        if index == 0:
            return ("index", _depth(loop), *bounds)
        argument = loop.regions[0].block.arguments[index]
        inner = (*open, argument) if value is None or argument not in open else open
        initial = self._of(loop.initial[index - 1], open)
        again = self._of(loop.regions[0].block.terminator.operands[index - 1], inner)
        return ("carried", _depth(loop), *bounds, initial, again)


def _depth(op: Operation) -> int:
    """How many loops are around an op."""
    return sum(isinstance(holder, For) for holder in op.holders)


# ---------------------------------------------------------------- trees


def compared_with_first(predicate: Value) -> For | None:
    """The loop of which a predicate says that it is past its first iteration."""
    op = predicate.op if isinstance(predicate, Result) else None
    return compared_index(op) if isinstance(op, Compare) else None


def tree(block: Block, find: Find, expressions: Expressions) -> Tree:
    """The events of a block, in order."""
    found: list[Event | Loop | Branch] = []
    for op in block.ops:
        event = find(op)
        if event is not None:
            found.append(event)
        elif isinstance(op, For):
            body = tree(op.regions[0].block, find, expressions)
            found += [_loop(op, body, expressions)] if body else []
        elif isinstance(op, If):
            then, otherwise = (tree(r.block, find, expressions) for r in op.regions)
            if then or otherwise:
                pair = below(op.condition)
                runs = None if pair is None else _key_below(then, pair, expressions)
                found.append(Branch(expressions.of(op.condition), runs, then, otherwise))
        elif any(find(inner) for inner in op.walk()):
            raise IRError(f"rings are used inside {op.mnemonic}, where they cannot be followed")
    return tuple(found)


def _loop(op: For, body: Tree, expressions: Expressions) -> Loop:
    low, high, step = (constant_value(v) for v in (op.lower, op.upper, op.step))
    trips = None
    if low is not None and high is not None and step is not None:
        trips = len(range(int(low), int(high), int(step)))
    for lower, upper in conditions_around(op):
        if same_scalar(upper, op.upper) and _follows(op.lower, lower, op.step):
            key = _key(lower, op.upper, op.step, expressions)
            return Loop(op, key, trips, is_later=True, body=body)
    return Loop(op, _key(op.lower, op.upper, op.step, expressions), trips, False, body)


def _key(lower: Value, upper: Value, step: Value, expressions: Expressions) -> int:
    return expressions.of_parts("loop", *map(expressions.of, (lower, upper, step)))


def _follows(value: Value, lower: Value, step: Value) -> bool:
    """Whether `value` is `lower + step`."""
    if isinstance(value, Result) and isinstance(value.op, Add):
        left, right = value.op.left, value.op.right
        orders = ((left, right), (right, left))
        return any(same_scalar(x, lower) and same_scalar(y, step) for x, y in orders)
    known = [constant_value(v) for v in (value, lower, step)]
    return None not in known and known[0] == known[1] + known[2]  # type: ignore[operator]


def _key_below(then: Tree, pair: tuple[Value, Value], expressions: Expressions) -> int | None:
    """The key of a loop in a branch whose condition is that this loop runs."""
    for node in then:
        found = None
        if isinstance(node, Loop):
            key = _key(*pair, node.op.step, expressions)
            found = key if key == node.key else None
        elif isinstance(node, Branch):
            found = _key_below(node.then, pair, expressions)
        if found is not None:
            return found
    return None


# ---------------------------------------------------------------- the same order

Order = tuple[object, ...]


def order(nodes: Tree, kind: str, ring: int) -> Order:
    """How often, and in which loops and branches, one event of one ring comes: equal for both sides
    only if it comes equally often, in one order.
    """
    found: list[object] = []
    for node in nodes:
        if isinstance(node, Event):
            _extend(found, (1,) if (node.kind, node.ring) == (kind, ring) else ())
        elif isinstance(node, Loop):
            body = order(node.body, kind, ring)
            count = _count(body)
            if node.trips is not None and count is not None:
                _extend(found, (node.trips * count,))
            elif body:
                _extend(found, (("later" if node.is_later else "loop", node.key, body),))
        else:
            then, otherwise = (order(n, kind, ring) for n in (node.then, node.otherwise))
            if node.runs is not None and not otherwise:
                then_whole = _whole(then, node.runs)
                if then_whole is not None:
                    _extend(found, then_whole)
                    continue
            if then or otherwise:
                _extend(found, (("if", node.key, then, otherwise),))
    return tuple(found)


def _extend(found: list[object], more: Order) -> None:
    """Append, numbers that follow each other as their sum, and no zeros."""
    for each in more:
        if isinstance(each, int) and found and isinstance(found[-1], int):
            found[-1] += each
        elif each != 0:
            found.append(each)


def _count(body: Order) -> int | None:
    if not body:
        return 0
    return body[0] if len(body) == 1 and isinstance(body[0], int) else None


def _whole(then: Order, key: int) -> Order | None:
    """What comes where the loop of `key` runs, as it is without the condition: the loop itself, or
    the loop but for one iteration, whose events come before and behind.
    """
    if len(then) == 1 and isinstance(then[0], tuple) and then[0][:2] == ("loop", key):
        return then
    loops = [each for each in then if isinstance(each, tuple)]
    if len(loops) == 1 and loops[0][:2] == ("later", key):
        count = _count(loops[0][2])
        if count is not None and count == sum(each for each in then if isinstance(each, int)):
            return (("loop", key, (count,)),)
    return () if not then else None


# ---------------------------------------------------------------- runs


@dataclass
class _Choice:
    """How often loops run and which branches are taken."""

    trips: dict[int, int]
    branches: bool


def find_circle(producer: Tree, consumer: Tree, depths: Sequence[int]) -> str:
    """How the two sides come to wait for each other, or do not end together; "" if they do not."""
    loops = sorted(_keys(producer) | _keys(consumer))
    most = 2 * max(depths) + 1
    counts = (0, 1, 2, most)
    runs = (
        itertools.product(counts, repeat=len(loops))
        if len(loops) < 3
        else ((count,) * len(loops) for count in counts)
    )
    for trips in runs:
        for branches in (True, False):
            choice = _Choice(dict(zip(loops, trips, strict=True)), branches)
            problem = _run(producer, consumer, depths, choice)
            if problem:
                return problem
            if not _has_choice(producer):
                break
    return ""


def _keys(nodes: Tree) -> set[int]:
    found: set[int] = set()
    for node in nodes:
        if isinstance(node, Loop):
            found |= _keys(node.body) | ({node.key} if node.trips is None else set())
        elif isinstance(node, Branch):
            found |= _keys(node.then) | _keys(node.otherwise)
    return found


def _has_choice(nodes: Tree) -> bool:
    return any(
        isinstance(node, Branch) or (isinstance(node, Loop) and _has_choice(node.body))
        for node in nodes
    )


def _events(nodes: Tree, choice: _Choice, first: frozenset[For]) -> Iterator[Event]:
    """The events one after the other; `first` are the loops in their first iteration."""
    for node in nodes:
        if isinstance(node, Event):
            if node.loop not in first:
                yield node
        elif isinstance(node, Loop):
            trips = node.trips if node.trips is not None else choice.trips[node.key]
            trips -= node.trips is None and node.is_later
            for number in range(trips):
                inner = first | {node.op} if number == 0 else first - {node.op}
                yield from _events(node.body, choice, inner)
        else:
            holds = choice.branches if node.runs is None else choice.trips.get(node.runs, 1) > 0
            yield from _events(node.then if holds else node.otherwise, choice, first)


def _run(producer: Tree, consumer: Tree, depths: Sequence[int], choice: _Choice) -> str:
    sides = [_events(producer, choice, frozenset()), _events(consumer, choice, frozenset())]
    waiting = [next(side, None) for side in sides]
    done = {kind: [0] * len(depths) for kind in ("fill", "take", "give")}

    def is_free(event: Event) -> bool:
        ring = event.ring
        if event.kind == "fill":
            return done["fill"][ring] < done["give"][ring] + depths[ring]
        return event.kind == "give" or done["take"][ring] < done["fill"][ring]

    for _ in range(_MOST_EVENTS):
        for number, event in enumerate(waiting):
            if event is not None and is_free(event):
                done[event.kind][event.ring] += 1
                waiting[number] = next(sides[number], None)
                break
        else:
            if any(event is not None for event in waiting):
                return "producer and consumer wait for each other"
            return "" if done["fill"] == done["give"] else "slots are left that nobody gives back"
    return ""
