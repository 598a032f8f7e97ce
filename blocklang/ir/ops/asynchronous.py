"""What runs beside the threads: copies by the tensor memory accelerator, products by warpgroups,
and the barriers in shared memory that order them.

Nothing here is hidden state. A buffer of several slots is one value, a slot another; the barriers
of a buffer are a value, and which of them is meant, in which phase, are ordinary integers that
loops carry. What a warpgroup is still computing has the type `pending`, which no ordinary op takes:
only `wgmma_wait` turns it into a block.
"""

from __future__ import annotations

from collections.abc import Sequence

from blocklang.ir.core import Value
from blocklang.ir.op import Effect, Op, attribute, operand, output, outputs, region, require
from blocklang.ir.types import (
    BlockType,
    DescriptorType,
    MBarriersType,
    PendingType,
    SharedType,
    TensorMapType,
    Type,
    i1,
    i32,
    shape_of,
)

# ---------------------------------------------------------------- clusters


class ClusterRank(Op, mnemonic="cluster_rank"):
    """Which of the blocks of threads of its cluster this is, from 0: together they are one
    program.
    """

    result = output()

    def infer(self) -> Sequence[Type]:
        return [i32]


# ---------------------------------------------------------------- values in shared memory


class ToShared(Op, mnemonic="to_shared"):
    """The block in shared memory, where nothing changes it: a value like any other.

    `lower_conversions` makes a buffer of its own of it. What is sent from there may pass through a
    buffer for one of so many `pieces`: see `tma_send`.
    """

    operand: Value = operand()
    pieces: int = attribute(default=1)
    result = output()

    @property
    def bytes(self) -> int:
        """Bytes of shared memory that this takes."""
        kind = self.results[0].type
        assert isinstance(kind, SharedType)
        return kind.bytes // self.pieces

    def check(self) -> None:
        source, target = self.operand.type, self.results[0].type
        require(isinstance(source, BlockType), "the operand is a block")
        require(isinstance(target, SharedType) and target.depth == 1, "the result is a buffer")
        assert isinstance(source, BlockType)
        assert isinstance(target, SharedType)
        require((source.shape, source.element) == (target.shape, target.element), "one shape")
        require(self.pieces > 0 and self.pieces.bit_count() == 1, "pieces are a power of two")


class LoadShared(Op, mnemonic="load_shared", effects=Effect.READ):
    """A block of a tensor, copied to shared memory by the tensor memory accelerator: a value that
    is there when the op is done. `specialize_warps` lets it arrive ahead of time.
    """

    map: Value = operand()
    indices: tuple[Value, ...] = operand(variadic=True)
    result = output()

    def check(self) -> None:
        require(isinstance(self.map.type, TensorMapType), "the first operand is a tensor map")
        _check_indices(self.indices)
        require(isinstance(self.results[0].type, SharedType), "the result is a buffer")


class SharedSlot(Op, mnemonic="shared_slot"):
    """Slot number `index` of a buffer of several."""

    buffer: Value = operand()
    index: Value = operand()
    result = output()

    def infer(self) -> Sequence[Type]:
        kind = self.buffer.type
        assert isinstance(kind, SharedType)
        return [SharedType(kind.shape, kind.element, kind.layout)]

    def check(self) -> None:
        require(isinstance(self.buffer.type, SharedType), "the first operand is a buffer")
        require(self.index.type == i32, "the index is i32")


class SharedView(Op, mnemonic="shared_view"):
    """The same bytes under other coordinates: axes in another order, or a row-major reshape."""

    buffer: Value = operand()
    result = output()

    def check(self) -> None:
        source, target = self.buffer.type, self.results[0].type
        require(isinstance(source, SharedType) and isinstance(target, SharedType), "buffers")
        assert isinstance(source, SharedType)
        assert isinstance(target, SharedType)
        require(source.bytes == target.bytes and source.element == target.element, "one content")


# ---------------------------------------------------------------- barriers in shared memory


