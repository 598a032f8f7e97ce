"""What runs beside the threads of a kernel, as a short text: partitions, rings, products.

It is read off the IR with explicit shared memory and decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from blocklang.ir.core import Argument, Block, Function, Operation, Value
from blocklang.ir.ops.asynchronous import (
    MBarrierExpect,
    OneWarp,
    SharedSlot,
    SharedView,
    TmaLoad,
    TmaSend,
    TmaStore,
    WarpSpecialize,
    Wgmma,
    WgmmaWait,
)
from blocklang.ir.ops.control import For, If
from blocklang.ir.types import BlockType, MBarriersType, PendingType, SharedType, shape_of

from .partitions import PRODUCER_WARPS
from .tma import described


def schedule(kernel: Function) -> str:
    """The text: which warps there are, which slots they pass each other, and which products are
    under way at a time.
    """
    lines = [f"kernel {kernel.name}", *_partitions(kernel), *_rings(kernel), *_stores(kernel)]
    for title, block in _blocks(kernel.block, "outside of loops"):
        products = [op for op in block.ops if isinstance(op, Wgmma)]
        if products:
            lines += ["", f"products {title}", *map(_product, products)]
    if len(lines) == 2:
        lines.append("nothing runs beside them")
    return "\n".join(lines) + "\n"


def _partitions(kernel: Function) -> Iterator[str]:
    warps = kernel.attributes["num_warps"]
    blocks = int(kernel.attributes.get("num_ctas", 1))
    if blocks > 1:
        yield f"cluster: {blocks} blocks of threads, in each:"
    split = next((op for op in kernel.walk() if isinstance(op, WarpSpecialize)), None)
    if split is None:
        yield f"all work: {warps} warps"
        return

    def registers(count: int) -> str:
        return f", {count} registers a thread" if count else ""

    yield f"consumer: {warps} warps{registers(split.consumer_registers)}"
    threads = sum(isinstance(op, OneWarp) for op in split.producer.block.ops)
    whose = f"one thread in each of {threads}" if threads else "one thread"
    yield f"producer: {whose} of {PRODUCER_WARPS} warps{registers(split.producer_registers)}"


def _rings(kernel: Function) -> Iterator[str]:
    """Barriers with the copies that report to them, one after the other."""
    copies: dict[Value, list[TmaLoad]] = {}
    for op in kernel.walk():
        if isinstance(op, TmaLoad):
            copies.setdefault(op.barriers, []).append(op)
    for number, (full, loads) in enumerate(copies.items()):
        assert isinstance(full.type, MBarriersType)
        announced = next(op for op in full.users if isinstance(op, MBarrierExpect))
        slots = "1 slot" if full.type.depth == 1 else f"{full.type.depth} slots"
        yield ""
        yield f"ring {number}: {slots} of {announced.bytes} bytes"
        for load in loads:
            whose = ", by the whole cluster" if load.everywhere else ""
            yield f"  filled with {_shape(load.buffer)} of {_tensor(load)}{whose}, {load.loc}"
        buffers = dict.fromkeys(_allocation(load.buffer) for load in loads)
        read = {f"{op.mnemonic}, {op.loc}" for buffer in buffers for op in _readers(buffer)}
        yield from (f"  read by {each}" for each in sorted(read))


def _stores(kernel: Function) -> Iterator[str]:
    for op in kernel.walk():
        if isinstance(op, TmaStore | TmaSend):
            yield ""
            yield f"sent: {_sent(op)}, {op.loc}"


def _sent(op: TmaStore | TmaSend) -> str:
    if isinstance(op, TmaStore):
        return f"{_shape(op.buffer)} to {_tensor(op)}"
    _, count = op.pieces
    how = f" in {count} pieces" if count > 1 else ""
    return f"{_shape(op.value)} to {_tensor(op)}{how}, each warpgroup its part"


def _shape(value: Value) -> str:
    assert isinstance(value.type, SharedType | BlockType)
    return f"{'x'.join(map(str, value.type.shape))}x{value.type.element}"


def _tensor(op: TmaLoad | TmaStore | TmaSend) -> str:
    return described(op.map).pointer.name or "a tensor"


def _allocation(buffer: Value) -> Value:
    while isinstance(buffer.owner, SharedSlot | SharedView):
        buffer = buffer.owner.buffer
    return buffer


def _readers(buffer: Value) -> Iterator[Operation]:
    for user in buffer.users:
        if isinstance(user, SharedSlot | SharedView):
            yield from _readers(user.results[0])
        elif not isinstance(user, TmaLoad):
            yield user


# ---------------------------------------------------------------- products


def _blocks(block: Block, title: str) -> Iterator[tuple[str, Block]]:
    """The blocks of a kernel, with where they stand."""
    yield title, block
    for op in block.ops:
        if isinstance(op, For):
            yield from _blocks(op.regions[0].block, f"of the loop {op.loc}")
        elif isinstance(op, If):
            for region in op.regions:
                yield from _blocks(region.block, title)
        elif isinstance(op, WarpSpecialize):
            yield from _blocks(op.consumer.block, title)


def _product(op: Wgmma) -> str:
    (m, k), n = shape_of(op.a.type), shape_of(op.b.type)[1]
    left = "registers" if isinstance(op.a.type, BlockType) else "shared memory"
    carried = isinstance(op.a.type, BlockType) and isinstance(op.a, Argument)
    whose = "of the iteration before" if carried else "of this iteration"
    text = f"  {m}x{n}x{k}, left factor in {left}"
    if isinstance(op.parent_op, For):
        text += f", {whose}"
    return f"{text}: {_wait(op)}, {op.loc}"


def _wait(op: Wgmma) -> str:
    for user in op.results[0].users:
        if isinstance(user, WgmmaWait):
            result = user.results[user.values.index(op.results[0])]
            left = "none" if not user.groups else f"{user.groups}"
            if isinstance(result.type, PendingType):
                return f"done when the next iteration's are started ({left} left under way)"
            return f"waited for with {left} left under way"
    return "waited for with what is added to it"
