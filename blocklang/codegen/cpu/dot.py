"""Matrix products: tiles of the sum in registers, the product of a column and a row at a time.

A tile is some rows by a few vectors. For each k it reads the vectors of row k of the right factor
once, and one element for each row of the left factor, which it multiplies with all of them. Columns
of tiles stand outside, rows of tiles inside: the part of the right factor that a column needs stays
in the first cache. Factors have the element type of the sum (`factors`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from blocklang.codegen.lower import lowers
from blocklang.ir.ops.dot import Dot
from blocklang.ir.types import DType, shape_of

from .emitter import CpuEmitter
from .plan import Buffer
from .products import starts_at_zero

_UNROLL = 4


@dataclass(frozen=True)
class _Matrix:
    """Elements in memory: the address of the first one, and how far apart rows and columns are."""

    start: str
    row: int
    column: int


@lowers(Dot, on=("cpu",))
def _(e: CpuEmitter, op: Dot) -> None:
    batch = shape_of(op.acc.type)[:-2]
    with ExitStack() as loops:
        index = loops.enter_context(e.loop("0", str(batch[0]), 1)) if batch else "0"
        product = _Product(e, op)
        left, right, total = (
            _matrix(e, e.buffers[v], product.kind, index) for v in (op.a, op.b, op.result)
        )
        for buffer in e.work:
            copy = _matrix(e, buffer, product.kind, "0")
            product.copy(right, copy)
            right = copy
        product.emit(left, right, total)


def _matrix(e: CpuEmitter, buffer: Buffer, kind: str, index: str) -> _Matrix:
    """Matrix `index` of the batch in a buffer."""
    *batch, row, column = buffer.strides
    start = e.address(buffer)
    if batch:
        distance = e.emit(f"mul nuw nsw i64 {index}, {batch[0]}")
        start = e.emit(f"getelementptr {kind}, ptr {start}, i64 {distance}")
    return _Matrix(start, row, column)


class _Product:
    """One product of two matrices."""

    def __init__(self, e: CpuEmitter, op: Dot) -> None:
        self.e = e
        self.rows, self.depth = shape_of(op.a.type)[-2:]
        self.columns = shape_of(op.b.type)[-1]
        element = op.result.type.element  # type: ignore[union-attr]
        assert isinstance(element, DType)
        self.is_float, self.bits = element.is_float, element.bits
        self.kind = e.scalar_type(element)
        self.is_fresh = starts_at_zero(op)
        self.lanes = e.cpu.vector_bits // element.bits

    def copy(self, source: _Matrix, target: _Matrix) -> None:
        """Copy the right factor, which has columns one after the other, tile by tile."""
        e, depth, columns = self.e, self.depth, self.columns
        size = math.gcd(self.lanes, depth, columns) if source.row == 1 else 1
        with e.loop("0", str(columns), size) as n, e.loop("0", str(depth), size) as k:
            read = self._element(source, k, n)
            lines = [
                self._load(read, i * source.column, size) for i in range(size)
            ]  # fmt: skip
            write = self._element(target, k, n)
            for i, line in enumerate(_transposed(e, lines, self.kind)):
                self._store(line, write, i * target.row, size)

    def emit(self, left: _Matrix, right: _Matrix, total: _Matrix) -> None:
        """All tiles."""
        # Half of 32 registers, in tiles that divide most blocks; of 16 registers three quarters.
        most = 16 if self.e.cpu.unroll > 2 else 12
        rows, vectors = _tile(self.rows, -(-self.columns // self.lanes), most)
        for n, width in self._steps(self.columns, vectors * self.lanes):
            for m, height in self._steps(self.rows, rows):
                self._tile(
                    self._element(left, m, "0"),
                    self._element(right, "0", n),
                    self._element(total, m, n),
                    height,
                    [min(self.lanes, width - at) for at in range(0, width, self.lanes)],
                    (left, right, total),
                )

    def _steps(self, extent: int, step: int) -> Iterator[tuple[str, int]]:
        """The starts and sizes of parts of `extent`: a loop over equal ones, and what remains."""
        main = extent // step * step
        if main == step:
            yield "0", step
        elif main:
            with self.e.loop("0", str(main), step) as index:
                yield index, step
        if main < extent:
            yield str(main), extent - main

    def _tile(
        self,
        left: str,
        right: str,
        total: str,
        height: int,
        widths: Sequence[int],
        matrices: tuple[_Matrix, _Matrix, _Matrix],
    ) -> None:
        """`height` rows by vectors of `widths`."""
        e = self.e
        by_left, by_right, by_total = matrices
        starts = [sum(widths[:i]) for i in range(len(widths))]
        places = [(i, v) for i in range(height) for v in range(len(widths))]
        slots = {(i, v): e.slot(f"<{widths[v]} x {self.kind}>") for i, v in places}
        for i, v in places:
            first = "zeroinitializer"
            if not self.is_fresh:
                first = self._load(total, i * by_total.row + starts[v], widths[v])
            e.line(f"store <{widths[v]} x {self.kind}> {first}, ptr {slots[i, v]}")

        def step(k: str, count: int) -> None:
            sums = {
                (i, v): e.emit(f"load <{widths[v]} x {self.kind}>, ptr {slots[i, v]}")
                for i, v in places
            }
            at_left = self._offset(left, k, by_left.column)
            at_right = self._offset(right, k, by_right.row)
            for u in range(count):
                line = [
                    self._load(at_right, u * by_right.row + start, width)
                    for start, width in zip(starts, widths, strict=True)
                ]
                for i in range(height):
                    factor = self._load(at_left, i * by_left.row + u * by_left.column, 0)
                    for v, width in enumerate(widths):
                        sums[i, v] = self._add_product(sums[i, v], factor, line[v], width)
            for i, v in places:
                e.line(f"store <{widths[v]} x {self.kind}> {sums[i, v]}, ptr {slots[i, v]}")

        for k, count in self._steps(self.depth, _UNROLL):
            step(k, count)
        for i, v in places:
            value = e.emit(f"load <{widths[v]} x {self.kind}>, ptr {slots[i, v]}")
            self._store(value, total, i * by_total.row + starts[v], widths[v])

    # ------------------------------------------------------------ instructions

    def _add_product(self, total: str, factor: str, line: str, width: int) -> str:
        e, kind = self.e, f"<{width} x {self.kind}>"
        first = e.emit(f"insertelement {kind} poison, {self.kind} {factor}, i32 0")
        zeros = f"<{width} x i32> zeroinitializer"
        repeated = e.emit(f"shufflevector {kind} {first}, {kind} poison, {zeros}")
        if not self.is_float:
            return e.emit(f"add {kind} {total}, {e.emit(f'mul {kind} {repeated}, {line}')}")
        operands = f"{kind} {repeated}, {kind} {line}, {kind} {total}"
        # Fused where the machine can: without the instruction a call would be slow.
        return e.emit(f"call {kind} @llvm.fmuladd.v{width}f{self.bits}({operands})")

    def _element(self, matrix: _Matrix, row: str, column: str) -> str:
        at_row = self._offset(matrix.start, row, matrix.row)
        return self._offset(at_row, column, matrix.column)

    def _offset(self, pointer: str, index: str, distance: int) -> str:
        """`index` times `distance` elements behind `pointer`."""
        if index == "0":
            return pointer
        e = self.e
        by = index if distance == 1 else e.emit(f"mul nuw nsw i64 {index}, {distance}")
        return e.emit(f"getelementptr {self.kind}, ptr {pointer}, i64 {by}")

    def _load(self, pointer: str, offset: int, width: int) -> str:
        """A vector, or an element where `width` is 0."""
        kind = f"<{width} x {self.kind}>" if width else self.kind
        where = self._offset(pointer, str(offset), 1)
        return self.e.emit(f"load {kind}, ptr {where}, align {self.bits // 8}")

    def _store(self, value: str, pointer: str, offset: int, width: int) -> None:
        where = self._offset(pointer, str(offset), 1)
        self.e.line(f"store <{width} x {self.kind}> {value}, ptr {where}, align {self.bits // 8}")


def _tile(rows: int, vectors: int, most: int) -> tuple[int, int]:
    """Rows and vectors of a tile of at most `most` vectors: two of them in a row, or as many as a
    product with few rows has room for.
    """
    wide = min(vectors, 2)
    if rows * wide >= most:
        return most // wide, wide
    return rows, min(vectors, most // rows)


def _transposed(e: CpuEmitter, lines: list[str], kind: str) -> list[str]:
    """The columns of a square of vectors, by exchanging ever larger parts of pairs of rows."""
    size = len(lines)
    vector = f"<{size} x {kind}>"
    distance = 1
    while distance < size:
        made = list(lines)
        for i in range(size):
            if i & distance:
                continue
            for half in (0, 1):
                # Lanes whose bit equals `half`, of both rows; the second row's where the bit is 1.
                mask = [
                    ((lane & ~distance) | (half * distance)) + (size if lane & distance else 0)
                    for lane in range(size)
                ]
                text = ", ".join(f"i32 {index}" for index in mask)
                made[i + half * distance] = e.emit(
                    f"shufflevector {vector} {lines[i]}, {vector} {lines[i + distance]}, "
                    f"<{size} x i32> <{text}>"
                )
        lines = made
        distance *= 2
    return lines
