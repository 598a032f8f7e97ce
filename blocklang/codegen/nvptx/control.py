"""Structured control flow as basic blocks and phis; a carried block is one phi of a vector."""

from __future__ import annotations

from collections.abc import Sequence

from blocklang.codegen.lower import lowers
from blocklang.ir.core import Block, Value
from blocklang.ir.op import Op
from blocklang.ir.ops.control import Condition, For, If, Return, While
from blocklang.ir.types import DType, element_type

from .emitter import NvptxEmitter


def emit_ops(e: NvptxEmitter, block: Block) -> None:
    """All ops of a block but its terminator, which is the business of whoever holds the block."""
    for op in block.ops:
        assert isinstance(op, Op)
        if not op.is_terminator:
            e.op(op)


@lowers(Return, on=("nvptx",))
def _(e: NvptxEmitter, op: Return) -> None:
    e.line("ret void")


@lowers(If, on=("nvptx",))
def _(e: NvptxEmitter, op: If) -> list[str]:
    labels = [e.new_label("then"), e.new_label("otherwise")]
    end = e.new_label("endif")
    e.line(f"br i1 {e[op.condition]}, label %{labels[0]}, label %{labels[1]}")
    incoming: list[list[str]] = []
    for label, region in zip(labels, op.regions, strict=True):
        e.label(label)
        emit_ops(e, region.block)
        values = [e[v] for v in region.block.terminator.operands]
        incoming.append([f"[ {name}, %{e.block_label} ]" for name in values])
        e.location = op.loc
        e.line(f"br label %{end}")
    e.label(end)
    return [
        e.emit(f"phi {e.type(result.type)} {incoming[0][i]}, {incoming[1][i]}")
        for i, result in enumerate(op.results)
    ]


class Phis:
    """The phis at the head of a loop: written when it starts, completed when its body is known."""

    def __init__(self, e: NvptxEmitter, values: Sequence[Value], initial: Sequence[str]) -> None:
        self.e = e
        entry = e.block_label
        self.header = e.new_label("loop")
        e.line(f"br label %{self.header}")
        e.label(self.header)
        self.start = len(e.lines)
        self.names = [e.fresh() for _ in values]
        self.texts = [
            f"  {name} = phi {e.type(value.type)} [ {first}, %{entry} ]"
            for name, value, first in zip(self.names, values, initial, strict=True)
        ]
        e.lines.extend(self.texts)
        for value, name in zip(values, self.names, strict=True):
            e.names[value] = name

    def close(self, following: Sequence[str]) -> None:
        """Jump back to the head with the next values."""
        for index, name in enumerate(following):
            self.e.lines[self.start + index] = (
                f"{self.texts[index]}, [ {name}, %{self.e.block_label} ]"
            )
        self.e.line(f"br label %{self.header}")


@lowers(For, on=("nvptx",))
def _(e: NvptxEmitter, op: For) -> list[str]:
    block = op.regions[0].block
    kind = element_type(op.lower.type)
    assert isinstance(kind, DType)
    phis = Phis(e, block.arguments, [e[op.lower], *(e[v] for v in op.initial)])
    body, end = e.new_label("body"), e.new_label("endloop")
    index, integer = phis.names[0], e.type(op.lower.type)
    less = "slt" if kind.is_signed else "ult"
    more = e.emit(f"icmp {less} {integer} {index}, {e[op.upper]}")
    e.line(f"br i1 {more}, label %{body}, label %{end}")
    e.label(body)
    emit_ops(e, block)
    e.location = op.loc
    following = e.emit(f"add {integer} {index}, {e[op.step]}")
    phis.close([following, *(e[v] for v in block.terminator.operands)])
    e.label(end)
    return phis.names[1:]


@lowers(While, on=("nvptx",))
def _(e: NvptxEmitter, op: While) -> list[str]:
    before, body = (region.block for region in op.regions)
    phis = Phis(e, before.arguments, [e[v] for v in op.initial])
    label, end = e.new_label("body"), e.new_label("endloop")
    emit_ops(e, before)
    condition = before.terminator
    assert isinstance(condition, Condition)
    e.line(f"br i1 {e[condition.condition]}, label %{label}, label %{end}")
    e.label(label)
    for argument, value in zip(body.arguments, condition.values, strict=True):
        e.names[argument] = e[value]
    emit_ops(e, body)
    e.location = op.loc
    phis.close([e[v] for v in body.terminator.operands])
    e.label(end)
    return [e[v] for v in condition.values]
