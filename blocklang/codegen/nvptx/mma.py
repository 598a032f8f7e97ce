"""Matrix products by the warp's tensor-core instructions (`mma.sync`).

A product of blocks is a sum over K of instruction tiles. Which registers of an operand a tile
consists of is found by coordinates: the fragment's layout says which element each of its registers
holds, relative to the tile, and the operand's layout which register has that element. Coordinates
beyond a block smaller than the tile repeat it along M and N, which gives equal results twice, and
are zero along K.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from blocklang.codegen.lower import lowers
from blocklang.codegen.targets import GpuTarget
from blocklang.ir.core import Value
from blocklang.ir.layout import LinearLayout, dot_operand, mma_accumulator, padded_shape
from blocklang.ir.ops.dot import Dot
from blocklang.ir.types import BlockType, DType, element_type

from .elements import layout_of
from .emitter import NvptxEmitter

Side = Literal["a", "b"]


@dataclass(frozen=True)
class Form:
    """One instruction: its name, the LLVM type of the words of operands and accumulators, and its
    extent along M, N and K.
    """

    name: str
    operand: str
    total: str
    shape: tuple[int, int, int]


_FLOAT8 = {"f8e4m3": "e4m3", "f8e5m2": "e5m2"}
_FORMS = {
    ("f16", "f32"): Form("m16n8k16.row.col.f32.f32", "<2 x half>", "float", (16, 8, 16)),
    ("f16", "f16"): Form("m16n8k16.row.col.f16.f16", "<2 x half>", "<2 x half>", (16, 8, 16)),
    ("bf16", "f32"): Form("m16n8k16.row.col.bf16", "i32", "float", (16, 8, 16)),
    ("f32", "f32"): Form("m16n8k8.row.col.tf32", "i32", "float", (16, 8, 8)),
    ("f64", "f64"): Form("m8n8k4.row.col.f64", "double", "double", (8, 8, 4)),
    ("i8", "i32"): Form("m16n8k32.row.col.s8", "i32", "i32", (16, 8, 32)),
    ("u8", "i32"): Form("m16n8k32.row.col.u8", "i32", "i32", (16, 8, 32)),
}


def has_float8_products(target: GpuTarget) -> bool:
    """Whether the target has the instructions for 8-bit floats, and its PTX version too."""
    return target.capability >= 89 and target.ptx >= 84


def _form(op: Dot) -> Form:
    names = [str(element_type(v.type)) for v in (op.a, op.b, op.acc)]
    if names[0] in _FLOAT8:
        left, right = _FLOAT8[names[0]], _FLOAT8[names[1]]
        return Form(f"m16n8k32.row.col.f32.{left}.{right}.f32", "i32", "float", (16, 8, 32))
    return _FORMS[names[0], names[2]]


def lower_mma(e: NvptxEmitter, op: Dot) -> str:
    """The product by tensor-core instructions, in the layouts that `map_dot` has chosen."""
    return _Product(e, op).run()


@lowers(Dot, on=("nvptx",))
def _(e: NvptxEmitter, op: Dot) -> str:
    assert op.instruction == "mma", f"{op.instruction} products are lowered before"
    return lower_mma(e, op)


class _Words:
    """The words of fragments of one block value."""

    def __init__(self, e: NvptxEmitter, value: Value, side: Side | None, word: str) -> None:
        assert isinstance(value.type, BlockType)
        assert isinstance(value.type.element, DType)
        self.e, self.value, self.word = e, value, word
        self.layout = layout_of(value)
        self.shape = padded_shape(value.type.shape)
        self.scalar = e.scalar_type(value.type)
        self.per_word = 2 if word == "<2 x half>" else max(1, 32 // value.type.element.bits)
        if side is None:
            self.per_word = 2 if word == "<2 x half>" else 1
        self.size = self.layout.in_size("register")
        self.holders = _holders(self.layout)
        # The axis along which what lies outside the block is zero.
        self.depth_axis = {"a": -1, "b": -2, None: None}[side]
        self.packed = ""

    def registers(self, tile: LinearLayout, base: Sequence[int]) -> list[int | None]:
        """The register for each of a fragment's; None where that is zero."""
        found: list[int | None] = []
        for index in range(tile.in_size("register")):
            inner = tile.apply(register=index)
            at = [*base[:-2], base[-2] + inner[0], base[-1] + inner[1]]
            axis = self.depth_axis
            if axis is not None and at[axis] >= self.shape[axis]:
                found.append(None)
                continue
            at = [c % n for c, n in zip(at, self.shape, strict=True)]
            found.append(self.holders[tuple(at)])
        return found

    def words(self, tile: LinearLayout, base: Sequence[int]) -> list[str]:
        """The words of the fragment that starts at `base`."""
        registers = self.registers(tile, base)
        groups = [registers[i : i + self.per_word] for i in range(0, len(registers), self.per_word)]
        words = [self._word(group) for group in groups]
        outside = self._lanes_outside(tile)
        if not outside:
            return words
        bits = self.e.emit(f"and i32 %tid, {outside}")
        inside = self.e.emit(f"icmp eq i32 {bits}, 0")
        zero = f"{self.word} {_zero(self.word)}"
        return [self.e.emit(f"select i1 {inside}, {self.word} {w}, {zero}") for w in words]

    def _lanes_outside(self, tile: LinearLayout) -> int:
        """The lane bits that only number what lies outside the block along K."""
        axis = self.depth_axis
        if axis is None:
            return 0
        depths = [basis[axis] for basis in tile.bases_of("lane")]
        return sum(1 << bit for bit, k in enumerate(depths) if k >= self.shape[axis])

    def _word(self, group: list[int | None]) -> str:
        """One word: a piece of the packed vector where the registers are neighbours."""
        e, first, count = self.e, group[0], self.per_word
        vector = f"<{self.size} x {self.scalar}>"
        if count == 1:
            if first is None:
                return _zero(self.word)
            return self._as_word(e.extract(e[self.value], vector, first), self.scalar)
        if first is not None and group == list(range(first, first + count)) and first % count == 0:
            kind = f"<{self.size // count} x i32>"
            if not self.packed:
                self.packed = e.emit(f"bitcast {vector} {e[self.value]} to {kind}")
            return self._as_word(e.extract(self.packed, kind, first // count), "i32")
        zero = _zero(self.scalar)
        pieces = [zero if r is None else e.extract(e[self.value], vector, r) for r in group]
        made = e.build_vector(pieces, self.scalar)
        return self._as_word(made, f"<{count} x {self.scalar}>")

    def _as_word(self, name: str, kind: str) -> str:
        return name if kind == self.word else self.e.emit(f"bitcast {kind} {name} to {self.word}")


def _zero(kind: str) -> str:
    """Zero of an LLVM type."""
    if kind.startswith("<"):
        return "zeroinitializer"
    short = {"half": "0xH0000", "bfloat": "0xR0000"}
    return "0" if kind.startswith("i") else short.get(kind, "0.0")


@lru_cache(maxsize=1024)
def _holders(layout: LinearLayout) -> dict[tuple[int, ...], int]:
    """The register of each element that thread 0 has."""
    found: dict[tuple[int, ...], int] = {}
    for register in range(layout.in_size("register")):
        found.setdefault(layout.apply(register=register), register)
    return found


class _Product:
    """The instructions of one product."""

    def __init__(self, e: NvptxEmitter, op: Dot) -> None:
        self.e, self.op, self.form = e, op, _form(op)
        rows, columns, depth = self.form.shape
        a, total = op.a.type, op.acc.type
        assert isinstance(a, BlockType)
        assert isinstance(total, BlockType)
        assert isinstance(a.element, DType)
        self.shape = padded_shape(total.shape)
        self.depth = padded_shape(a.shape)[-1]
        bits = a.element.bits
        self.tiles = {
            "a": dot_operand("a", (rows, depth), (1, 1), bits),
            "b": dot_operand("b", (depth, columns), (1, 1), bits),
        }
        self.total_tile = mma_accumulator((rows, columns), (1, 1), rows)
        self.a = _Words(e, op.a, "a", self._loaded_type())
        self.b = _Words(e, op.b, "b", self._loaded_type())
        self.total = _Words(e, op.acc, None, self.form.total)
        self.is_tf32 = bits == 32
        self.parts = 2 if self.is_tf32 and op.precision == "tf32x3" else 1

    def _loaded_type(self) -> str:
        is_single = str(element_type(self.op.a.type)) == "f32"
        return "float" if is_single else self.form.operand

    def run(self) -> str:
        rows, columns, depth = self.form.shape
        batch = _register_steps(self.total.layout, 0, 1) if len(self.shape) == 3 else [None]
        downs = _register_steps(self.total.layout, -2, rows)
        acrosses = _register_steps(self.total.layout, -1, columns)
        places = [
            (*(() if b is None else (b,)), m, n) for b in batch for m in downs for n in acrosses
        ]
        totals = {at: self.total.words(self.total_tile, at) for at in places}
        start = totals
        steps = range(0, max(self.depth, depth), depth)
        exact = self._steps_before_sum()
        for number, k in enumerate(steps):
            if exact and number % exact == 0:
                zero = {at: [_zero(self.form.total)] * len(w) for at, w in totals.items()}
                start, totals = totals, zero
            self._step(totals, k)
            if exact and (number % exact == exact - 1 or number == len(steps) - 1):
                totals = {
                    at: [
                        self.e.emit(f"fadd float {x}, {y}")
                        for x, y in zip(start[at], w, strict=True)
                    ]
                    for at, w in totals.items()
                }
        return self._result(totals)

    def _steps_before_sum(self) -> int:
        """After how many instructions along K the tensor core's sum joins the accumulator; 0: it
        is the accumulator.
        """
        if not self.op.max_imprecise or str(element_type(self.op.a.type)) not in _FLOAT8:
            return 0
        return max(1, self.op.max_imprecise // self.form.shape[2])

    def _step(self, totals: dict[tuple[int, ...], list[str]], k: int) -> None:
        """All instructions at depth `k`."""
        left: dict[tuple[int, ...], list[list[str]]] = {}
        right: dict[tuple[int, ...], list[list[str]]] = {}
        for at in totals:
            row, column = (*at[:-1], k), (*at[:-2], k, at[-1])
            if row not in left:
                left[row] = self._operand(self.a, "a", row)
            if column not in right:
                right[column] = self._operand(self.b, "b", column)
            x, y = left[row], right[column]
            # The small products first: they are lost in a large sum.
            products = [(1, 0), (0, 1), (0, 0)] if self.parts == 2 else [(0, 0)]
            for i, j in products:
                totals[at] = self._instruction(x[i], y[j], totals[at])

    def _operand(self, words: _Words, side: Side, at: tuple[int, ...]) -> list[list[str]]:
        """The words of a fragment: of its rounded values, and of what rounding has left."""
        found = words.words(self.tiles[side], at)
        if not self.is_tf32:
            return [found]
        high = [self.e.round_to_tf32(word) for word in found]
        if self.parts == 1:
            return [high]
        e = self.e
        rests = []
        for word, rounded in zip(found, high, strict=True):
            value = e.emit(f"bitcast i32 {rounded} to float")
            rests.append(e.round_to_tf32(e.emit(f"fsub float {word}, {value}")))
        return [high, rests]

    def _instruction(self, a: list[str], b: list[str], total: list[str]) -> list[str]:
        e, form = self.e, self.form
        operands = [
            *(f"{form.operand} {w}" for w in (*a, *b)),
            *(f"{form.total} {w}" for w in total),
        ]
        kind = "{" + ", ".join([form.total] * len(total)) + "}"
        made = e.emit(f"call {kind} @llvm.nvvm.mma.{form.name}({', '.join(operands)})")
        return [e.emit(f"extractvalue {kind} {made}, {i}") for i in range(len(total))]

    def _result(self, totals: dict[tuple[int, ...], list[str]]) -> str:
        e, scalars = self.e, [""] * self.total.size
        for at, words in totals.items():
            registers = self.total.registers(self.total_tile, at)
            for index, register in enumerate(registers):
                assert register is not None
                if scalars[register]:
                    continue
                word = words[index // self.total.per_word]
                if self.total.per_word == 2:
                    word = e.extract(word, self.form.total, index % 2)
                scalars[register] = word
        return e.build_vector(scalars, self.total.scalar)


def _register_steps(layout: LinearLayout, axis: int, tile: int) -> list[int]:
    """The coordinates along `axis`, in steps of whole tiles, that a thread's registers have."""
    found = {
        layout.apply(register=r)[axis] // tile * tile for r in range(layout.in_size("register"))
    }
    return sorted(found)
