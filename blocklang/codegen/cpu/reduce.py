"""Reductions: one accumulator for each lane, combined across lanes when their loop has ended.

The lanes of a chunk are several machine vectors, whose accumulators are independent: that hides the
latency of the combination. Where the combination has a neutral element, the accumulators start
with it; else the first chunk is chosen over what they held. Along the vector dimension the lanes
are combined by halves; along any other dimension they are the result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from blocklang.codegen.errors import NotOnTarget
from blocklang.ir.core import Block, Result, Value
from blocklang.ir.op import Op
from blocklang.ir.ops.control import If
from blocklang.ir.ops.elementwise import Add, And, Binary, Maximum, Minimum, Multiply, Or, Xor
from blocklang.ir.ops.reduce import Reduce
from blocklang.ir.types import BlockType, DType, element_type

from .emitter import CpuEmitter, Lanes
from .memory import store_buffer
from .places import Place


class Reduction:
    """One reduction in a nest whose chunks have the given widths."""

    def __init__(self, e: CpuEmitter, op: Reduce, widths: Sequence[int]) -> None:
        self.e, self.op = e, op
        self.kinds = [element_type(v.type) for v in op.inputs]
        self.identity = _identity(op)
        self.accumulators = {
            width: [e.slot(f"<{width} x {e.scalar_type(k)}>") for k in self.kinds]
            for width in widths
        }
        self.results = [e.slot(e.scalar_type(k)) for k in self.kinds]

    def begin(self, widths: Sequence[int]) -> None:
        """Start anew, before the first chunk of a result."""
        for width in widths:
            for slot, kind in zip(self.accumulators[width], self.kinds, strict=True):
                scalar = self.e.scalar_type(kind)
                # Without a neutral element any number will do that no division chokes on.
                start = (
                    "zeroinitializer" if scalar == "ptr" else _start(self.e, kind, self.identity)
                )
                self.e.line(f"store <{width} x {scalar}> {start}, ptr {slot}")

    def accumulate(self, place: Place, is_first: str) -> None:
        """Combine a chunk; `is_first` (an i1) says that it is the first one of its width."""
        e = self.e
        inputs = self.op.inputs
        new = [e.vector(e.evaluate(v, place), v.type) for v in inputs]
        slots = self.accumulators[e.width]
        kinds = [e.vector_type(v.type) for v in inputs]
        if is_first != "true" or self.identity is not None:
            old = [e.emit(f"load {k}, ptr {s}") for k, s in zip(kinds, slots, strict=True)]
            both = combine(e, self.op, old, new)
            if self.identity is None:
                both = [
                    e.emit(f"select i1 {is_first}, {k} {n}, {k} {b}")
                    for k, n, b in zip(kinds, new, both, strict=True)
                ]
            new = both
        for kind, value, slot in zip(kinds, new, slots, strict=True):
            e.line(f"store {kind} {value}, ptr {slot}")

    def end_across(self, widths: Sequence[int], place: Place) -> None:
        """Combine the lanes; the result belongs at `place`, which lacks the axis."""
        e = self.e
        parts = [self._across(width) for width in widths]
        e.width = 1
        total = parts[0]
        for part in parts[1:]:
            total = combine(e, self.op, total, part)
        for index, (kind, result) in enumerate(zip(self.kinds, self.op.results, strict=True)):
            scalar = e.scalar_type(kind)
            text = e.emit(f"extractelement <1 x {scalar}> {total[index]}, i32 0")
            if result in e.buffers and isinstance(result.type, BlockType):
                store_buffer(e, e.buffers[result], result.type, place, Lanes(text, 0))
            else:
                e.line(f"store {scalar} {text}, ptr {self.results[index]}")

    def _across(self, width: int) -> list[str]:
        """The accumulators of one width, combined to vectors of one lane."""
        e = self.e
        scalars = [e.scalar_type(k) for k in self.kinds]
        lanes = [
            e.emit(f"load <{width} x {s}>, ptr {slot}")
            for s, slot in zip(scalars, self.accumulators[width], strict=True)
        ]
        while width > 1:
            if width % 2:
                lanes = self._fold_last(lanes, scalars, width)
                width -= 1
            width //= 2
            e.width = width
            low, high = (
                [
                    e.shuffle(v, s, width * 2, range(start, start + width))
                    for v, s in zip(lanes, scalars, strict=True)
                ]
                for start in (0, width)
            )
            lanes = combine(e, self.op, low, high)
        return lanes

    def _fold_last(self, lanes: Sequence[str], scalars: Sequence[str], width: int) -> list[str]:
        """Combine the last lane with the first one, which takes the result."""
        e = self.e
        e.width = 1
        first, last = (
            [e.shuffle(v, s, width, [lane]) for v, s in zip(lanes, scalars, strict=True)]
            for lane in (0, width - 1)
        )
        joined = combine(e, self.op, first, last)
        folded = []
        for vector, one, scalar in zip(lanes, joined, scalars, strict=True):
            text = e.emit(f"extractelement <1 x {scalar}> {one}, i32 0")
            kind = f"<{width} x {scalar}>"
            text = e.emit(f"insertelement {kind} {vector}, {scalar} {text}, i32 0")
            folded.append(e.shuffle(text, scalar, width, range(width - 1)))
        return folded

    def end_along(self, place: Place) -> None:
        """Store the lanes, which are results; `place` lacks the axis."""
        e = self.e
        for slot, result in zip(self.accumulators[e.width], self.op.results, strict=True):
            value = e.emit(f"load {e.vector_type(result.type)}, ptr {slot}")
            if isinstance(result.type, BlockType):
                store_buffer(e, e.buffers[result], result.type, place, Lanes(value))

    def bind_scalars(self) -> None:
        """Name the results that are scalars, when the nest has ended."""
        for slot, result in zip(self.results, self.op.results, strict=True):
            if not isinstance(result.type, BlockType):
                self.e.names[result] = self.e.emit(
                    f"load {self.e.scalar_type(result.type)}, ptr {slot}"
                )


def combine(e: CpuEmitter, op: Reduce, left: Sequence[str], right: Sequence[str]) -> list[str]:
    """The combination of vectors of `e.width` lanes."""
    block = op.regions[0].block
    e.names.update(zip(block.arguments, (*left, *right), strict=True))
    inside: set[Value] = set(block.arguments)
    with e.vectors(scalars_too=True):
        _emit_region(e, block, inside)
        return [_inner(e, v, inside) for v in block.terminator.operands]


def _emit_region(e: CpuEmitter, block: Block, inside: set[Value]) -> None:
    for op in block.ops:
        assert isinstance(op, Op)
        if op.is_terminator:
            continue
        if isinstance(op, If) and not op.all_effects():
            _emit_choice(e, op, inside)
        elif op.regions:
            raise NotOnTarget(op.loc, what=f"`{op.mnemonic}` inside a reduction", target="CPUs")
        else:
            before = {v: e.names[v] for v in op.operands}
            e.names.update((v, _inner(e, v, inside)) for v in op.operands)
            e.op(op)
            e.names.update(before)
        inside.update(op.results)


def _emit_choice(e: CpuEmitter, op: If, inside: set[Value]) -> None:
    """Both regions are computed, and each lane chooses."""
    condition = _inner(e, op.condition, inside)
    choices = []
    for region in op.regions:
        _emit_region(e, region.block, inside)
        choices.append([_inner(e, v, inside) for v in region.block.terminator.operands])
    for result, then, otherwise in zip(op.results, *choices, strict=True):
        kind = e.type(result.type)
        e.names[result] = e.emit(
            f"select <{e.width} x i1> {condition}, {kind} {then}, {kind} {otherwise}"
        )


def _inner(e: CpuEmitter, value: Value, inside: set[Value]) -> str:
    """The vector of a value of the region; a scalar from outside is the same in every lane."""
    return e[value] if value in inside else e.vector(Lanes(e[value], 0), value.type)


def _start(e: CpuEmitter, kind: object, identity: float | None) -> str:
    assert isinstance(kind, DType)
    value = identity if identity is not None else 1.0 if kind.is_float else 1
    with e.vectors(scalars_too=True):
        return e.constant(value, kind)


def _identity(op: Reduce) -> float | None:
    """The neutral element of the combination, if it is known to have one."""
    block = op.regions[0].block
    kind = element_type(op.inputs[0].type)
    yielded = block.terminator.operands[0]
    if len(op.inputs) > 1 or len(block.ops) != 2 or not isinstance(kind, DType):
        return None
    inner = yielded.op if isinstance(yielded, Result) else None
    if not isinstance(inner, Binary) or set(inner.operands) != set(block.arguments):
        return None
    return _neutral(inner, kind)


def _neutral(op: Binary, kind: DType) -> float | None:
    if isinstance(op, Add):
        return -0.0 if kind.is_float else 0
    if isinstance(op, Multiply):
        return 1.0 if kind.is_float else 1
    if isinstance(op, Or | Xor):
        return 0
    if isinstance(op, And):
        return -1 if kind.is_signed else kind.maximum
    if isinstance(op, Maximum | Minimum):
        if kind.is_float and not op.propagate_nan:
            # Here a NaN loses against any number, and only NaNs make a NaN.
            return math.nan
        return kind.minimum if isinstance(op, Maximum) else kind.maximum
    return None
