"""The proof of what warpgroups send by themselves, and of producers in warps of their own: it takes
what the passes make, and refuses it with an ingredient missing or altered.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

import blocklang
import blocklang.language as bl
from blocklang.ir.builder import Builder
from blocklang.ir.core import Module, Region, clone
from blocklang.ir.errors import UnorderedAsyncMemory
from blocklang.ir.layout import LinearLayout
from blocklang.ir.op import Op
from blocklang.ir.ops.asynchronous import (
    FenceAsync,
    MBarrierExpect,
    OneWarp,
    SharedSlot,
    TensorMap,
    TmaLoad,
    TmaSend,
    TmaStore,
    TmaStoreWait,
    WarpSpecialize,
)
from blocklang.ir.ops.control import If, Yield
from blocklang.ir.ops.shape import ConvertLayout
from blocklang.ir.ops.shared import Barrier, SharedAlloc, SharedLoad, SharedStore
from blocklang.ir.parser import parse
from blocklang.ir.passes._prove_sends import prove_sends
from blocklang.ir.printer import print_module
from blocklang.ir.types import BlockType, i1, i32
from tests import overlap_kernels as kernels
from tests.unit.test_prove_rings import EVERYWHERE, Mutation, check, is_refused, named, prove


@blocklang.jit
def twice(
    a, b, c, m, n, k, M: bl.constexpr, N: bl.constexpr, K: bl.constexpr, SAME: bl.constexpr = False
):
    """c = a b, and its negative below it, or the same from one buffer, by programs that take one
    tile after the other.
    """
    left = bl.make_tensor_descriptor(a, [m, k], [k, 1], [M, K])
    right = bl.make_tensor_descriptor(b, [k, n], [n, 1], [K, N])
    out = bl.make_tensor_descriptor(c, [2 * m, n], [n, 1], [M, N])
    for tile in range(bl.program_id(0), bl.cdiv(m, M), bl.num_programs(0)):
        acc = bl.zeros((M, N), bl.float32)
        for i in range(0, k, K):
            acc = bl.dot(left.load([tile * M, i]), right.load([i, 0]), acc)
        out.store([tile * M, 0], acc)
        out.store([m + tile * M, 0], acc if SAME else -acc)


TILE = {"M": 128, "N": 128, "K": 64}
CASES: dict[str, tuple[Any, dict[str, int], int]] = {
    "one": (kernels.persistent, TILE, 8),
    "two": (twice, TILE, 8),
    "columns": (kernels.persistent, {"M": 64, "N": 256, "K": 64}, 8),
    "four": (kernels.persistent, {"M": 256, "N": 128, "K": 64}, 16),
    "narrow": (kernels.persistent, {"M": 16, "N": 256, "K": 64}, 8),
    "attention": (kernels.attention, {"M": 128, "N": 64, "D": 64}, 8),
    "pieces": (kernels.persistent, {"M": 128, "N": 256, "K": 128}, 8),
}


@cache
def text(name: str) -> str:
    kernel, sizes, warps = CASES[name]
    signature = kernels.SIGNATURES.get(kernel, kernels.PRODUCT)
    made = kernel.compile(signature, sizes, target="sm_90a", num_warps=warps, num_stages=2)
    return print_module(parse(made.asm["shared"]), locations=False)


def find(module: Module, kind: type[Op]) -> Any:
    """The first op of a kind."""
    return next(op for op in module.walk() if isinstance(op, kind))


@pytest.mark.parametrize("name", CASES)
def test_what_the_passes_make_is_accepted(name: str) -> None:
    module = parse(text(name))
    prove(module)
    sends = [op for op in module.walk() if isinstance(op, TmaSend)]
    assert [op.groups for op in sends] == ([1, 1] if name == "two" else [0])
    assert not any(isinstance(op, TmaStore) for op in module.walk())
    warps = [op.warp for op in module.walk() if isinstance(op, OneWarp)]
    assert warps == ([0, 1, 2] if name == "attention" else [])
    assert [op.pieces for op in sends][:1] == [(1, 2) if name == "pieces" else (0, 1)]


@pytest.mark.parametrize("warps", [4, 8])
def test_a_buffer_that_is_sent_twice_waits_for_both(warps: int) -> None:
    sizes = {**TILE, "SAME": True}
    made = twice.compile(kernels.PRODUCT, sizes, "sm_90a", num_warps=warps, num_stages=2)
    text = made.asm["shared"]
    assert text.count("tma_store %") == 2
    assert "tma_store_wait" in text
    assert "groups = 1" not in text.replace("wgmma_wait", "").split("tma_store_wait", 1)[1]


def before_the_partitions(module: Module) -> None:
    send, split = find(module, TmaSend), find(module, WarpSpecialize)
    send.detach()
    block = split.parent
    block.insert(block.ops.index(split), send)


def test_producers_do_not_send() -> None:
    module = parse(text("one"))
    before_the_partitions(module)
    with pytest.raises(UnorderedAsyncMemory, match="a producer would send"):
        prove_sends(module.kernel, find(module, WarpSpecialize).consumer.block)


def test_only_warpgroups_send() -> None:
    module = parse(text("one"))
    module.kernel.attributes["num_warps"] = 6
    with pytest.raises(UnorderedAsyncMemory, match="no whole warpgroups"):
        prove_sends(module.kernel, find(module, WarpSpecialize).consumer.block)


def refusal(change: Callable[[Module], None], name: str = "one") -> str:
    """The problem that the proof finds in a kernel that has been changed."""
    module = parse(text(name))
    change(module)
    with pytest.raises(UnorderedAsyncMemory) as found:
        prove(module)
    return str(found.value)


# ---------------------------------------------------------------- buffers and parts


def read_the_buffer(module: Module) -> None:
    send = find(module, TmaSend)
    load = SharedLoad(send.buffer, vector=1, loc=send.loc, result_types=[send.value.type])
    Builder.behind(send.value).insert(load)


def store_to_the_buffer(module: Module) -> None:
    send = find(module, TmaSend)
    Builder.before(send).insert(SharedStore(send.buffer, value=send.value, vector=1, loc=send.loc))


def send_twice(module: Module) -> None:
    send = find(module, TmaSend)
    Builder.before(send).insert(clone(send, {}))


def store_from_the_buffer(module: Module) -> None:
    send = find(module, TmaSend)
    Builder.before(send).insert(TmaStore(send.map, send.indices, buffer=send.buffer, loc=send.loc))


def send_from_a_slot(module: Module) -> None:
    send = find(module, TmaSend)
    builder = Builder.before(send)
    zero = builder.constant(0, i32)
    slot = SharedSlot(send.buffer, zero, loc=send.loc)
    send.set_operand(send.operands.index(send.buffer), builder.insert(slot).result)


@pytest.mark.parametrize(
    "change",
    [read_the_buffer, store_to_the_buffer, send_twice, send_from_a_slot],
)
def test_a_buffer_is_of_one_send(change: Callable[[Module], None]) -> None:
    assert "something else uses the buffer" in refusal(change)


def test_only_what_is_stored_for_it_is_sent_by_one_thread() -> None:
    assert "reads what no fence and barrier have made visible" in refusal(store_from_the_buffer)


def test_a_buffer_shares_no_bytes() -> None:
    def move(module: Module) -> None:
        send = find(module, TmaSend)
        other = find(module, SharedAlloc)
        assert other is not send.buffer.owner
        send.buffer.owner.attributes["offset"] = other.offset

    assert "shares bytes with another buffer" in refusal(move)


def box(*sizes: int) -> Callable[[Module], None]:
    """Copies of another size."""

    def change(module: Module) -> None:
        map = find(module, TmaSend).map.owner
        assert isinstance(map, TensorMap)
        assert map.box != sizes
        map.attributes["box"] = sizes

    return change


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("one", (128, 64)), ("columns", (64, 256)), ("four", (128, 64)), ("four", (256, 64)),
     ("narrow", (16, 128))],
)  # fmt: skip
def test_no_copy_has_what_two_warpgroups_hold(name: str, sizes: tuple[int, ...]) -> None:
    assert "would send what two warpgroups hold" in refusal(box(*sizes), name)


@pytest.mark.parametrize(("name", "sizes"), [("one", (32, 64)), ("columns", (64, 32))])
def test_smaller_copies_are_fine(name: str, sizes: tuple[int, ...]) -> None:
    module = parse(text(name))
    box(*sizes)(module)
    prove(module)


def in_layout(layout: str) -> Callable[[Module], None]:
    """What is sent in another layout."""

    def change(module: Module) -> None:
        send = find(module, TmaSend)
        kind = BlockType(
            send.value.type.shape, send.value.type.element, LinearLayout.parse(f"layout<{layout}>")
        )
        made = ConvertLayout(send.value, loc=send.loc, result_types=[kind])
        value = Builder.before(send).insert(made).result
        send.set_operand(send.operands.index(send.value), value)

    return change


def hold(*, warp: str, register: str = "[0,1], [8,0]") -> Callable[[Module], None]:
    """Of 128 x 128."""
    return in_layout(
        f"[128, 128], register=[{register}, [0,8], [0,16], [0,32], [0,64]], "
        f"lane=[[0,2], [0,4], [1,0], [2,0], [4,0]], warp=[{warp}]"
    )


LAYOUTS = [
    # Rows of the other warpgroup in half of the columns.
    (hold(warp="[16,0], [32,0], [64,0]", register="[64,1], [8,0]"), "that another one sends"),
    # And by lanes of a warp, in whose place a warpgroup has nothing of its own.
    (hold(warp="[16,0], [64,0], [64,0]", register="[0,1], [8,0], [32,0]"), "another one sends"),
    # The same in both.
    (hold(warp="[16,0], [32,0], [0,0]", register="[0,1], [8,0], [64,0]"), "no part of the block"),
    # Apart, but along no axis.
    (hold(warp="[16,0], [32,0], [64,1]"), "no part of the block"),
    (hold(warp="[16,0], [32,0], [96,0]"), "no part of the block"),
    # Every other 32 rows, in copies of 64.
    (hold(warp="[16,0], [64,0], [32,0]"), "what two warpgroups hold"),
]


@pytest.mark.parametrize("number", range(len(LAYOUTS)))
def test_a_warpgroup_sends_what_it_holds(number: int) -> None:
    change, problem = LAYOUTS[number]
    assert problem in refusal(change)


def of_pieces(register: str, lane: str = "[0,2]") -> Callable[[Module], None]:
    """Of 128 x 256, in pieces of 128 columns."""
    return in_layout(
        f"[128, 256], register=[[0,1], [8,0], [0,8], [0,16], [0,32], {register}], "
        f"lane=[{lane}, [0,4], [1,0], [2,0], [4,0]], warp=[[16,0], [32,0], [64,0]]"
    )


@pytest.mark.parametrize(
    ("register", "lane"),
    [
        ("[0,64], [0,2]", "[0,128]"),  # half of the lanes have one piece, half the other
        ("[0,64], [0,192]", "[0,2]"),  # the second piece begins elsewhere
        ("[0,64], [1,128]", "[0,2]"),
        ("[0,64], [0,128], [0,128]", "[0,2]"),  # twice
        ("[0,64]", "[0,2]"),  # not at all
    ],
)
def test_threads_have_their_share_of_every_piece(register: str, lane: str) -> None:
    problem = refusal(of_pieces(register, lane), "pieces")
    assert "has not the same share of every piece" in problem


def test_pieces_may_be_numbered_by_any_register() -> None:
    module = parse(text("pieces"))
    of_pieces("[0,128], [0,64]")(module)
    prove(module)


def test_a_copy_is_of_one_piece() -> None:
    assert "would send more than a piece" in refusal(box(64, 256), "pieces")


def test_other_parts_are_fine() -> None:
    module = parse(text("one"))
    hold(warp="[16,0], [64,0], [32,0]")(module)
    box(32, 64)(module)
    prove(module)


# ---------------------------------------------------------------- copies under way


def leave(groups: int) -> Callable[[Module], None]:
    """Wait for all but so many copies."""

    def change(module: Module) -> None:
        for op in module.walk():
            if isinstance(op, TmaSend):
                op.attributes["groups"] = groups

    return change


def behind_a_condition(module: Module) -> None:
    """Of two sends of a loop the second one is not always there."""
    _, second = (op for op in module.walk() if isinstance(op, TmaSend))
    builder = Builder.before(second)
    regions = [Region(), Region()]
    builder.insert(If(builder.constant(True, i1), loc=second.loc, result_types=[], regions=regions))
    second.detach()
    regions[0].block.append(second)
    for region in regions:
        region.block.append(Yield((), loc=second.loc))


def by_one_thread(module: Module) -> None:
    """Of two sends of a loop the second one is done by one thread, so not by all that send."""
    _, second = (op for op in module.walk() if isinstance(op, TmaSend))
    builder, buffer = Builder.before(second), second.buffer
    builder.insert(TmaStoreWait(loc=second.loc))
    builder.insert(Barrier(loc=second.loc))
    builder.insert(SharedStore(buffer, value=second.value, vector=1, loc=second.loc))
    builder.insert(FenceAsync(loc=second.loc))
    builder.insert(Barrier(loc=second.loc))
    builder.insert(TmaStore(second.map, second.indices, buffer=buffer, loc=second.loc))
    second.erase()


STORED = "stored to while the last copy from it may still read it"


@pytest.mark.parametrize(("name", "groups"), [("one", 1), ("two", 2), ("four", 1)])
def test_a_buffer_is_free_before_it_is_stored_to(name: str, groups: int) -> None:
    assert STORED in refusal(leave(groups), name)


@pytest.mark.parametrize("change", [behind_a_condition, by_one_thread])
def test_copies_that_not_all_threads_start_are_not_counted(
    change: Callable[[Module], None],
) -> None:
    assert STORED in refusal(change, "two")
    module = parse(text("two"))
    change(module)
    leave(0)(module)
    prove(module)


def last_wait(module: Module) -> Any:
    (found,) = (op for op in module.walk() if isinstance(op, TmaStoreWait))
    return found


def no_wait(module: Module) -> None:
    last_wait(module).erase()


def altered_wait(**attributes: Any) -> Callable[[Module], None]:
    return lambda module: last_wait(module).attributes.update(attributes)


def early_wait(module: Module) -> None:
    """Before anything is sent."""
    wait = last_wait(module)
    block = wait.parent
    wait.detach()
    block.insert(0, wait)


@pytest.mark.parametrize(
    "change",
    [no_wait, altered_wait(groups=1), altered_wait(read=True), altered_wait(everywhere=False),
     early_wait],
    ids=["none", "groups", "read", "one-thread", "early"],
)  # fmt: skip
@pytest.mark.parametrize("name", ["one", "two", "attention"])
def test_the_kernel_waits_for_the_last_copies(name: str, change: Callable[[Module], None]) -> None:
    assert "before what warpgroups have sent is in memory" in refusal(change, name)


# ---------------------------------------------------------------- producers


def warps_of(module: Module) -> list[OneWarp]:
    return [op for op in module.walk() if isinstance(op, OneWarp)]


def one_number(module: Module) -> None:
    warps_of(module)[2].attributes["warp"] = 0


def two_for_one_ring(module: Module) -> None:
    last = warps_of(module)[-1]
    double = clone(last, {})
    double.attributes["warp"] = 3
    assert last.parent is not None
    last.parent.insert(last.parent.ops.index(last), double)


def one_announces_for_another(module: Module) -> None:
    """In the second producer the barrier of the first one's ring."""
    first, second = (
        next(op for op in warp.walk() if isinstance(op, MBarrierExpect))
        for warp in warps_of(module)[:2]
    )
    second.set_operand(0, first.barriers)


