"""How results leave: in copies that each warpgroup starts for its own part, and in pieces."""

from __future__ import annotations

from collections.abc import Iterable

from blocklang.ir.core import Operation
from blocklang.ir.layout import LinearLayout, is_one_run, pieces, warpgroup_steps
from blocklang.ir.ops.asynchronous import TensorMap, TmaStore, ToShared
from blocklang.ir.types import BlockType, SharedType

_LEAST_ROWS = 8
"""Rows whose swizzle begins anew behind them."""


def box_of_parts(op: TmaStore) -> tuple[int, ...] | None:
    """The box of copies in which each warpgroup can send what it holds of the block that `op`
    sends; None where there are no such boxes, or others read the buffer.
    """
    made, map = op.buffer.owner, op.map.owner
    assert isinstance(map, TensorMap)
    if not isinstance(made, ToShared) or len(made.results[0].uses) != 1:
        return None
    block = made.operand.type
    assert isinstance(block, BlockType)
    assert block.layout is not None
    steps = warpgroup_steps(block.layout)
    if steps is None:
        return None
    box = list(map.box)
    for which, step in steps:
        axis = map.axes.index(which)
        is_fastest = axis == len(box) - 1
        if step < (box[axis] if is_fastest else _LEAST_ROWS):
            return None
        box[axis] = min(box[axis], step)
    sizes = [block.shape[axis] for axis in map.axes]
    return tuple(box) if is_one_run(sizes, box) else None


def piece_of(op: ToShared, count: int) -> tuple[LinearLayout, SharedType] | None:
    """One of `count` pieces of what `op` puts into shared memory to be sent, along the axis of
    consecutive elements: its layout, and the buffer that holds it. None where pieces would be less
    than a copy wide, or threads do not have the same share of each.
    """
    sent = [user for user in op.results[0].users if isinstance(user, TmaStore)]
    box = box_of_parts(sent[0]) if sent else None
    if box is None:
        return None
    map, block, kind = sent[0].map.owner, op.operand.type, op.results[0].type
    assert isinstance(map, TensorMap)
    assert isinstance(block, BlockType)
    assert block.layout is not None
    assert isinstance(kind, SharedType)
    axis = map.axes[-1]
    held, stored = pieces(block.layout, axis, count), pieces(kind.layout, axis, count, "offset")
    if kind.shape[axis] // count < box[-1] or held is None or stored is None:
        return None
    return held.layout, SharedType(stored.layout.shape, kind.element, stored.layout, 1)


def send_in_smaller_pieces(ops: Iterable[Operation]) -> int:
    """Halve the largest buffer of a result that can be sent in two pieces, one after the other;
    return how many bytes that frees.
    """
    found = [op for op in ops if isinstance(op, ToShared) and piece_of(op, 2 * op.pieces)]
    if not found:
        return 0
    largest = max(found, key=lambda op: op.bytes)
    largest.attributes["pieces"] = 2 * largest.pieces
    return largest.bytes


def send_in_larger_pieces(ops: Iterable[Operation], free: int) -> int:
    """Let pieces become larger as long as they fit into `free` more bytes; return how many of these
    they take.
    """
    taken = 0
    for op in ops:
        while isinstance(op, ToShared) and op.pieces > 1 and op.bytes <= free - taken:
            taken += op.bytes
            op.attributes["pieces"] = op.pieces // 2
    return taken
