"""Reductions inside a thread and inside a warp, read off the layout.

Registers that differ along the axis are combined by halving vectors, then lanes by butterfly
shuffles. What crosses warps has been split off by `lower_reductions`. Bits that hold replicas are
not combined: nothing is counted twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from blocklang.codegen.lower import lowers
from blocklang.ir.core import Block, Value
from blocklang.ir.op import Op
from blocklang.ir.ops.control import Yield
from blocklang.ir.ops.reduce import Reduce
from blocklang.ir.types import BlockType, Type, element_type

from .control import emit_ops
from .emitter import NvptxEmitter


@lowers(Reduce, on=("nvptx",))
def _(e: NvptxEmitter, op: Reduce) -> list[str]:
    block = op.inputs[0].type
    assert isinstance(block, BlockType)
    assert block.layout is not None
    elements: list[Type] = [element_type(v.type) for v in op.inputs]
    values, size = [e[v] for v in op.inputs], block.registers
    along = [i for i, basis in enumerate(block.layout.bases_of("register")) if basis[op.axis]]
    across = [i for i, basis in enumerate(block.layout.bases_of("register")) if not basis[op.axis]]
    # Reduced bits become the highest bits of the register number, so that halves are what is
    # combined.
    order = [_place(i, [*across, *along]) for i in range(size)]
    values = [
        e.shuffle(v, e.scalar_type(t), size, order) for v, t in zip(values, elements, strict=True)
    ]
    while size > 1 << len(across):
        half = size // 2
        low = [
            e.piece(v, e.scalar_type(t), size, 0, half)
            for v, t in zip(values, elements, strict=True)
        ]
        high = [
            e.piece(v, e.scalar_type(t), size, half, half)
            for v, t in zip(values, elements, strict=True)
        ]
        values, size = combine(e, op.regions[0].block, low, high, half), half
    for bit, basis in enumerate(block.layout.bases_of("lane")):
        if basis[op.axis] and not op.within_thread:
            others = [
                exchange(e, v, t, size, 1 << bit) for v, t in zip(values, elements, strict=True)
            ]
            values = combine(e, op.regions[0].block, values, others, size)
    if isinstance(op.results[0].type, BlockType):
        return values
    return [
        e.extract(v, f"<{size} x {e.scalar_type(t)}>", 0)
        for v, t in zip(values, elements, strict=True)
    ]


def _place(index: int, bits: Sequence[int]) -> int:
    """The number whose bit `bits[k]` is bit k of `index`."""
    return sum(1 << bit for k, bit in enumerate(bits) if index >> k & 1)


def combine(
    e: NvptxEmitter, block: Block, left: Sequence[str], right: Sequence[str], size: int
) -> list[str]:
    """The combination of two lists of vectors: the region's ops on whole vectors, or element by
    element.
    """
    outer = e.scalar_lanes
    if any(isinstance(op, Op) and op.regions for op in block.ops):
        return _combine_elements(e, block, left, right, size)
    captured = {v: e[v] for v in _captured(block)}
    e.scalar_lanes = size
    for value, name in captured.items():
        e.names[value] = e.splat(name, value.type)
    for argument, name in zip(block.arguments, [*left, *right], strict=True):
        e.names[argument] = name
    emit_ops(e, block)
    terminator = block.terminator
    assert isinstance(terminator, Yield)
    results = [e[v] for v in terminator.values]
    e.scalar_lanes = outer
    e.names.update(captured)
    return results


def _captured(block: Block) -> list[Value]:
    """The scalars from outside that the region uses: constants that were merged with others."""
    inside = {*block.arguments, *(result for op in block.ops for result in op.results)}
    used = dict.fromkeys(v for op in block.ops for v in op.operands)
    return [v for v in used if v not in inside]


def _combine_elements(
    e: NvptxEmitter, block: Block, left: Sequence[str], right: Sequence[str], size: int
) -> list[str]:
    """Regions with control flow: one element after the other."""
    kinds = [e.scalar_type(a.type) for a in block.arguments]
    columns: list[list[str]] = [[] for _ in left]
    for index in range(size):
        inputs = [
            e.extract(v, f"<{size} x {k}>", index)
            for v, k in zip([*left, *right], kinds, strict=True)
        ]
        for argument, name in zip(block.arguments, inputs, strict=True):
            e.names[argument] = name
        emit_ops(e, block)
        for column, value in zip(columns, block.terminator.operands, strict=True):
            column.append(e[value])
    return [e.build_vector(c, k) for c, k in zip(columns, kinds, strict=False)]


def exchange(e: NvptxEmitter, vector: str, element: Type, size: int, distance: int) -> str:
    """The vector of the lane whose number differs by XOR with `distance`."""
    call = "call i32 @llvm.nvvm.shfl.sync.bfly.i32(i32 -1, i32 {}, i32 " + f"{distance}, i32 31)"
    return through_words(e, vector, element, size, lambda word: e.emit(call.format(word)))


def through_words(
    e: NvptxEmitter, vector: str, element: Type, size: int, send: Callable[[str], str]
) -> str:
    """Apply `send` to the 32-bit words that hold a vector; narrow elements are packed, odd ones
    widened.
    """
    scalar = e.scalar_type(element)
    bits = element_type(element).bits
    kind = f"<{size} x {scalar}>"
    if scalar.startswith("ptr"):
        integers = e.emit(f"ptrtoint {kind} {vector} to <{size} x i64>")
        moved = _send(e, integers, f"<{size} x i64>", 64 * size, send)
        return e.emit(f"inttoptr <{size} x i64> {moved} to {kind}")
    if bits * size % 32:
        narrow = f"<{size} x i{bits}>"
        integers = vector if narrow == kind else e.emit(f"bitcast {kind} {vector} to {narrow}")
        wide = e.emit(f"zext {narrow} {integers} to <{size} x i32>")
        moved = _send(e, wide, f"<{size} x i32>", 32 * size, send)
        back = e.emit(f"trunc <{size} x i32> {moved} to {narrow}")
        return back if narrow == kind else e.emit(f"bitcast {narrow} {back} to {kind}")
    return _send(e, vector, kind, bits * size, send)


def _send(e: NvptxEmitter, vector: str, kind: str, bits: int, send: Callable[[str], str]) -> str:
    packed = f"<{bits // 32} x i32>"
    words = vector if packed == kind else e.emit(f"bitcast {kind} {vector} to {packed}")
    sent = [send(e.extract(words, packed, i)) for i in range(bits // 32)]
    moved = e.build_vector(sent, "i32")
    return moved if packed == kind else e.emit(f"bitcast {packed} {moved} to {kind}")
