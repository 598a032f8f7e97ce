"""What `prove-rings` checks of blocks that warpgroups send by themselves.

No barrier of all threads orders what a warpgroup stores and sends: that is right if its part of
the buffer is its own.
"""

from __future__ import annotations

from blocklang.ir.core import Block, Function
from blocklang.ir.layout import WARP_BITS_OF_GROUP, LinearLayout
from blocklang.ir.ops.asynchronous import TensorMap, TmaSend, TmaStore, TmaStoreWait
from blocklang.ir.ops.shared import SharedAlloc
from blocklang.ir.types import BlockType

from ._prove_sides import refuse

_GROUP = 4


def prove_sends(function: Function, home: Block) -> None:
    """Check each send, that copies are not overwritten, and that the kernel waits for the last;
    `home` is what the program's own warps execute.
    """
    sends = [op for op in function.walk() if isinstance(op, TmaSend)]
    if not sends:
        return
    if int(function.attributes["num_warps"]) % _GROUP:
        refuse(sends[0], "warps that are no whole warpgroups cannot send by warpgroups")
    known = set(home.walk())
    for op in sends:
        if op not in known:
            refuse(op, "the warps of a producer would send, too")
        made = op.buffer.owner
        if not isinstance(made, SharedAlloc) or [user for user, _ in op.buffer.uses] != [op]:
            refuse(op, "something else uses the buffer from which warpgroups send")
        _check_parts(op)
        _check_under_way(function, op)
    if not _waits_at_end(home):
        refuse(sends[0], "the kernel ends before what warpgroups have sent is in memory")


def _check_parts(op: TmaSend) -> None:
    """No two warpgroups hold elements of one box, and each holds all of its boxes: the bits of a
    warpgroup's number are bits of coordinates that nothing else moves, outside of a box.
    """
    kind, map = op.value.type, op.map.owner
    assert isinstance(kind, BlockType)
    assert kind.layout is not None
    assert isinstance(map, TensorMap)
    box = dict(zip(map.axes, map.box, strict=True))
    layout, taken = kind.layout, [0] * len(kind.shape)
    _check_pieces(op, layout, box)
    warps = layout.bases_of("warp")
    for basis in warps[WARP_BITS_OF_GROUP:]:
        moved = [axis for axis, step in enumerate(basis) if step]
        if len(moved) != 1 or basis[moved[0]].bit_count() != 1:
            refuse(op, "what a warpgroup sends is no part of the block")
        axis = moved[0]
        if taken[axis] & basis[axis] or basis[axis] % box[axis]:
            refuse(op, "a copy would send what two warpgroups hold")
        taken[axis] |= basis[axis]
    inside = [basis for dim in layout.in_dims if dim != "warp" for basis in layout.bases_of(dim)]
    # Each box is in one piece, so what a warpgroup has of it, it has at once.
    for basis in (*inside, *warps[:WARP_BITS_OF_GROUP]):
        if any(step & bits for step, bits in zip(basis, taken, strict=True)):
            refuse(op, "a warpgroup holds elements that another one sends")


def _check_pieces(op: TmaSend, layout: LinearLayout, box: dict[int, int]) -> None:
    """Which piece an element is in follows from its register alone, and copies are of one piece."""
    axis, count = op.pieces
    size, numbers = layout.shape[axis] // count, []
    if size % box[axis]:
        refuse(op, "a copy would send more than a piece")
    for dim in layout.in_dims:
        for basis in layout.bases_of(dim):
            if dim == "register" and basis[axis] >= size and basis[axis] == sum(basis):
                numbers.append(basis[axis])
            elif basis[axis] >= size:
                refuse(op, "a thread has not the same share of every piece")
    if sorted(numbers) != [size << bit for bit in range(count.bit_length() - 1)]:
        refuse(op, "a thread has not the same share of every piece")


def _check_under_way(function: Function, op: TmaSend) -> None:
    """As many copies may be under way as have started since the last one from the same buffer."""
    if not op.groups:
        return
    others = [each for each in function.walk() if isinstance(each, TmaSend | TmaStore)]
    together = all(isinstance(each, TmaSend) and each.parent is op.parent for each in others)
    if not together or op.groups >= len(others):
        refuse(op, "a buffer is stored to while the last copy from it may still read it")


def _waits_at_end(block: Block) -> bool:
    """Whether the last thing that a kernel does is to wait for what every warpgroup has sent."""
    last = block.ops[-2] if len(block.ops) > 1 else None
    return isinstance(last, TmaStoreWait) and last.everywhere and not (last.groups or last.read)