def outside(module: Module) -> None:
    first = warps_of(module)[0]
    Builder.before(first).constant(0, i32)


def copy_outside(module: Module) -> None:
    """What a warp has done stands in the producer itself, which nobody executes."""
    warp = warps_of(module)[0]
    assert warp.parent is not None
    for op in list(warp.body.block.ops)[:-1]:
        op.detach()
        warp.parent.insert(warp.parent.ops.index(warp), op)
    warp.erase()


@pytest.mark.parametrize(
    "change", [one_number, two_for_one_ring, one_announces_for_another, outside, copy_outside]
)
def test_producers_are_apart(change: Callable[[Module], None]) -> None:
    module = parse(text("attention"))
    change(module)
    assert is_refused(module)


def test_a_ring_that_nobody_fills_is_refused() -> None:
    def drop(module: Module) -> None:
        warps_of(module)[1].erase()

    module = parse(text("attention"))
    drop(module)
    assert is_refused(module)


def test_numbers_may_be_any() -> None:
    module = parse(text("attention"))
    for number, op in zip((3, 0, 2), warps_of(module), strict=True):
        op.attributes["warp"] = number
    prove(module)


def with_one_producer(in_front: bool) -> Module:
    """Attention whose second producer does what the first one did, too: before or behind."""
    module = parse(text("attention"))
    first, second, _ = warps_of(module)
    block = second.body.block
    start = 0 if in_front else len(block.ops) - 1
    for position, op in enumerate(list(first.body.block.ops)[:-1], start):
        op.detach()
        block.insert(position, op)
    first.erase()
    return module


def test_two_rings_may_have_one_producer() -> None:
    """In the order in which the consumer takes slots, and no other one."""
    prove(with_one_producer(in_front=True))


def test_a_producer_that_fills_what_is_taken_later_first_is_refused() -> None:
    assert is_refused(with_one_producer(in_front=False))


# ---------------------------------------------------------------- the same mutations as of rings


@pytest.mark.parametrize(
    ("kind", "mutate"),
    [each for each in EVERYWHERE if each[0] not in (FenceAsync, TmaStore)],
    ids=named,
)
def test_rings_of_kernels_that_send_are_proved(kind: type[Op], mutate: Mutation) -> None:
    check([text("one"), text("attention")], kind, mutate)


def test_copies_to_what_is_sent_are_refused() -> None:
    module = parse(text("one"))
    copy, send = find(module, TmaLoad), find(module, TmaSend)
    copy.set_operand(copy.operands.index(copy.buffer), send.buffer)
    assert is_refused(module)
