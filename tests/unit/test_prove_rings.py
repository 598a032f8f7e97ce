"""The proof of what runs beside the threads: it takes what the passes make, and no other way of
doing it. Each ingredient of a kernel is dropped, doubled, moved or altered in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from blocklang import environment
from blocklang.ir.builder import Builder
from blocklang.ir.core import Module, Operation, Region, clone
from blocklang.ir.errors import UnorderedAsyncMemory
from blocklang.ir.op import Op
from blocklang.ir.ops.asynchronous import (
    ClusterRank,
    FenceAsync,
    MBarrierAlloc,
    MBarrierArrive,
    MBarrierExpect,
    MBarrierOp,
    MBarrierWait,
    SharedSlot,
    TmaLoad,
    TmaStore,
    TmaStoreWait,
    WarpSpecialize,
    Wgmma,
    WgmmaWait,
)
from blocklang.ir.ops.control import For, If
from blocklang.ir.ops.elementwise import Add, Xor
from blocklang.ir.ops.shared import Barrier, SharedAlloc, SharedStore
from blocklang.ir.parser import parse
from blocklang.ir.passes.prove_rings import ProveRings
from blocklang.ir.printer import print_module
from blocklang.ir.types import i32
from tests import overlap_kernels as kernels

KERNELS = {
    "gemm": (kernels.gemm, {"M": 128, "N": 128, "K": 64}, 8, 3),
    "persistent": (kernels.persistent, {"M": 128, "N": 128, "K": 64}, 4, 2),
    "attention": (kernels.attention, {"M": 64, "N": 64, "D": 64}, 4, 2),
    "cluster": (kernels.persistent, {"M": 256, "N": 128, "K": 64}, 8, 2),
}


@cache
def text(name: str, disabled: str = "") -> str:
    kernel, sizes, warps, stages = KERNELS[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(environment.DISABLE_PASSES.name, disabled)
        ctas = 2 if name == "cluster" else 1
        module = kernels.final_ir(kernel, sizes, num_warps=warps, num_stages=stages, num_ctas=ctas)
    return print_module(module, locations=False)


def prove(module: Module) -> None:
    ProveRings()._run(module)


def is_refused(module: Module) -> bool:
    try:
        prove(module)
    except UnorderedAsyncMemory:
        return True
    return False


@pytest.mark.parametrize("disabled", ["", "specialize-warps", "overlap-dots"])
@pytest.mark.parametrize("name", KERNELS)
def test_what_the_passes_make_is_accepted(name: str, disabled: str) -> None:
    prove(parse(text(name, disabled)))


# ---------------------------------------------------------------- mutations

Mutation = Callable[[Op], bool]
"""Changes an op, or says that it has nothing to do there."""


def drop(op: Op) -> bool:
    if isinstance(op, WgmmaWait):
        op.replace_with(op.values)
    else:
        op.erase()
    return True


def double(op: Op) -> bool:
    assert op.parent is not None
    op.parent.insert(op.parent.ops.index(op), clone(op, {}))
    return True


def other_index(op: Op) -> bool:
    """The slot behind, in rings of several slots."""
    position = 1 if not isinstance(op, TmaLoad) else len(op.operands) - 1
    ring = op.operands[0 if not isinstance(op, TmaLoad) else -2]
    if ring.type.depth == 1:
        return False
    builder = Builder.before(op)
    one = builder.constant(1, i32)
    last = builder.insert(Xor(op.operands[position], one, loc=op.loc)).result
    op.set_operand(position, last)
    return True


def other_phase(op: Op) -> bool:
    builder = Builder.before(op)
    one = builder.constant(1, i32)
    op.set_operand(2, builder.insert(Xor(op.operands[2], one, loc=op.loc)).result)
    return True


def other_ring(op: Op) -> bool:
    """The first other barriers of the kernel."""
    function = top(op)
    others = [each.results[0] for each in function.walk() if isinstance(each, MBarrierAlloc)]
    position = op.operands.index(next(v for v in op.operands if v in others))
    op.set_operand(position, next(v for v in others if v is not op.operands[position]))
    return True


def other_bytes(op: Op) -> bool:
    op.attributes["bytes"] -= 16
    return True


def more_groups(op: Op) -> bool:
    op.attributes["groups"] += 1
    return True


def without_predicate(op: Op) -> bool:
    assert isinstance(op, MBarrierArrive)
    if op.predicate is None:
        return False
    double(op)
    made = op.parent.ops[op.parent.ops.index(op) - 1]
    made.parent.insert(
        made.parent.ops.index(made), MBarrierArrive(op.barriers, op.index, loc=op.loc)
    )
    made.erase()
    op.erase()
    return True


def earlier(op: Op) -> bool:
    """Before the op that it must follow."""
    assert op.parent is not None
    ops = op.parent.ops
    position = ops.index(op)
    for before in reversed(ops[:position]):
        if isinstance(op, MBarrierArrive) and isinstance(before, MBarrierArrive):
            continue  # rings that are given back together, in any order
        if isinstance(before, MBarrierOp | Wgmma | WgmmaWait | TmaLoad | Barrier | TmaStoreWait):
            if set(op.operands) & set(before.results):
                return False
            op.detach()
            ops[0].parent.insert(ops.index(before), op)
            return True
    return False


def untied(op: Op) -> bool:
    """What a wait hands on as it is, is used as it was."""
    assert isinstance(op, WgmmaWait)
    found = False
    for value, result in zip(op.values, op.results, strict=True):
        if value.type == result.type and result.uses:
            result.replace_all_uses_with(value)
            found = True
    return found


def too_many_registers(op: Op) -> bool:
    op.attributes.update(producer_registers=240, consumer_registers=264)
    return True


def another_count(op: Op) -> bool:
    op.attributes["arrivals"] += 1
    return True


def overlapping(op: Op) -> bool:
    """In the place of another one."""
    allocations = [e for e in top(op).walk() if isinstance(e, MBarrierAlloc | SharedAlloc)]
    op.attributes["offset"] = next(e for e in allocations if e is not op).attributes["offset"]
    return True


def other_share(op: Op) -> bool:
    """For the whole cluster instead of one block of threads, or the other way round."""
    assert isinstance(op, TmaLoad | MBarrierArrive)
    op.attributes["everywhere"] = not op.everywhere
    return True


def of_the_rank(op: Op) -> bool:
    """A copy for the whole cluster that is another one in each block of threads."""
    assert isinstance(op, TmaLoad)
    if not op.everywhere:
        return False
    rank = Builder.before(op).insert(ClusterRank(loc=op.loc)).result
    op.set_operand(1, rank)
    return True


def longer(op: Op) -> bool:
    """A loop with one step more, on one side."""
    if not any(isinstance(each, MBarrierOp) for each in op.walk()):
        return False
    assert isinstance(op, For)
    more = Builder.before(op).insert(Add(op.upper, op.step, loc=op.loc)).result
    op.set_operand(1, more)
    return True


def exchanged(op: Op) -> bool:
    """A branch with its regions in the other order."""
    if not any(isinstance(each, MBarrierOp) for each in op.walk()):
        return False
    op.regions.reverse()
    return True


EVERYWHERE: list[tuple[type[Op], Mutation]] = [
    *((kind, drop) for kind in (
        MBarrierWait, MBarrierArrive, MBarrierExpect, TmaLoad, FenceAsync, WgmmaWait
    )),
    *((kind, double) for kind in (MBarrierWait, MBarrierArrive, MBarrierExpect, TmaLoad)),
    *((kind, other_ring) for kind in (MBarrierWait, MBarrierArrive, MBarrierExpect, TmaLoad)),
    *((kind, earlier) for kind in (MBarrierArrive, MBarrierExpect, TmaLoad, TmaStore, Wgmma)),
    (MBarrierWait, other_phase),
    (MBarrierExpect, other_bytes),
    (MBarrierAlloc, overlapping),
    (WgmmaWait, more_groups),
    (WarpSpecialize, too_many_registers),
]  # fmt: skip
OF_SEVERAL_SLOTS: list[tuple[type[Op], Mutation]] = [
    *((kind, other_index) for kind in (
        MBarrierWait, MBarrierArrive, MBarrierExpect, TmaLoad, SharedSlot
    )),
    (MBarrierArrive, without_predicate),
    (MBarrierAlloc, another_count),
    (For, longer),
    (If, exchanged),
]  # fmt: skip
OF_STORES: list[tuple[type[Op], Mutation]] = [
    (TmaStoreWait, drop), (TmaStoreWait, more_groups), (Barrier, drop), (SharedStore, earlier),
]  # fmt: skip


def top(op: Operation) -> Region:
    while op.parent_op is not None:
        op = op.parent_op
    assert op.parent is not None
    assert op.parent.region is not None
    return op.parent.region


def check(texts: list[str], kind: type[Op], mutate: Mutation) -> None:
    """Every op of the kind, changed, is refused, and there is at least one."""
    count = 0
    for original in texts:
        for number, known in enumerate(parse(original).walk()):
            if not isinstance(known, kind):
                continue
            module = parse(original)
            op = list(module.walk())[number]
            assert isinstance(op, kind)
            if mutate(op):
                count += 1
                assert is_refused(module), f"{mutate.__name__}: {op.mnemonic}, op {number}"
    assert count


def named(case: object) -> str:
    return str(getattr(case, "mnemonic", "") or getattr(case, "__name__", case))


@pytest.mark.parametrize(("kind", "mutate"), EVERYWHERE, ids=named)
def test_what_is_altered_is_refused(kind: type[Op], mutate: Mutation) -> None:
    check([text(name) for name in KERNELS], kind, mutate)


@pytest.mark.parametrize(("kind", "mutate"), OF_SEVERAL_SLOTS, ids=named)
def test_slots_and_rounds_that_are_altered_are_refused(kind: type[Op], mutate: Mutation) -> None:
    check([text(name) for name in KERNELS], kind, mutate)


OF_CLUSTERS: list[tuple[type[Op], Mutation]] = [
    (TmaLoad, other_share), (TmaLoad, of_the_rank), (MBarrierArrive, other_share),
    (MBarrierAlloc, another_count),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "mutate"), OF_CLUSTERS, ids=named)
def test_shares_of_clusters_that_are_altered_are_refused(kind: type[Op], mutate: Mutation) -> None:
    check([text("cluster")], kind, mutate)


@pytest.mark.parametrize(("kind", "mutate"), OF_STORES, ids=named)
def test_stores_in_loops_that_are_altered_are_refused(kind: type[Op], mutate: Mutation) -> None:
    # A kernel that stores once has nothing to wait for before.
    check([text("persistent")], kind, mutate)


AT_ONCE: list[tuple[type[Op], Mutation]] = [
    *((kind, drop) for kind in (MBarrierWait, MBarrierExpect, TmaLoad, WgmmaWait)),
    *((kind, double) for kind in (MBarrierWait, MBarrierExpect, TmaLoad)),
    (MBarrierWait, earlier),
    (MBarrierWait, other_phase),
    (MBarrierExpect, other_bytes),
    (WgmmaWait, more_groups),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "mutate"), AT_ONCE, ids=named)
def test_copies_without_a_producer_that_are_altered_are_refused(
    kind: type[Op], mutate: Mutation
) -> None:
    check([text("persistent", "specialize-warps")], kind, mutate)


def test_copies_wait_until_all_warps_have_read_what_was_there() -> None:
    module = parse(text("persistent", "specialize-warps"))
    copies = [op for op in module.walk() if isinstance(op, TmaLoad)]
    assert copies[0].parent is not None
    ops = copies[0].parent.ops
    (barrier,) = (op for op in ops[: ops.index(copies[0])] if isinstance(op, Barrier))
    barrier.erase()
    assert is_refused(module)


def test_registers_of_a_loop_are_written_behind_the_wait() -> None:
    # What a wait hands on as it is ties what is computed of it to the place behind the wait.
    check([text("attention")], WgmmaWait, untied)


def test_a_product_needs_its_own_wait() -> None:
    module = parse(text("attention"))
    waits = [op for op in module.walk() if isinstance(op, WgmmaWait) and op.groups == 1]
    assert len(waits) == 1
    prove(module)
    waits[0].attributes["groups"] = 0
    prove(module)


def test_what_only_one_side_is_told_is_no_difference() -> None:
    """Divisions of a number that is known not to be negative become shifts, on one side only; both
    still count the same turns.
    """
    made = kernels.ragged.compile(
        kernels.SIGNATURES[kernels.ragged], {"M": 128, "N": 128, "K": 64}, "sm_90a", num_warps=8
    )
    consumer, producer = made.asm["shared"].split("} producer() {")
    assert "shr %length" in consumer
    assert "div %length" in producer
