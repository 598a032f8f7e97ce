"""overlap-dots: starts products of warpgroups early, and waits for them late.

A product that a warpgroup does becomes `wgmma`, whose result is pending, and a `wgmma_wait`. Three
cases, in this order:

1. A loop in which products only accumulate, from slots that stay for one more iteration: the wait
   is for the products of the iteration before, so that the tensor cores never run dry. Slots of
   rings are given back one iteration later; those that the threads fill must not be filled before.
2. A loop in which one product needs another one through ordinary work, as attention does: the
   later product moves to the next iteration (a software pipeline of two stages), where it is
   started right behind the next early product. The work between runs while both are under way.
3. Anything else waits where a result is read: see `delay_waits`.

The first two need a loop that runs at least once; what is made of it stands under a condition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from blocklang.ir.builder import Builder
from blocklang.ir.core import Argument, Block, Module, Result, Value
from blocklang.ir.op import Op
from blocklang.ir.ops.async_copy import AsyncCommit
from blocklang.ir.ops.asynchronous import MBarrierArrive, WgmmaBegin
from blocklang.ir.ops.control import For, Yield
from blocklang.ir.ops.dot import Dot
from blocklang.ir.ops.elementwise import Compare
from blocklang.ir.ops.program import is_constant
from blocklang.ir.types import BlockType, PendingType, SharedType, i32

from ._delay_waits import delay_waits
from ._pending import (
    compute_here,
    finish_at_once,
    guarded,
    has_next_slot,
    is_kept,
    needed_by_stores,
    start,
    wait,
    warpgroup_dots,
)
from ._rings import extend_yield
from ._rotate_dots import rotation
from .manager import Pass


@dataclass(frozen=True)
class OverlapDots(Pass):
    """Start products of warpgroups early and wait for them late; not `early`, wait at once."""

    early: bool = True
    name: ClassVar[str] = "overlap-dots"

    def _run(self, module: Module) -> None:
        loops = [op for op in module.walk() if isinstance(op, For)]
        for loop in reversed(loops):
            dots = warpgroup_dots(loop.regions[0].block.ops) if self.early else []
            if dots and _only_accumulates(loop, dots):
                _Accumulation(loop, dots).run()
            elif dots and (found := rotation(loop, dots)) is not None:
                found.run()
        dots = warpgroup_dots(module.walk())
        if not self.early:
            for dot in dots:
                finish_at_once(dot)
            return
        for block in dict.fromkeys(dot.parent for dot in dots):
            assert block is not None
            delay_waits(block)


# ---------------------------------------------------------------- accumulation


def _only_accumulates(loop: For, dots: list[Dot]) -> bool:
    """Whether all products of a loop go on from iteration to iteration, and nothing else reads
    them.
    """
    body = loop.regions[0].block
    arrivals = [op for op in body.ops if isinstance(op, MBarrierArrive)]
    if any(op.predicate is not None for op in arrivals):
        return False
    for dot in dots:
        if not isinstance(dot.a.type, SharedType):
            return False
        if not all(is_kept(v, body) and has_next_slot(v) for v in (dot.a, dot.b)):
            return False
        if _chain_start(dot, body) is None or len(dot.results[0].uses) != 1:
            return False
        ((user, index),) = dot.results[0].uses
        if isinstance(user, Yield):
            argument = _chain_start(dot, body)
            assert argument is not None
            if index != argument.index - 1 or len(argument.uses) != 1:
                return False
        elif not (isinstance(user, Dot) and user.acc is dot.results[0] and user in dots):
            return False
    return True


def _chain_start(dot: Dot, body: Block) -> Argument | None:
    """The carried value to which a product is added, through other products."""
    value = dot.acc
    while isinstance(value, Result) and isinstance(value.op, Dot) and value.op.parent is body:
        value = value.op.acc
    return value if isinstance(value, Argument) and value.block is body else None


@dataclass
class _Accumulation:
    loop: For
    dots: list[Dot]

    def run(self) -> None:
        self.extra = needed_by_stores(self.loop)
        _, outside = guarded(self.loop, self.extra)
        self.body = self.loop.regions[0].block
        self.pend(outside)
        last = self.start_all()
        arrivals = self.delay_arrivals(last)
        self.finish(outside, arrivals)

    def pend(self, outside: Builder) -> None:
        """Let the loop carry pending accumulators."""
        old = self.loop
        builder = Builder(self.body, 0, old.loc)
        carried = [_chain_start(dot, self.body) for dot in self.dots]
        self.arguments = [a for a in dict.fromkeys(carried) if a is not None]
        initial = list(old.initial)
        index = self.body.arguments[0]
        is_later = Compare(index, old.lower, predicate="ne", loc=old.loc)
        self.is_later = builder.insert(is_later).result
        self.starts_empty: set[Value] = set()
        for argument in self.arguments:
            position = argument.index - 1
            assert isinstance(argument.type, BlockType)
            kind = PendingType(argument.type)
            value = initial[position]
            empty = is_constant(value, 0)
            if empty:
                self.starts_empty.add(argument)
            begin = WgmmaBegin(None if empty else value, loc=old.loc, result_types=[kind])
            initial[position] = outside.insert(begin).result
            argument.type = kind
        self.initial = initial

    def start_all(self) -> Op:
        """Start all products of an iteration, and wait for those of the one before."""
        for dot in self.dots:
            builder = Builder.before(dot)
            first = dot.acc in self.starts_empty
            dot.results[0].replace_all_uses_with(
                start(builder, dot, dot.acc, self.is_later if first else None)
            )
        # Copies that the threads start behind the products are started before the wait.
        ops = self.body.ops
        copies = [index for index, op in enumerate(ops) if isinstance(op, AsyncCommit)]
        behind = max(copies, default=-1) + 1
        builder = Builder(self.body, max(ops.index(self.dots[-1]), behind), self.dots[-1].loc)
        ends = self.body.terminator
        positions = [a.index - 1 for a in self.arguments]
        values = [ends.operands[p] for p in positions]
        results = wait(builder, values, len(self.dots), ready=False)
        for position, result in zip(positions, results, strict=True):
            ends.set_operand(position, result)
        for dot in self.dots:
            dot.erase()
        return results[0].op  # type: ignore[return-value]

    def delay_arrivals(self, last: Op) -> list[MBarrierArrive]:
        """Give slots back one iteration later, when the products that read them are done."""
        found = [op for op in self.body.ops if isinstance(op, MBarrierArrive)]
        added: list[Value] = []
        for op in found:
            before = self.body.add_argument(i32, op.loc, "previous")
            assert last.parent is not None
            position = last.parent.ops.index(last) + 1
            late = MBarrierArrive(
                op.barriers, before, self.is_later, everywhere=op.everywhere, loc=op.loc
            )
            self.body.insert(position, late)
            added.append(op.index)
            self.initial.append(op.index)
        extend_yield(self.body, added)
        return found

    def finish(self, outside: Builder, arrivals: list[MBarrierArrive]) -> None:
        """Put the loop in its place, and wait behind it for the last products."""
        old = self.loop
        count = len(old.results)
        zero = outside.constant(0, i32)
        initial = [*self.initial[:count], *(zero for _ in arrivals)]
        regions, old.regions = old.regions, []
        loop = outside.insert(old.again(initial, regions))
        results: list[Value] = list(loop.results[:count])
        positions = [a.index - 1 for a in self.arguments]
        outside.loc = loop.loc
        known = compute_here(outside, self.extra)
        blocks = wait(outside, [results[p] for p in positions], 0, ready=True)
        for position, block in zip(positions, blocks, strict=True):
            results[position] = block
        for op, index in zip(arrivals, loop.results[count:], strict=True):
            outside.insert(MBarrierArrive(op.barriers, index, everywhere=op.everywhere, loc=op.loc))
            op.erase()
        outside.insert(Yield((*results, *known), loc=old.loc))
        old.erase()
