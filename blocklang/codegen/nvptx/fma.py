"""Matrix products by multiply-add, from operands in shared memory.

A loop over K reads the rows and columns that a thread's elements of the result lie in, each once,
and adds their outer product. Both operands lie in shared memory with K slowest and without swizzle,
so that what the loop adds to an address is one number.
"""

from __future__ import annotations

from blocklang.codegen.lower import lowers
from blocklang.ir.core import Value
from blocklang.ir.layout import LinearLayout
from blocklang.ir.ops.shared_dot import SharedDot
from blocklang.ir.types import SharedType

from .elements import layout_of
from .emitter import SHARED, NvptxEmitter
from .memory import storage_type

_UNROLL = 4
_ACCESS_BYTES = 16


@lowers(SharedDot, on=("nvptx",))
def _(e: NvptxEmitter, op: SharedDot) -> str:
    layout, kind = layout_of(op.acc), e.type(op.acc.type)
    wide = e.scalar_type(op.acc.type)
    left, right = _Factor(e, op.a, layout, -2, wide), _Factor(e, op.b, layout, -1, wide)
    entry, header = e.block_label, e.new_label("product")
    body, end = e.new_label("terms"), e.new_label("endproduct")
    e.line(f"br label %{header}")
    e.label(header)
    index, total = e.fresh(), e.fresh()
    phis = len(e.lines)
    e.lines += ["", ""]
    more = e.emit(f"icmp ult i32 {index}, {left.depth}")
    e.line(f"br i1 {more}, label %{body}, label %{end}")
    e.label(body)
    terms = min(_UNROLL, left.depth)
    current = total
    for term in range(terms):
        current = _multiply_add(e, op, left.at(index, term), right.at(index, term), current)
    following = e.emit(f"add nuw nsw i32 {index}, {terms}")
    e.line(f"br label %{header}")
    e.lines[phis] = f"  {index} = phi i32 [ 0, %{entry} ], [ {following}, %{body} ]"
    e.lines[phis + 1] = f"  {total} = phi {kind} [ {e[op.acc]}, %{entry} ], [ {current}, %{body} ]"
    e.label(end)
    return total


def _multiply_add(e: NvptxEmitter, op: SharedDot, x: str, y: str, total: str) -> str:
    kind = e.type(op.acc.type)
    if kind.endswith(" i32>"):
        product = e.emit(f"mul {kind} {x}, {y}")
        return e.emit(f"add {kind} {total}, {product}")
    return e.intrinsic("llvm.fma", op.acc.type, x, y, total)


class _Factor:
    """One operand: what a thread reads of it at each K."""

    def __init__(
        self, e: NvptxEmitter, buffer: Value, layout: LinearLayout, axis: int, wide: str
    ) -> None:
        assert isinstance(buffer.type, SharedType)
        self.e, self.type, self.wide = e, buffer.type, wide
        self.scalar = storage_type(e, buffer.type)
        self.bytes = buffer.type.element.bytes
        rank = len(buffer.type.shape)
        own = axis % rank
        self.depth = buffer.type.layout.shape[2 * rank - 3 - own]
        width = buffer.type.layout.shape[own]
        self.step = width * self.bytes
        strides = [0] * rank
        strides[own] = 1
        if rank == 3:
            strides[0] = width * self.depth
        self.offsets = [
            sum(c * s for c, s in zip(layout.apply(register=r), strides, strict=True))
            for r in range(layout.in_size("register"))
        ]
        base = "0"
        for dimension, stride in enumerate(strides):
            if stride:
                first, _ = e.first_coordinate(layout, dimension)
                scaled = e.emit(f"mul nuw nsw i32 {first}, {stride * self.bytes}")
                base = scaled if base == "0" else e.emit(f"add nuw nsw i32 {base}, {scaled}")
        self.pointer = e.emit(f"getelementptr inbounds i8, {SHARED} {e[buffer]}, i32 {base}")
        self.runs = _runs(sorted(set(self.offsets)), _ACCESS_BYTES // self.bytes)

    def at(self, index: str, term: int) -> str:
        """The vector of factors, one for each register of the result, at K = index + term."""
        e = self.e
        moved = e.emit(f"mul nuw nsw i32 {index}, {self.step}")
        pointer = e.emit(f"getelementptr inbounds i8, {SHARED} {self.pointer}, i32 {moved}")
        pieces: dict[int, str] = {}
        for start, count in self.runs:
            byte = start * self.bytes + term * self.step
            place = e.emit(f"getelementptr inbounds i8, {SHARED} {pointer}, i32 {byte}")
            kind = f"<{count} x {self.scalar}>"
            loaded = e.emit(f"load {kind}, {SHARED} {place}, align {count * self.bytes}")
            for i in range(count):
                pieces[start + i] = e.extract(loaded, kind, i)
        wide = {offset: self._widened(piece) for offset, piece in pieces.items()}
        return e.build_vector([wide[offset] for offset in self.offsets], self.wide)

    def _widened(self, piece: str) -> str:
        if self.wide == self.scalar:
            return piece
        kind = self.type.element
        opcode = "fpext" if kind.is_float else "sext" if kind.is_signed else "zext"
        return self.e.emit(f"{opcode} {self.scalar} {piece} to {self.wide}")


def _runs(offsets: list[int], most: int) -> list[tuple[int, int]]:
    """Aligned runs of consecutive numbers, of at most `most`: (first, length)."""
    found: list[tuple[int, int]] = []
    left = list(offsets)
    while left:
        count = most
        while left[0] % count or left[:count] != list(range(left[0], left[0] + count)):
            count //= 2
        found.append((left[0], count))
        left = left[count:]
    return found