class MBarrierAlloc(Op, mnemonic="mbarrier_alloc", effects=Effect.OBSERVABLE):
    """Barriers of 8 bytes each, as many as the result has, that complete a phase when `arrivals`
    have come, and with them all bytes that were announced. `offset` is the first byte, -1 until
    `allocate_shared` has placed it. All threads see them initialised.
    """

    arrivals: int = attribute()
    offset: int = attribute(default=-1)
    result = output()

    def check(self) -> None:
        require(isinstance(self.results[0].type, MBarriersType), "the result is barriers")


class MBarrierOp(Op):
    """Base: barrier number `index` of `barriers`."""

    barriers: Value = operand()
    index: Value = operand()

    def check(self) -> None:
        require(isinstance(self.barriers.type, MBarriersType), "the first operand is barriers")
        require(self.index.type == i32, "the index is i32")


class MBarrierWait(MBarrierOp, mnemonic="mbarrier_wait", effects=Effect.OBSERVABLE):
    """Waits until the barrier's phase of parity `phase` (an i32, 0 or 1) is complete."""

    phase: Value = operand()

    def check(self) -> None:
        super().check()
        require(self.phase.type == i32, "the phase is i32")


class MBarrierArrive(MBarrierOp, mnemonic="mbarrier_arrive", effects=Effect.OBSERVABLE):
    """Each warp arrives once, if `predicate` (an i1, absent: true) holds; with `everywhere` at the
    barriers of all blocks of threads of the cluster.
    """

    predicate: Value | None = operand(optional=True, default=None)
    everywhere: bool = attribute(default=False)

    def check(self) -> None:
        super().check()
        require(self.predicate is None or self.predicate.type == i1, "the predicate is i1")


class MBarrierExpect(MBarrierOp, mnemonic="mbarrier_expect", effects=Effect.OBSERVABLE):
    """Arrives once and announces `bytes` that copies will bring. One thread executes it."""

    bytes: int = attribute()


# ---------------------------------------------------------------- tensor memory accelerator


class TensorMap(Op, mnemonic="tensor_map"):
    """What the tensor memory accelerator needs to know of a tensor: the launcher encodes it from
    the arguments of the kernel, so that the descriptor must follow from them alone.

    `axes` are the tensor's axes from slowest to fastest, `box` what one copy moves along each, and
    `swizzle` the bytes within which 16-byte pieces are permuted (0: they are not). With `rounding`
    "tf32" copies to shared memory round float32 elements to tf32.
    """

    descriptor: Value = operand()
    axes: tuple[int, ...] = attribute()
    box: tuple[int, ...] = attribute()
    swizzle: int = attribute()
    rounding: str = attribute(default="")  # "", tf32
    result = output()

    def infer(self) -> Sequence[Type]:
        return [TensorMapType()]

    def check(self) -> None:
        require(isinstance(self.descriptor.type, DescriptorType), "the operand is a descriptor")
        require(self.swizzle in (0, 32, 64, 128), "swizzle is 0, 32, 64 or 128 bytes")
        require(all(1 <= n <= 256 for n in self.box), "a box has 1 to 256 elements along an axis")
        require(len(self.box) == len(self.axes) <= 5, "one rank, 5 at most")
        require(self.rounding in ("", "tf32"), "rounding is tf32, if any")
        is_float32 = str(self.descriptor.type.element) == "f32"  # type: ignore[union-attr]
        require(is_float32 or not self.rounding, "f32 elements are rounded")


class TmaLoad(Op, mnemonic="tma_load", effects=Effect.READ | Effect.WRITE_SHARED):
    """Starts the copy of the block at `indices` (in order of the map's axes) into `buffer`, whose
    bytes arrive at barrier `index` of `barriers`. One thread executes it.

    With `everywhere` each block of threads of the cluster copies its share of the rows, those along
    the last but one axis of the map, to the buffers of all of them.
    """

    map: Value = operand()
    indices: tuple[Value, ...] = operand(variadic=True)
    buffer: Value = operand(kw_only=True)
    barriers: Value = operand(kw_only=True)
    index: Value = operand(kw_only=True)
    everywhere: bool = attribute(default=False)

    def check(self) -> None:
        require(isinstance(self.map.type, TensorMapType), "the first operand is a tensor map")
        _check_indices(self.indices)
        require(isinstance(self.buffer.type, SharedType), "a buffer")
        require(isinstance(self.barriers.type, MBarriersType), "barriers")


