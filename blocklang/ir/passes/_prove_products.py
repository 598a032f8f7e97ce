"""What `prove-rings` follows of products under way: their results, and registers that they read."""

from __future__ import annotations

from blocklang.ir.analysis.groups import Groups, products
from blocklang.ir.analysis.paths import Machine, Numbers, Pairs
from blocklang.ir.core import Argument, Block, Function, Operation, Result, Value
from blocklang.ir.op import Op
from blocklang.ir.ops.asynchronous import Wgmma, WgmmaBegin, WgmmaWait
from blocklang.ir.ops.control import For, If, Yield
from blocklang.ir.types import BlockType, PendingType

from ._prove_sides import refuse


class Products(Machine[Groups]):
    """The facts of a group are the pending values that it makes, as ("value", it), and the blocks
    that it reads from registers, as ("block", all that share these registers).
    """

    def __init__(self, function: Function) -> None:
        self.nothing = products(function)
        self.shared = _registers(function)
        read = [op.a for op in function.walk() if isinstance(op, Wgmma)]
        self.read = {self.shared.get(v, v) for v in read if isinstance(v.type, BlockType)}

    def start(self) -> Groups:
        return self.nothing

    def is_relevant(self, op: Op) -> bool:
        if isinstance(op, Wgmma | WgmmaWait | WgmmaBegin):
            return True
        uses_pending = any(isinstance(v.type, PendingType) for v in op.operands)
        return uses_pending or any(self.shared.get(v, v) in self.read for v in op.results)

    def step(self, op: Op, state: Groups, number: Numbers) -> Groups:
        if isinstance(op, WgmmaWait):
            return self.wait(op, state)
        for value in op.results:
            if ("block", self.shared.get(value, value)) in state.facts:
                refuse(op, f"{op.mnemonic} overwrites registers that a product under way reads")
        if isinstance(op, Wgmma):
            facts: list[tuple[str, Value]] = [("value", op.results[0])]
            if isinstance(op.a.type, BlockType):
                facts.append(("block", self.shared.get(op.a, op.a)))
            return state.change([facts[0]], {}).start(facts)
        pending = any(isinstance(v.type, PendingType) for v in op.operands)
        if pending and not isinstance(op, Yield):
            refuse(op, f"{op.mnemonic} reads what a warpgroup is still computing")
        return state

    def wait(self, op: WgmmaWait, state: Groups) -> Groups:
        """Results that are blocks must be covered; the others stand for the values."""
        _, left = state.wait(op.groups)
        renamed: dict[object, list[object]] = {}
        for value, result in zip(op.values, op.results, strict=True):
            if not isinstance(value.type, PendingType):
                continue
            if isinstance(result.type, PendingType):
                renamed.setdefault(("value", value), []).append(("value", result))
            elif ("value", value) in left.facts:
                refuse(op, f"a wait for all but {op.groups} does not cover what is read behind it")
        return left.change([("value", r) for r in op.results], renamed)

    def hand_over(self, state: Groups, pairs: Pairs) -> Groups:
        ours = [pair for pair in pairs if isinstance(pair[0].type, PendingType)]
        if not ours or not state.under_way:
            return state
        renamed: dict[object, list[object]] = {}
        for to, source in ours:
            renamed.setdefault(("value", source), []).append(("value", to))
        return state.change([("value", to) for to, _ in ours], renamed)

    def finish(self, op: Operation, state: Groups) -> None:
        if state.facts:
            refuse(op, "a product is never waited for")


def _registers(function: Function) -> dict[Value, Value]:
    """For each block that loops carry, one of those with which it shares its registers."""
    leaders: dict[Value, Value] = {}

    def leader(value: Value) -> Value:
        while leaders.setdefault(value, value) is not value:
            value = leaders[value]
        return value

    for op in function.walk():
        if not isinstance(op, For):
            continue
        block = op.regions[0].block
        ends = block.terminator.operands
        for group in zip(block.arguments[1:], op.initial, ends, op.results, strict=True):
            if isinstance(group[0].type, BlockType):
                for value in group[1:]:
                    leaders[leader(value)] = leader(group[0])
    return {value: leader(value) for value in list(leaders)}


def check_operands(op: Wgmma) -> None:
    """Check that nobody can move what overwrites a loop's registers before the wait for the product
    that reads them: it must need a result of that wait, or of a later one.
    """
    if not isinstance(op.a.type, BlockType) or not isinstance(op.a, Argument):
        return
    block = op.a.block
    loop = block.region.op if block.region is not None else None
    if not isinstance(loop, For):
        return
    again = block.terminator.operands[op.a.index - 1]
    if not isinstance(again, Result) or again.op.parent is not block:
        return
    if op.parent is not block or not _needs_wait(again, op, block):
        refuse(again.op, f"{again.op.mnemonic} may be moved before the wait for a product")


def _needs_wait(value: Value, product: Wgmma, block: Block) -> bool:
    behind = block.ops.index(product)
    seen: set[Operation] = set()
    pending = [value]
    while pending:
        each = pending.pop()
        if not isinstance(each, Result) or each.op.parent is not block or each.op in seen:
            continue
        seen.add(each.op)
        if isinstance(each.op, WgmmaWait):
            covers = product.results[0] in each.op.values or each.op.groups == 0
            if covers and block.ops.index(each.op) > behind:
                return True
            continue
        if isinstance(each.op, If | For):
            pending += [v for inner in each.op.walk() for v in inner.operands]
        pending += each.op.operands
    return False
