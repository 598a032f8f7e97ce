"""Straight-line code, loops and branches: the steps of a plan in order.

Carried scalars live in slots, which LLVM makes registers. Carried blocks live in buffers; where the
next value cannot overwrite the present one, two buffers change places at the end of an iteration.
"""

from __future__ import annotations

from collections.abc import Sequence

from blocklang.codegen.lower import lowers
from blocklang.ir.core import Value
from blocklang.ir.ops.control import Condition, For, If, While
from blocklang.ir.types import BlockType, DType, element_type

from .emitter import CpuEmitter
from .nest import emit_nest
from .plan import Buffer, Control, Nest, Plan


def emit_plan(e: CpuEmitter, plan: Plan) -> None:
    """The code of a plan."""
    for level in plan.levels:
        for op in level.scalars:
            e.scalar_op(op)
        if isinstance(level.step, Nest):
            emit_nest(e, level.step)
        elif isinstance(level.step, Control):
            e.scalar_op(level.step.op)


class _Carried:
    """The scalars that a control op carries, in slots; blocks are left to their buffers."""

    def __init__(self, e: CpuEmitter, values: Sequence[Value]) -> None:
        self.e = e
        self.slots = [
            None if isinstance(v.type, BlockType) else e.slot(e.scalar_type(v.type)) for v in values
        ]

    def write(self, values: Sequence[Value]) -> None:
        """Make `values` the present ones."""
        for value, slot in zip(values, self.slots, strict=True):
            if slot is not None:
                self.e.line(f"store {self.e.scalar_type(value.type)} {self.e[value]}, ptr {slot}")

    def read(self, values: Sequence[Value]) -> None:
        """Name the present scalars as `values`."""
        for value, slot in zip(values, self.slots, strict=True):
            if slot is not None:
                kind = self.e.scalar_type(value.type)
                self.e.names[value] = self.e.emit(f"load {kind}, ptr {slot}")


@lowers(If, on=("cpu",))
def _(e: CpuEmitter, op: If) -> None:
    control = e.controls[op]
    carried = _Carried(e, op.results)
    labels = [e.new_label("then"), e.new_label("otherwise")]
    end = e.new_label("endif")
    e.line(f"br i1 {e[op.condition]}, label %{labels[0]}, label %{labels[1]}")
    for label, region, plan in zip(labels, op.regions, control.regions, strict=True):
        e.label(label)
        emit_plan(e, plan)
        carried.write(region.block.terminator.operands)
        e.line(f"br label %{end}")
    e.label(end)
    carried.read(op.results)


class _Swapped:
    """Pairs of buffers that change places after each iteration."""

    def __init__(self, e: CpuEmitter, control: Control) -> None:
        self.e = e
        self.pairs: list[tuple[Buffer, Buffer, str, str]] = []
        for now, following in zip(control.incoming, control.following, strict=True):
            if now is not None and following is not None and now is not following:
                slots = e.slot("ptr"), e.slot("ptr")
                for buffer, slot in zip((now, following), slots, strict=True):
                    e.line(f"store ptr {e.address(buffer)}, ptr {slot}")
                self.pairs.append((now, following, *slots))

    def read(self) -> None:
        """Use the buffers as they lie now."""
        for now, following, first, second in self.pairs:
            self.e.addresses[now] = self.e.emit(f"load ptr, ptr {first}")
            self.e.addresses[following] = self.e.emit(f"load ptr, ptr {second}")

    def swap(self) -> None:
        """Let the buffers change places."""
        for now, following, first, second in self.pairs:
            self.e.line(f"store ptr {self.e.addresses[following]}, ptr {first}")
            self.e.line(f"store ptr {self.e.addresses[now]}, ptr {second}")


@lowers(For, on=("cpu",))
def _(e: CpuEmitter, op: For) -> None:
    control = e.controls[op]
    block = op.regions[0].block
    index, *arguments = block.arguments
    kind, integer = element_type(index.type), e.scalar_type(index.type)
    assert isinstance(kind, DType)
    carried, swapped, counter = _Carried(e, op.initial), _Swapped(e, control), e.slot(integer)
    carried.write(op.initial)
    e.line(f"store {integer} {e[op.lower]}, ptr {counter}")
    header, body, end = (e.new_label(name) for name in ("for", "body", "endfor"))
    e.jump(header)
    e.names[index] = e.emit(f"load {integer}, ptr {counter}")
    less = "slt" if kind.is_signed else "ult"
    more = e.emit(f"icmp {less} {integer} {e[index]}, {e[op.upper]}")
    e.line(f"br i1 {more}, label %{body}, label %{end}")
    e.label(body)
    carried.read(arguments)
    swapped.read()
    emit_plan(e, control.regions[0])
    carried.write(block.terminator.operands)
    swapped.swap()
    following = e.emit(f"add {integer} {e[index]}, {e[op.step]}")
    e.line(f"store {integer} {following}, ptr {counter}")
    e.line(f"br label %{header}")
    e.label(end)
    carried.read(op.results)
    swapped.read()


@lowers(While, on=("cpu",))
def _(e: CpuEmitter, op: While) -> None:
    control = e.controls[op]
    before, body = (region.block for region in op.regions)
    condition = before.terminator
    assert isinstance(condition, Condition)
    carried = _Carried(e, op.initial)
    carried.write(op.initial)
    header, inside, end = (e.new_label(name) for name in ("while", "body", "endwhile"))
    e.jump(header)
    carried.read(before.arguments)
    emit_plan(e, control.regions[0])
    carried.write(condition.values)
    e.line(f"br i1 {e[condition.condition]}, label %{inside}, label %{end}")
    e.label(inside)
    carried.read(body.arguments)
    emit_plan(e, control.regions[1])
    carried.write(body.terminator.operands)
    e.line(f"br label %{header}")
    e.label(end)
    carried.read(op.results)