class TmaStore(Op, mnemonic="tma_store", effects=Effect.WRITE | Effect.READ_SHARED):
    """Starts the copy of `buffer` to the block at `indices` and closes a group of such copies.

    With `reduce` the elements are combined with memory. One thread executes it, for all.
    """

    map: Value = operand()
    indices: tuple[Value, ...] = operand(variadic=True)
    buffer: Value = operand(kw_only=True)
    reduce: str = attribute(default="")  # "", add

    def check(self) -> None:
        require(isinstance(self.map.type, TensorMapType), "the first operand is a tensor map")
        _check_indices(self.indices)
        require(isinstance(self.buffer.type, SharedType), "a buffer")


class TmaSend(Op, mnemonic="tma_send", effects=Effect.WRITE):
    """Each warpgroup stores its part of `value` to its part of `buffer`, which nothing else uses,
    and one thread of it starts the copy of that part to the block at `indices`.

    Before, that thread waits until at most `groups` of its last copies still read shared memory.
    The threads of a warpgroup wait for each other, never for another warpgroup: in `value`'s layout
    and in the boxes of `map`, no part has anything of another one (see `warpgroup_steps`). Elements
    are stored `vector` at a time; `reduce` is that of `tma_store`.

    Where the buffer is smaller along one axis, the block is sent in pieces of its size, each stored
    when the copies of the one before have read the buffer.
    """

    map: Value = operand()
    indices: tuple[Value, ...] = operand(variadic=True)
    value: Value = operand(kw_only=True)
    buffer: Value = operand(kw_only=True)
    vector: int = attribute(default=1)
    groups: int = attribute(default=0)
    reduce: str = attribute(default="")  # "", add

    def check(self) -> None:
        require(isinstance(self.map.type, TensorMapType), "the first operand is a tensor map")
        _check_indices(self.indices)
        block, kind = self.value.type, self.buffer.type
        require(isinstance(block, BlockType), "the value is a block")
        require(isinstance(kind, SharedType) and kind.depth == 1, "the buffer has one slot")
        assert isinstance(block, BlockType)
        assert isinstance(kind, SharedType)
        require(block.element == kind.element, "one element")
        require(len(block.shape) == len(kind.shape), "one rank")
        cut = [(a, b) for a, b in zip(block.shape, kind.shape, strict=True) if a != b]
        require(len(cut) < 2 and all(a % b == 0 for a, b in cut), "pieces along one axis")

    @property
    def pieces(self) -> tuple[int, int]:
        """The axis along which the block is in pieces, and how many they are."""
        pairs = enumerate(zip(shape_of(self.value.type), shape_of(self.buffer.type), strict=True))
        return next(((axis, a // b) for axis, (a, b) in pairs if a != b), (0, 1))


class TmaStoreWait(Op, mnemonic="tma_store_wait", effects=Effect.OBSERVABLE):
    """Waits until at most `groups` of this thread's last stores are under way; with `read` until
    they have read shared memory, else until memory has the result. With `everywhere` one thread of
    each warpgroup waits, for what it has sent.
    """

    groups: int = attribute(default=0)
    read: bool = attribute(default=True)
    everywhere: bool = attribute(default=False)


class FenceAsync(Op, mnemonic="fence_async", effects=Effect.OBSERVABLE):
    """Orders what this thread has written to shared memory before what the tensor memory
    accelerator and warpgroups read after the next barrier.
    """


# ---------------------------------------------------------------- warpgroups


class WgmmaBegin(Op, mnemonic="wgmma_begin"):
    """A block as an accumulator that products may be added to, or, absent, one that holds nothing
    yet: the first product must not accumulate.
    """

    value: Value | None = operand(optional=True, default=None)
    result = output()

    def check(self) -> None:
        kind = self.results[0].type
        require(isinstance(kind, PendingType), "the result is pending")
        assert isinstance(kind, PendingType)
        require(self.value is None or self.value.type == kind.block, "the block is the operand")


class ComputeHere(Op, mnemonic="compute_here", effects=Effect.OBSERVABLE):
    """`values` themselves (i32 scalars), which are known from here on: nobody computes them later,
    where somebody would wait for it.
    """

    values: tuple[Value, ...] = operand(variadic=True)
    results_ = outputs()

    def infer(self) -> Sequence[Type]:
        return [v.type for v in self.values]

    def check(self) -> None:
        require(all(v.type == i32 for v in self.values), "the values are i32")


class Wgmma(Op, mnemonic="wgmma", effects=Effect.READ_SHARED):
    """Starts `acc` + `a` x `b` on the tensor cores and closes a group; the result is pending.

    `a` is in shared memory or a block in registers, which nothing may overwrite before the wait;
    `b` is in shared memory. Where `accumulate` (an i1, absent: true) fails, `acc` counts as zero.
    """

    a: Value = operand()
    b: Value = operand()
    acc: Value = operand()
    accumulate: Value | None = operand(optional=True, default=None)
    precision: str = attribute(default="tf32")
    result = output()

    def infer(self) -> Sequence[Type]:
        kind = self.acc.type
        assert isinstance(kind, BlockType | PendingType)
        return [PendingType(kind) if isinstance(kind, BlockType) else kind]

    def check(self) -> None:
        require(isinstance(self.acc.type, BlockType | PendingType), "acc is a block or pending")
        require(isinstance(self.a.type, BlockType | SharedType), "a is a block or a buffer")
        require(isinstance(self.b.type, SharedType), "b is a buffer")
        require(self.accumulate is None or self.accumulate.type == i1, "accumulate is i1")


class WgmmaWait(Op, mnemonic="wgmma_wait", effects=Effect.OBSERVABLE):
    """Waits until at most `groups` of the last groups are under way.

    The results are `values`, pending ones as blocks where the wait covers them; blocks among the
    values are operands of finished groups, which may be overwritten from here on.
    """

    values: tuple[Value, ...] = operand(variadic=True)
    groups: int = attribute(default=0)
    results_ = outputs()

    def check(self) -> None:
        require(len(self.results) == len(self.values), "one result for each value")
        for value, result in zip(self.values, self.results, strict=True):
            kind = value.type
            block = kind.block if isinstance(kind, PendingType) else kind
            require(result.type in (kind, block), "results have the types of the values")


# ---------------------------------------------------------------- partitions


class WarpSpecialize(Op, mnemonic="warp_specialize", effects=Effect.OBSERVABLE):
    """The program's warps execute `consumer`; one thread of a warpgroup of its own executes
    `producer` at the same time, or, if that is made of `one_warp`s, one thread for each of them.
    Nothing but shared memory passes between them.

    `producer_registers` and `consumer_registers` are what each thread gets (0: as compiled).
    """

    producer_registers: int = attribute(default=0)
    consumer_registers: int = attribute(default=0)
    consumer = region()
    producer = region()


class OneWarp(Op, mnemonic="one_warp", effects=Effect.OBSERVABLE):
    """One thread of warp number `warp` of the producer's warpgroup executes `body`, at the same
    time as the others execute theirs.
    """

    warp: int = attribute()
    body = region()

    def check(self) -> None:
        require(0 <= self.warp < 4, "a warpgroup has 4 warps")
        split = self.parent_op
        is_there = isinstance(split, WarpSpecialize) and self.parent is split.regions[1].block
        require(is_there, "it stands in a producer")


def _check_indices(indices: Sequence[Value]) -> None:
    require(all(v.type == i32 for v in indices), "indices are i32")
