"""Products of a block that no software pipeline takes: each is started where it stands, and waited
for only before something needs it to be done.

That is what reads its result, the end of the block, a loop, and what might wait for the slots that
it holds; these are given back when it is done. Products end in the order in which they were
started, so a wait for one leaves those behind it under way.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from blocklang.ir.builder import Builder
from blocklang.ir.core import Block, Operation, Result, Value
from blocklang.ir.ops.asynchronous import MBarrierArrive, MBarrierWait
from blocklang.ir.ops.control import For, While
from blocklang.ir.ops.dot import Dot
from blocklang.ir.types import BlockType

from ._pending import finish_at_once, is_kept, slot_of, start, wait


def delay_waits(block: Block) -> None:
    """Start the products of a block, with waits as late as their results allow."""
    _Delay(block).run()


@dataclass
class _Product:
    """A product under way: its pending result, what it reads from registers, its slots' numbers."""

    pending: Value
    result: Result
    blocks: list[Value]
    slots: set[Value]
    arrivals: list[MBarrierArrive] = field(default_factory=list)


@dataclass
class _Delay:
    block: Block
    running: list[_Product] = field(default_factory=list)

    def run(self) -> None:
        for op in list(self.block.ops):
            if op.parent is not self.block:
                continue
            self.finish_before(op)
            if isinstance(op, Dot) and op.instruction == "wgmma":
                self.begin(op)
            elif isinstance(op, MBarrierArrive):
                self.delay(op)

    def begin(self, dot: Dot) -> None:
        """Start a product, if what it reads stays as it is, or else also finish it."""
        operands = dot.a, dot.b
        buffers = [v for v in operands if not isinstance(v.type, BlockType)]
        if not all(is_kept(v, self.block) for v in buffers):
            self.finish(len(self.running), dot)
            finish_at_once(dot)
            return
        pending = start(Builder.before(dot), dot, dot.acc)
        blocks = [v for v in operands if isinstance(v.type, BlockType)]
        slots = {slot.index for v in buffers if (slot := slot_of(v)) is not None}
        self.running.append(_Product(pending, dot.results[0], blocks, slots))

    def delay(self, op: MBarrierArrive) -> None:
        """Give a slot back when the last product that reads it is done."""
        readers = [product for product in self.running if op.index in product.slots]
        if readers:
            op.detach()
            readers[-1].arrivals.append(op)

    def finish_before(self, op: Operation) -> None:
        """Wait for what must be done before an op."""
        count = 0
        reads = {value for inner in op.walk() for value in inner.operands}
        for index, product in enumerate(self.running):
            # What waits may wait for a slot that is not yet given back.
            holds = isinstance(op, MBarrierWait) and product.arrivals
            if holds or product.result in reads or op.is_terminator or isinstance(op, For | While):
                count = index + 1
        if count:
            self.finish(count, op)

    def finish(self, count: int, op: Operation) -> None:
        """Wait before `op` for the first `count` products."""
        done, self.running = self.running[:count], self.running[count:]
        if not done:
            return
        builder = Builder.before(op)
        builder.loc = done[-1].result.op.loc
        blocks = list(dict.fromkeys(block for product in done for block in product.blocks))
        values = [*(product.pending for product in done), *blocks]
        results = wait(builder, values, len(self.running), ready=True)
        for product, result in zip(done, results, strict=False):
            product.result.op.replace_with([result])
        behind = Builder.before(op)
        for product in done:
            for arrival in product.arrivals:
                behind.insert(arrival)
