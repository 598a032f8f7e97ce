"""map-dot: chooses how each matrix product is done that has no instruction yet.

"mma" is the warp's tensor-core instruction, where the target has it for the element types; "fma"
multiplies and adds element by element. The products of one loop have one spread of the warps along
M and N: that which makes each warp read least, unless a product takes the result of another as its
left operand; then the warps split M alone, so that each has its rows in both.

`layout` is the accumulator's layout, which `assign_layouts` makes true; `dot_operand_layout` says
what it must make of the operands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from blocklang.ir.core import Block, Function, Module, Result, Value
from blocklang.ir.layout import (
    WARP_SIZE,
    LinearLayout,
    blocked,
    dot_operand,
    mma_accumulator,
    padded_shape,
    wgmma_operand_a,
)
from blocklang.ir.ops.asynchronous import SharedView, ToShared
from blocklang.ir.ops.dot import Dot
from blocklang.ir.ops.elementwise import Elementwise
from blocklang.ir.ops.program import Hint
from blocklang.ir.ops.shape import Broadcast, ConvertLayout, ExpandDims, Permute, Reshape
from blocklang.ir.types import BlockType, DType, element_type, shape_of

from .manager import Pass

_COLUMNS = 8
_LEAST_CAPABILITY = {
    ("f16", "f32"): 80, ("f16", "f16"): 80, ("bf16", "f32"): 80, ("f32", "f32"): 80,
    ("f64", "f64"): 80, ("i8", "i32"): 80, ("u8", "i32"): 80,
    ("f8e4m3", "f32"): 89, ("f8e5m2", "f32"): 89,
}  # fmt: skip
"""From which capability on elements of two types are multiplied and summed by `mma`."""


_MOVES = (
    ConvertLayout, Elementwise, Hint, Permute, Reshape, Broadcast, ExpandDims, ToShared, SharedView,
)  # fmt: skip


@dataclass(frozen=True)
class MapDot(Pass):
    """Choose instruction, warps and layout of products for a GPU of a capability (80 for sm_80);
    `float8` says that 8-bit floats can be multiplied.
    """

    capability: int = 80
    float8: bool = False
    name: ClassVar[str] = "map-dot"

    def _run(self, module: Module) -> None:
        for function in module.functions.values():
            groups: dict[Block, list[Dot]] = {}
            for op in function.walk():
                if isinstance(op, Dot) and not op.instruction:
                    assert op.parent is not None
                    groups.setdefault(op.parent, []).append(op)
            for dots in groups.values():
                _map_together(dots, function, self)


def has_mma(element: DType, accumulator: DType, capability: int, float8: bool) -> bool:
    """Whether GPUs of `capability`, with products of 8-bit floats or without, have tensor-core
    instructions for products of `element` that are summed in `accumulator`.
    """
    if element.is_float8 and not float8:
        return False
    return capability >= _LEAST_CAPABILITY.get((element.name, accumulator.name), 1 << 30)


def feeds_product(value: Value) -> bool:
    """Whether a value becomes a factor of a product by conversions, elementwise ops and moves."""
    pending, seen = [value], set()
    while pending:
        each = pending.pop()
        for user, index in each.uses:
            if isinstance(user, Dot) and index < 2:
                return True
            if isinstance(user, _MOVES) and user not in seen:
                seen.add(user)
                pending += user.results
    return False


def _map_together(dots: Sequence[Dot], function: Function, target: MapDot) -> None:
    """Map the products of one block."""
    num_warps = int(function.attributes["num_warps"])
    largest = max(dots, key=lambda op: _size(shape_of(op.acc.type)))
    shape = padded_shape(shape_of(largest.acc.type))
    batch = min(shape[0], num_warps) if len(shape) == 3 else 1
    chained = any(_feeds(first, second) for first in dots for second in dots)
    along = _split(shape[-2], shape[-1], num_warps // batch, chained)
    for op in dots:
        block = op.acc.type
        assert isinstance(block, BlockType)
        assert isinstance(block.element, DType)
        element = element_type(op.a.type)
        assert isinstance(element, DType)
        exact = op.precision == "ieee" and element.bits == 32
        possible = has_mma(element, block.element, target.capability, target.float8)
        op.instruction = "mma" if possible and not exact else "fma"
        batches = padded_shape(block.shape)[0] if block.rank == 3 else 1
        # A smaller batch than that of the largest product leaves warps that repeat rows.
        spare = batch // min(batch, batches)
        op.warps = (along[0] * spare, along[1])
        if block.rank == 3:
            op.warps = (min(batch, batches), *op.warps)
        op.layout = _accumulator(op, padded_shape(block.shape))


def _size(shape: Sequence[int]) -> int:
    size = 1
    for each in shape:
        size *= each
    return size


def _feeds(first: Dot, second: Dot) -> bool:
    """Whether the left operand of `second` is computed from the result of `first` in one block."""
    pending: list[Value] = [second.a]
    seen: set[Value] = set()
    while pending:
        value = pending.pop()
        if value is first.results[0]:
            return True
        if value in seen or not isinstance(value, Result) or value.op.parent is not first.parent:
            continue
        seen.add(value)
        pending += value.op.operands
    return False


def _split(rows: int, columns: int, num_warps: int, chained: bool) -> tuple[int, int]:
    """Warps along M and N."""
    if chained:
        along = max(1, min(num_warps, rows // 16))
        return along, num_warps // along

    def cost(warps: tuple[int, int]) -> tuple[int, int]:
        tile = max(rows // warps[0], 16), max(columns // warps[1], _COLUMNS)
        return tile[0] * tile[1], tile[0] + tile[1]

    splits = [(1 << bit, num_warps >> bit) for bit in range(num_warps.bit_length())]
    return min(splits, key=cost)


# ---------------------------------------------------------------- layouts


def _accumulator(op: Dot, shape: tuple[int, ...]) -> LinearLayout:
    rows, columns = shape[-2:]
    warps = op.warps[-2], op.warps[-1]
    if op.instruction == "mma":
        kind = element_type(op.acc.type)
        assert isinstance(kind, DType)
        matrix = mma_accumulator((rows, columns), warps, 8 if kind.bits == 64 else 16)
    else:
        matrix = _spread_out((rows, columns), warps)
    return _packed(_batched(matrix, op, shape))


def _spread_out(shape: tuple[int, int], warps: tuple[int, int]) -> LinearLayout:
    """Up to 4 x 4 neighbouring elements a thread, which read rows and columns only once; the lanes
    share what their warp computes so that each reads least and no two compute the same.
    """
    threads = WARP_SIZE * warps[0] * warps[1]
    each = max(1, shape[0] * shape[1] // threads)
    across = min(4, each, shape[1])
    down = min(4, each // across, shape[0])
    rows, columns = shape[0] // warps[0], shape[1] // warps[1]

    def read(lanes: int) -> int:
        return max(down, rows * lanes // WARP_SIZE) + max(across, columns // lanes)

    lanes = min((8, 4, 2, 1, 16, 32), key=read)
    return blocked(shape, (down, across), (WARP_SIZE // lanes, lanes), warps, (1, 0))


def _batched(matrix: LinearLayout, op: Dot, shape: tuple[int, ...]) -> LinearLayout:
    """The layout of one matrix for each of a batch: warps first, then registers."""
    if len(shape) == 2:
        return matrix
    steps = [(1 << bit, 0, 0) for bit in range(shape[0].bit_length() - 1)]
    split = op.warps[0].bit_length() - 1
    batch = LinearLayout.of((shape[0], 1, 1), warp=steps[:split], register=steps[split:])
    return matrix.expand_dims(0).product(batch)


def _packed(layout: LinearLayout) -> LinearLayout:
    return layout.remove_zero_bases("register")[0]


def dot_operand_layout(op: Dot, index: int) -> LinearLayout | None:
    """The layout in which a product needs operand number `index` (0: a, 1: b, 2: acc); None where
    any will do.
    """
    if index == 2:
        return op.layout
    value = op.operands[index]
    if not isinstance(value.type, BlockType) or op.instruction == "fma":
        return None
    assert isinstance(value.type.element, DType)
    bits = value.type.element.bits
    shape = padded_shape(value.type.shape)
    matrix = shape[-2], shape[-1]
    warps = op.warps[-2], op.warps[-1]
    if op.instruction == "wgmma":
        return _packed(wgmma_operand_a(matrix, warps, bits))
    layout = dot_operand("a" if index == 0 else "b", matrix, warps, bits)
    return _packed(_batched(layout, op, shape))
