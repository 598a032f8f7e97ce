"""Matrix products by warpgroups: instructions m64nNkK on tiles in shared memory.

The accumulators of an op are one LLVM vector, taken apart before its first instruction and put
together behind its last one. Where an operand lies follows from its layout, which must be one of
`shared_tile`; the parts of an address that threads do not change are one constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from blocklang.codegen.lower import lowers
from blocklang.ir.core import Result, Value
from blocklang.ir.layout import (
    WARP_BITS_OF_GROUP,
    LinearLayout,
    shared_tile,
    wgmma_accumulator,
    wgmma_operand_a,
)
from blocklang.ir.ops.asynchronous import ComputeHere, Wgmma, WgmmaBegin, WgmmaWait
from blocklang.ir.ops.program import constant_value
from blocklang.ir.types import BlockType, DType, PendingType, SharedType, element_type

from .emitter import SHARED, NvptxEmitter

_ROWS = 64
_WORD_BITS = 32
_TYPES = {
    "f16": "f16", "bf16": "bf16", "f32": "tf32", "f8e4m3": "e4m3", "f8e5m2": "e5m2",
    "i8": "s8", "u8": "u8",
}  # fmt: skip
_SWIZZLE_MODES = {128: 1, 64: 2, 32: 3}
_ADDRESS = 0x3FFFF
"""The bits of an address that are the place in shared memory."""
_FEATURE = "has_warpgroups"

# ---------------------------------------------------------------- tiles in shared memory


@dataclass(frozen=True)
class Tile:
    """A matrix in shared memory, for the instruction: rows of `swizzle` bytes along the fastest
    axis, `panel` bytes from one panel of such rows to the next.
    """

    fastest: int
    swizzle: int
    panel: int
    element_bytes: int

    def byte(self, coordinates: Sequence[int]) -> int:
        """Where the element at the coordinates is, swizzling apart, which addresses do."""
        panel, within = divmod(coordinates[self.fastest] * self.element_bytes, self.swizzle)
        return panel * self.panel + coordinates[1 - self.fastest] * self.swizzle + within

    def header(self, k: int) -> int:
        """The constant part of a descriptor; `k` is the axis of the products' sum.

        Groups of 8 rows follow each other. From panel to panel the instruction steps only where
        rows run along K; else its own step along K stays inside a panel.
        """
        step = 16 if self.fastest == k else self.panel
        return _SWIZZLE_MODES[self.swizzle] << 62 | (8 * self.swizzle >> 4) << 32 | step >> 4 << 16


@lru_cache(maxsize=1024)
def find_tile(shape: tuple[int, ...], layout: LinearLayout, element_bits: int) -> Tile:
    """The tile that has `layout`. ValueError if there is none."""
    for fastest in (0, 1):
        order = (fastest, 1 - fastest)
        for swizzle in _SWIZZLE_MODES:
            is_wide = shape[fastest] * element_bits >= 8 * swizzle
            if is_wide and layout == shared_tile(shape, order, element_bits, swizzle):
                return Tile(fastest, swizzle, shape[1 - fastest] * swizzle, element_bits // 8)
    raise ValueError(f"no warpgroup can read {layout} with elements of {element_bits} bits")


# ---------------------------------------------------------------- accumulators


@dataclass(frozen=True)
class Instruction:
    """The warps along M and N, and the columns of the instruction that has an accumulator; with
    `is_swapped` it multiplies the transposed factors, and M runs along the result's columns.
    """

    warps: tuple[int, int]
    columns: int
    is_swapped: bool


@lru_cache(maxsize=1024)
def find_instruction(layout: LinearLayout) -> Instruction:
    """The instruction of as many columns as possible whose accumulators have `layout`. ValueError
    if there is none.
    """
    count = layout.in_size("warp")
    for is_swapped in (False, True):
        wanted = layout.permute((1, 0)) if is_swapped else layout
        shape = wanted.shape[0], wanted.shape[1]
        for bits in range(count.bit_length() - WARP_BITS_OF_GROUP):
            warps = count >> bits, 1 << bits
            columns = min(256, shape[1])
            while columns >= 8:
                if wanted == wgmma_accumulator(shape, warps, columns):
                    return Instruction(warps, columns, is_swapped)
                columns //= 2
    raise ValueError(f"{layout} is no accumulator of warpgroups")


def _block(value: Value) -> BlockType:
    kind = value.type.block if isinstance(value.type, PendingType) else value.type
    assert isinstance(kind, BlockType)
    return kind


@dataclass(frozen=True)
class Words:
    """How the registers of a block are passed: as they are, or several in one word."""

    constraint: str
    kind: str
    count: int
    vector: str

    @staticmethod
    def of(e: NvptxEmitter, block: BlockType) -> Words:
        """The words of a block's vector."""
        scalar, kind = e.scalar_type(block), e.type(block)
        bits = element_type(block).bits
        if scalar == "float":
            return Words("f", scalar, block.registers, kind)
        assert block.registers * bits % _WORD_BITS == 0, f"{block} has no whole words"
        return Words("r", "i32", block.registers * bits // _WORD_BITS, kind)

    @property
    def packed(self) -> str:
        """The vector of words."""
        return f"<{self.count} x {self.kind}>"

    def split(self, e: NvptxEmitter, vector: str) -> list[str]:
        """The words of a vector."""
        if self.packed != self.vector:
            vector = e.emit(f"bitcast {self.vector} {vector} to {self.packed}")
        return [e.extract(vector, self.packed, i) for i in range(self.count)]

    def join(self, e: NvptxEmitter, words: Sequence[str]) -> str:
        """The vector of the words."""
        vector = e.build_vector(words, self.kind)
        if self.packed == self.vector:
            return vector
        return e.emit(f"bitcast {self.packed} {vector} to {self.vector}")


# ---------------------------------------------------------------- instructions


class _Products:
    """The instructions of one op, as one piece of inline PTX: the accumulators, of which there are
    up to 256 words, pass through LLVM once for all of them.
    """

    def __init__(
        self, e: NvptxEmitter, acc: BlockType, factors: tuple[Value, Value], columns: int,
        words: Words,
    ) -> None:  # fmt: skip
        self.e, self.words = e, words
        kinds = [element_type(factor.type) for factor in factors]
        assert all(isinstance(kind, DType) for kind in kinds)
        bits = kinds[0].bits
        self.depth = 256 // bits
        self.registers = columns // 2  # of one m64 block in one thread
        self.count = self.registers * element_type(acc).bits // _WORD_BITS
        names = [_TYPES[str(kind)] for kind in kinds]
        result = {"f32": "f32", "f16": "f16", "i32": "s32"}[str(acc.element)]
        form = f"m64n{columns}k{self.depth}.{result}.{'.'.join(names)}"
        self.name = f"wgmma.mma_async.sync.aligned.{form}"
        # Integers have no signs of operands, and only 16-bit elements may run along M or N.
        self.tail = "" if result == "s32" else ", 1, 1"
        self.may_transpose = bits == 16
        # Addresses come first, so that nothing stands between the instructions.
        self.addresses: dict[str, str] = {}
        self.lines: list[str] = []
        self.operands: dict[tuple[str, str], int] = {}

    def start(self, acc: Sequence[str] | None, accumulate: str | None) -> None:
        """The words of all accumulators (None: they count as zero)."""
        self.acc = acc
        # Tied operands have numbers of their own.
        self.first = self.words.count * (1 if acc is None else 2)
        self.accumulate = None if accumulate is None else self.operand("b", accumulate)

    def operand(self, constraint: str, value: str) -> str:
        """The number of an operand."""
        number = self.operands.setdefault((constraint, value), self.first + len(self.operands))
        return f"${number}"

    def descriptor(self, base: str, constant: int) -> str:
        """The register of a descriptor: a base plus a constant."""
        source = self.operand("l", base)
        name = f"d{len(self.addresses)}"
        text = f"{source}, {constant}"
        return self.addresses.setdefault(text, name)

    def add(
        self, number: int, a: str | Sequence[str], b: str, are_transposed: tuple[bool, bool],
        is_first: bool,
    ) -> None:  # fmt: skip
        """One instruction on accumulator block `number`; `a` is a descriptor or the four words of a
        fragment. `are_transposed` are those that do not run along K.
        """
        assert self.may_transpose or not any(are_transposed), "factors must run along K"
        start = number * self.count
        results = ", ".join(f"${start + i}" for i in range(self.count))
        tail = self.tail
        if isinstance(a, str):
            left = a
            tail += f", {int(are_transposed[0])}" if self.may_transpose else ""
        else:
            left = f"{{{', '.join(self.operand('r', word) for word in a)}}}"
        tail += f", {int(are_transposed[1])}" if self.may_transpose else ""
        predicate = "true"
        if is_first:
            predicate = "false" if self.acc is None else self.accumulate or "true"
        self.lines.append(f"{self.name} {{{results}}}, {left}, {b}, {predicate}{tail};")

    def finish(self) -> list[str]:
        """Emit everything; the words of the results."""
        kind, constraint = self.words.kind, self.words.constraint
        head = [".reg .pred true, false;", "setp.ne.b32 true, 1, 0;", "setp.ne.b32 false, 0, 0;"]
        if self.addresses:
            head.append(f".reg .b64 {', '.join(self.addresses.values())};")
        head += [f"add.s64 {name}, {text};" for text, name in self.addresses.items()]
        operands = [(str(i), kind, word) for i, word in enumerate(self.acc or ())]
        kinds = {"b": "i1", "l": "i64", "r": "i32"}
        operands += [(form, kinds[form], value) for form, value in self.operands]
        text = "\\0A".join(["{", *head, *self.lines, "}"])
        # The first instruction's results are written before the last one's operands are read.
        return self.e.assembly(text, [(f"&{constraint}", kind)] * self.words.count, operands)


def _base(e: NvptxEmitter, buffer: Value, tile: Tile, groups: Sequence[Sequence[int]]) -> str:
    """The descriptor of a buffer's first element without its constant part, for this warpgroup,
    whose tile starts at the sum of the `groups` (coordinates) that its number's bits select.
    """
    address = e.emit(f"ptrtoint {SHARED} {e[buffer]} to i32")
    base = e.emit(f"lshr i32 {address}, 4")
    if e.num_ctas > 1:
        # In a cluster, an address also says whose shared memory it is: in bits that would fall into
        # the step from panel to panel.
        base = e.emit(f"and i32 {base}, {_ADDRESS >> 4}")
    shifts: dict[int, int] = {}
    for bit, coordinates in enumerate(groups, WARP_BITS_OF_GROUP):
        step = tile.byte(coordinates) >> 4
        if step:
            assert step & (step - 1) == 0, "steps are powers of two"
            shift = step.bit_length() - 1 - bit
            shifts[shift] = shifts.get(shift, 0) | 1 << bit
    for shift, mask in shifts.items():
        part = e.emit(f"and i32 %warp, {mask}")
        if shift:
            part = e.emit(f"{'shl' if shift > 0 else 'lshr'} i32 {part}, {abs(shift)}")
        base = e.emit(f"add i32 {base}, {part}")
    return e.emit(f"zext i32 {base} to i64")


class _Shared:
    """Descriptors of an operand in shared memory whose axis `k` is K; `groups` are the rows (or
    columns) that the bits of a warpgroup's number stand for.
    """

    def __init__(self, e: NvptxEmitter, value: Value, k: int, groups: Sequence[int]) -> None:
        kind = value.type
        assert isinstance(kind, SharedType)
        self.e, self.k = e, k
        self.tile = find_tile(kind.shape, kind.layout, kind.element.bits)
        header = self.tile.header(k)
        base = _base(e, value, self.tile, [self.at(each, 0) for each in groups])
        signed = header - (1 << 64) if header >> 63 else header
        self.base = e.emit(f"or disjoint i64 {base}, {signed}")

    def at(self, outer: int, depth: int) -> tuple[int, int]:
        """Coordinates from those along M or N, and along K."""
        return (outer, depth) if self.k == 1 else (depth, outer)

    @property
    def is_transposed(self) -> bool:
        """Whether the tile runs along M or N, not along K."""
        return self.tile.fastest != self.k

    def byte(self, outer: int, depth: int) -> int:
        """Where the tile starts that is at these coordinates, behind the first one."""
        return self.tile.byte(self.at(outer, depth))


class _Registers:
    """Fragments of operand `a` in registers; float32 is rounded to tf32 there."""

    def __init__(self, e: NvptxEmitter, value: Value, warps: tuple[int, int]) -> None:
        block = _block(value)
        layout = block.layout
        bits = element_type(block).bits
        assert layout is not None
        expected = wgmma_operand_a((layout.shape[0], layout.shape[1]), warps, bits)
        assert layout == expected, f"{layout} is no operand of warpgroups"
        vector, packed = e[value], f"<{block.registers * bits // _WORD_BITS} x i32>"
        if packed != e.type(block):
            vector = e.emit(f"bitcast {e.type(block)} {vector} to {packed}")
        count = block.registers * bits // _WORD_BITS
        self.words = [e.extract(vector, packed, i) for i in range(count)]
        if str(element_type(block)) == "f32":
            self.words = [e.round_to_tf32(e.emit(f"bitcast i32 {w} to float")) for w in self.words]
        step = 4 * _WORD_BITS // bits
        self.starts = {
            layout.apply(register=r): r * bits // _WORD_BITS
            for r in range(0, block.registers, step)
        }

    def fragment(self, row: int, depth: int) -> list[str]:
        """The words of the fragment that starts there."""
        start = self.starts[row, depth]
        return self.words[start : start + 4]


@lowers(Wgmma, on=("nvptx",), feature=_FEATURE)
def _(e: NvptxEmitter, op: Wgmma) -> str:
    block = _block(op.acc)
    layout = block.layout
    assert layout is not None
    found = find_instruction(layout)
    # The instruction's factors, each with its axis K, and the result's axes M and N.
    factors, depths, axes = (op.a, op.b), (1, 0), (0, 1)
    if found.is_swapped:
        factors, depths, axes = (op.b, op.a), (0, 1), (1, 0)
    groups = layout.bases_of("warp")[WARP_BITS_OF_GROUP:]
    words = Words.of(e, block)
    b = _Shared(e, factors[1], depths[1], [basis[axes[1]] for basis in groups])
    a = (
        _Shared(e, factors[0], depths[0], [basis[axes[0]] for basis in groups])
        if isinstance(factors[0].type, SharedType)
        else _Registers(e, factors[0], found.warps)
    )
    products = _Products(e, block, factors, found.columns, words)
    are_transposed = isinstance(a, _Shared) and a.is_transposed, b.is_transposed
    acc = None if _is_nothing(op) else words.split(e, e[op.acc])
    products.start(acc, None if op.accumulate is None else e[op.accumulate])
    # Each m64 block of accumulators is a chain of its own; the chains take turns.
    blocks = range(0, words.count, products.count)
    origins = [layout.apply(register=i * products.registers) for i in range(len(blocks))]
    for depth in range(0, op.b.type.shape[0], products.depth):  # type: ignore[union-attr]
        for number, origin in enumerate(origins):
            m, n = (origin[axis] for axis in axes)
            left: str | Sequence[str]
            if isinstance(a, _Shared):
                left = products.descriptor(a.base, a.byte(m, depth) >> 4)
            else:
                left = a.fragment(m, depth)
            right = products.descriptor(b.base, b.byte(n, depth) >> 4)
            products.add(number, left, right, are_transposed, depth == 0)
    e.line("call void @llvm.nvvm.wgmma.fence.sync.aligned()")
    made = products.finish()
    e.line("call void @llvm.nvvm.wgmma.commit_group.sync.aligned()")
    return words.join(e, made)


def _is_nothing(op: Wgmma) -> bool:
    """The accumulator is known to count as zero before the first product."""
    made_by = op.acc.op if isinstance(op.acc, Result) else None
    if isinstance(made_by, WgmmaBegin):
        return made_by.value is None or constant_value(made_by.value) == 0
    return constant_value(op.acc) == 0


@lowers(WgmmaBegin, on=("nvptx",), feature=_FEATURE)
def _(e: NvptxEmitter, op: WgmmaBegin) -> str:
    return "poison" if op.value is None else e[op.value]


@lowers(ComputeHere, on=("nvptx",), feature=_FEATURE)
def _(e: NvptxEmitter, op: ComputeHere) -> list[str]:
    """An instruction that does nothing but have them."""
    operands = [(str(i), "i32", e[value]) for i, value in enumerate(op.values)]
    return e.assembly("", [("r", "i32")] * len(operands), operands)


@lowers(WgmmaWait, on=("nvptx",), feature=_FEATURE)
def _(e: NvptxEmitter, op: WgmmaWait) -> list[str]:
    """All values go through the instruction, so that nothing that reads or overwrites them can be
    moved before it.
    """
    forms = [Words.of(e, _block(value)) for value in op.values]
    words = [
        (form, word)
        for form, value in zip(forms, op.values, strict=True)
        for word in form.split(e, e[value])
    ]
    made = e.assembly(
        f"wgmma.wait_group.sync.aligned {op.groups};",
        [(form.constraint, form.kind) for form, _ in words],
        [(str(i), form.kind, word) for i, (form, word) in enumerate(words)],
        memory=True,
    )
    joined, start = [], 0
    for form in forms:
        joined.append(form.join(e, made[start : start + form.count]))
        start += form.count
    return joined
