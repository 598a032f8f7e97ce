"""Factors of warpgroups that come by pointers: the threads copy them ahead of time, products go on
from iteration to iteration, and both proofs see to it that nothing is missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from blocklang import compile as pipeline
from blocklang import environment
from blocklang.environment import OPTIONAL_PASSES
from blocklang.ir.builder import Builder
from blocklang.ir.core import Module
from blocklang.ir.diagnostics import CompileError
from blocklang.ir.op import Op
from blocklang.ir.ops.async_copy import AsyncCommit, AsyncCopy, AsyncWait, NextSlot
from blocklang.ir.ops.asynchronous import FenceAsync, SharedSlot, Wgmma, WgmmaWait
from blocklang.ir.ops.control import For
from blocklang.ir.ops.shared import Barrier, SharedAlloc
from blocklang.ir.parser import parse
from blocklang.ir.passes.manager import Pass
from blocklang.ir.passes.prove_barriers import ProveBarriers
from blocklang.ir.passes.prove_rings import ProveRings
from blocklang.ir.printer import print_module
from examples import gemm
from tests import pointer_kernels as kernels
from tests.products import Gemm, Run, attention, cut_tf32
from tests.ptx_machine import round_tf32
from tests.ptx_warpgroups import Machine

needs_ptxas = pytest.mark.skipif(pipeline.ptxas() is None, reason="there is no ptxas")

ATTENTION = {"BM": 64, "BN": 64, "D": 64, "CAUSAL": False}
TILE = {"M": 64, "N": 64, "K": 64}


def pointers(
    element: str, transposed: bool, blocks: tuple[int, int, int], warps: int, stages: int
) -> Any:
    """`gemm_pointers` of the examples."""
    strides = {"am": "i32:16", "ak": 1, "cm": "i32:16", "cn": 1}
    strides |= {"bk": 1, "bn": "i32:16"} if transposed else {"bk": "i32:16", "bn": 1}
    signature = {
        "a": f"*{element}:16", "b": f"*{element}:16", "m": "i32:16", "n": "i32:16", "k": "i32:16",
        "c": "*i32:16" if element == "i8" else "*fp32:16",
        **{f"stride_{name}": stride for name, stride in strides.items()},
    }  # fmt: skip
    values = dict(zip(("BLOCK_M", "BLOCK_N", "BLOCK_K"), blocks, strict=True)) | {"GROUP": 8}
    return gemm.gemm_pointers.compile(
        signature, values, "sm_90a", num_warps=warps, num_stages=stages
    )


def assert_clean(made: Any) -> None:
    """The assembler has nothing to say, and nothing is spilled."""
    assert made.metadata["warnings"] == []
    assert made.resources.spill_stores == made.resources.spill_loads == 0


# ---------------------------------------------------------------- the schedule


@needs_ptxas
@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize(
    ("blocks", "warps", "stages"),
    [
        ((128, 256, 64), 8, 3), ((128, 256, 64), 8, 4), ((256, 128, 64), 8, 3),
        ((128, 128, 64), 4, 3), ((128, 128, 64), 4, 4), ((128, 128, 64), 8, 3),
        ((128, 128, 64), 8, 4), ((64, 64, 64), 4, 3), ((64, 64, 64), 4, 6),
    ],
)  # fmt: skip
def test_copies_run_ahead_and_products_go_on(
    blocks: tuple[int, int, int], warps: int, stages: int, transposed: bool
) -> None:
    made = pointers("bf16", transposed, blocks, warps, stages)
    assert_clean(made)
    assert "ld.global" not in made.asm["ptx"]
    assert "cp.async.ca" not in made.asm["ptx"]
    m, n, k = blocks
    # The result goes through the same bytes.
    assert made.metadata["shared_bytes"] == max(2 * stages * (m + n) * k, 4 * m * n)
    text = made.asm["shared"]
    (body,) = re.findall(r"= for .*?\n    }\n", text, re.DOTALL)
    order = re.findall(
        r"async_wait|fence_async|barrier|async_copy|async_commit|wgmma_wait|wgmma\b", body
    )
    assert order == [
        "async_wait", "fence_async", "barrier", "wgmma", "async_copy", "async_copy",
        "async_commit", "wgmma_wait",
    ]  # fmt: skip
    groups = f" {{groups = {stages - 3}}}" if stages > 3 else ""
    assert f"async_wait{groups} @" in body
    assert "{groups = 1} : pending" in body
    assert f"{{depth = {stages}" in body
    assert "done when the next iteration's are started (1 left under way)" in made.asm["schedule"]


@needs_ptxas
@pytest.mark.parametrize(
    ("element", "transposed", "depth", "whole"),
    [
        ("fp16", True, 64, True), ("fp32", True, 32, True), ("fp32", False, 32, False),
        ("fp8e4nv", True, 128, True), ("i8", True, 128, True),
    ],
)  # fmt: skip
def test_all_dtypes_are_copied(element: str, transposed: bool, depth: int, whole: bool) -> None:
    made = pointers(element, transposed, (128, 128, depth), 8, 3)
    assert_clean(made)
    ptx = made.asm["ptx"]
    assert "ld.global" not in ptx
    # Only of 16 bits both factors may be read along either axis: others are copied one by one.
    assert ("cp.async.ca" in ptx) != whole
    assert "1 left under way" in made.asm["schedule"]


@needs_ptxas
def test_pieces_that_are_too_small_are_loaded() -> None:
    made = pointers("fp8e4nv", False, (128, 128, 128), 8, 3)
    assert_clean(made)
    assert "ld.global" in made.asm["ptx"]
    assert "cp.async.cg" in made.asm["ptx"]
    assert "with none left under way" in made.asm["schedule"]


@needs_ptxas
@pytest.mark.parametrize("stages", [1, 2])
def test_with_few_slots_products_end_where_they_begin(stages: int) -> None:
    made = pointers("bf16", True, (64, 64, 64), 4, stages)
    assert_clean(made)
    assert ("cp.async.cg" in made.asm["ptx"]) == (stages == 2)
    assert "with none left under way" in made.asm["schedule"]


@needs_ptxas
def test_there_are_no_more_slots_than_fit() -> None:
    made = pointers("bf16", True, (128, 256, 64), 8, 6)
    assert_clean(made)
    assert made.metadata["shared_bytes"] == 4 * 2 * (128 + 256) * 64


CASES = {
    "persistent": (kernels.persistent, {"M": 128, "N": 128, "K": 64}, 8, 3),
    "mixed": (kernels.mixed, {"M": 128, "N": 128, "K": 64}, 8, 3),
    "gated": (kernels.gated, TILE, 4, 4),
    "attention": (attention, {**ATTENTION, "BM": 128, "D": 128}, 8, 3),
}


@needs_ptxas
@pytest.mark.parametrize("name", CASES)
def test_other_loops_assemble(name: str) -> None:
    kernel, sizes, warps, stages = CASES[name]
    made = kernels.compiled(kernel, sizes, num_warps=warps, num_stages=stages)
    assert_clean(made)
    assert "cp.async.cg" in made.asm["ptx"]
    assert "1 left under way" in made.asm["schedule"]
    if name == "attention":
        assert "of the iteration before" in made.asm["schedule"]


@needs_ptxas
@pytest.mark.parametrize(
    "disabled", ["specialize-warps", "overlap-dots", ",".join(OPTIONAL_PASSES)]
)
@pytest.mark.parametrize("name", CASES)
def test_passes_that_are_turned_off_are_not_needed(
    name: str, disabled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(environment.DISABLE_PASSES.name, disabled)
    kernel, sizes, warps, stages = CASES[name]
    made = kernels.compiled(kernel, sizes, num_warps=warps, num_stages=stages)
    assert_clean(made)
    is_alone = name == "mixed" and "specialize-warps" in disabled
    assert ("cp.async.cg" in made.asm["ptx"]) != is_alone
    early = "overlap-dots" not in disabled and not is_alone
    assert ("1 left under way" in made.asm["schedule"]) == early


# ---------------------------------------------------------------- results


@pytest.mark.parametrize("stages", [2, 3, 4, 6])
@pytest.mark.parametrize("depth", [16, 32, 64, 80, 208])
def test_any_number_of_iterations_fits_any_number_of_stages(stages: int, depth: int) -> None:
    problem = Gemm("bf16", (64, 64, depth), (64, 64, 32), stages=stages, transposed=(False, True))
    run = problem.run("sm_90a")
    assert "cp.async.cg" in run.compiled.asm["ptx"]
    run.on_machine()
    problem.check(run)


@pytest.mark.parametrize(
    ("kind", "blocks", "warps", "transposed"),
    [
        ("bf16", (64, 64, 64), 4, (False, False)), ("fp16", (64, 32, 64), 4, (True, True)),
        ("bf16", (128, 64, 32), 8, (True, False)), ("fp16", (64, 128, 16), 8, (False, True)),
        ("i8", (64, 64, 64), 4, (False, True)), ("u8", (64, 64, 32), 4, (False, True)),
        ("fp8e4nv", (64, 64, 128), 4, (False, True)), ("fp8e5", (64, 64, 64), 4, (False, False)),
    ],
)  # fmt: skip
def test_products_are_right(
    kind: str, blocks: tuple[int, int, int], warps: int, transposed: tuple[bool, bool]
) -> None:
    problem = Gemm(kind, (144, 80, 240), blocks, warps, 3, transposed)
    run = problem.run("sm_90a")
    assert "wgmma.mma_async" in run.compiled.asm["ptx"]
    run.on_machine()
    problem.check(run)


def random(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(ml_dtypes.bfloat16)


def check_example(
    transposed: bool, sizes: tuple[int, int, int], blocks: tuple[int, int, int], warps: int
) -> None:
    """Run the example with factors by pointers on the machine, and hold it against NumPy."""
    m, n, k = sizes
    a, b = random((m, k), 0), random((n, k) if transposed else (k, n), 1)
    c = np.full((m, n), 77, np.float32)
    steps = [step // array.itemsize for array in (a, b, c) for step in array.strides]
    if transposed:
        steps[2:4] = steps[3:1:-1]
    names = ("am", "ak", "bk", "bn", "cm", "cn")
    numbers = {"m": m, "n": n, "k": k}
    numbers |= {f"stride_{name}": step for name, step in zip(names, steps, strict=True)}
    made = pointers("bf16", transposed, blocks, warps, 3)
    grid = (-(-m // blocks[0]) * -(-n // blocks[1]),)
    Run(made, {**numbers, "a": a, "b": b, "c": c}, grid).on_machine()
    right = b.T if transposed else b
    np.testing.assert_allclose(c, a.astype(float) @ right.astype(float), atol=1e-3)


@pytest.mark.parametrize("transposed", [True, False])
def test_the_example_is_right(transposed: bool) -> None:
    check_example(transposed, (144, 208, 336), (64, 64, 64), 4)


def test_a_factor_in_registers_is_rounded_to_tf32() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((64, 32)).astype(np.float32) for _ in range(2))
    c = np.full((64, 64), np.nan, np.float32)
    signature = dict.fromkeys("abc", "*fp32:16")
    made = kernels.doubled.compile(signature, {"K": 32}, target="sm_90a", num_warps=4)
    assert "wgmma" in made.asm["ptx"]
    Run(made, {"a": a, "b": b, "c": c}, (1,)).on_machine()
    x, y = round_tf32(a).astype(float), cut_tf32(b).astype(float)
    assert (np.abs(c - 2 * x @ y.T) <= 1e-6 * (np.abs(x) @ np.abs(y.T))).all()


def test_persistent_programs_are_right() -> None:
    m, n, k = 144, 128, 208
    a, b, c = random((m, k), 0), random((n, k), 1), np.full((m, n), 77, np.float32)
    made = kernels.compiled(kernels.persistent, TILE, num_warps=4, num_stages=3)
    run = Run(made, {"a": a, "b": b, "c": c, "m": m, "n": n, "k": k}, (2,))
    run.on_machine()
    np.testing.assert_allclose(c, a.astype(float) @ b.astype(float).T, atol=1e-3)


def test_loops_that_share_bytes_are_right() -> None:
    m, n, k = 64, 64, 192
    a, b, gate = (random((64, k), seed) for seed in range(3))
    c = np.full((m, n), 77, np.float32)
    made = kernels.compiled(kernels.gated, TILE, num_warps=4, num_stages=3)
    assert made.metadata["shared_bytes"] == 3 * 3 * 64 * 64 * 2
    values = {"a": a, "b": b, "gate": gate, "c": c, "m": m, "n": n, "k": k}
    Run(made, values, (1, 1)).on_machine()
    x, y, z = (each.astype(float) for each in (a, b, gate))
    np.testing.assert_allclose(c, x @ y.T * (1 + 1 / (1 + np.exp(-(x @ z.T)))), rtol=1e-3, atol=0.1)


def doubled(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The result of `branching`."""
    total = np.zeros((64, 64))
    for i in range(0, a.shape[1], 64):
        total = total * (1 + i // 64 % 2) + a[:, i : i + 64] @ b[:, i : i + 64].T
    return total


# kernel, sizes of a and b, what c is
LOOPS: dict[str, tuple[Any, tuple[int, int], tuple[int, int], Callable[..., np.ndarray]]] = {
    "branching": (kernels.branching, (64, 320), (64, 320), doubled),
    "read_twice": (
        kernels.read_twice, (64, 320), (64, 320), lambda a, b: a @ b.T + a.sum(1)[:, None],
    ),
    "nested": (
        kernels.nested, (192, 64), (256, 64),
        lambda a, b: a.reshape(3, 64, 64).sum(0) @ b.reshape(4, 64, 64).sum(0).T,
    ),
    "one_factor": (
        kernels.one_factor, (64, 64), (320, 64),
        lambda a, b: np.exp2(a @ b.T).astype(ml_dtypes.bfloat16).astype(float) @ b,
    ),
}  # fmt: skip


@pytest.mark.parametrize("stages", [2, 3, 4])
@pytest.mark.parametrize("name", LOOPS)
def test_all_kinds_of_loops_are_right(name: str, stages: int) -> None:
    kernel, left, right, expected = LOOPS[name]
    a, b = ((random(shape, 0) / 4).astype(ml_dtypes.bfloat16) for shape in (left, right))
    c = np.full((64, 64), 77, np.float32)
    made = kernels.compiled(kernel, TILE, num_warps=4, num_stages=stages)
    assert "cp.async.cg" in made.asm["ptx"]
    n = 64 if name in ("branching", "read_twice") else len(b)
    values = {"a": a, "b": b, "c": c, "m": len(a), "n": n, "k": a.shape[1]}
    Run(made, values, (1,)).on_machine()
    np.testing.assert_allclose(c, expected(a.astype(float), b.astype(float)), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize(
    ("n", "stages", "causal"), [(64, 3, False), (256, 3, True), (320, 4, False)]
)
def test_attention_is_right(n: int, stages: int, causal: bool) -> None:
    q, k, v = (random((n, 64), seed) for seed in range(3))
    o = np.full((n, 64), 77, np.float32)
    made = kernels.compiled(attention, {**ATTENTION, "CAUSAL": causal}, num_warps=4,
                            num_stages=stages)  # fmt: skip
    scale = 0.18
    Run(made, {"q": q, "k": k, "v": v, "o": o, "N": n, "scale": scale}, (n // 64,)).on_machine()
    scores = q.astype(float) @ k.astype(float).T * scale
    if causal:
        scores = np.where(np.tril(np.ones((n, n), bool)), scores, -1e30)
    weights = np.exp2(scores - scores.max(axis=1, keepdims=True))
    expected = weights @ v.astype(float) / weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(o, expected, atol=5e-3)


# ---------------------------------------------------------------- what the machine finds

PROBLEM = Gemm("bf16", (64, 64, 256), (64, 64, 32), stages=4, transposed=(False, True))


@pytest.mark.parametrize(
    ("remove", "number", "what"),
    [
        (r"bar\.sync\s+0;", 0, "no barrier behind"),
        (r"fence\.proxy\.async\S*;", 0, "not fenced"),
        (r"cp\.async\.wait_group\s+1;", 0, "while a copy is under way"),
        (r"cp\.async\.commit_group;", 0, "while a copy is under way"),
        (r"wgmma\.wait_group\.sync\.aligned 1;", 0, "while a product reads"),
        (r"wgmma\.wait_group\.sync\.aligned 0;", 0, "before it is there"),
        (r"bar\.sync\s+0;", 1, "without a barrier"),
    ],
)
def test_the_machine_misses_each_part(remove: str, number: int, what: str) -> None:
    run = PROBLEM.run("sm_90a")
    ptx = run.compiled.asm["ptx"]
    place = list(re.finditer(remove, ptx))[number]
    metadata = run.compiled.metadata
    values = [run.arguments[each["name"]] for each in metadata["arguments"]]
    machine = Machine(
        ptx[: place.start()] + ptx[place.end() :], values, 128, metadata["shared_bytes"]
    )
    with pytest.raises(AssertionError, match=what):
        machine.run(run.grid)


# ---------------------------------------------------------------- what the proofs find


@cache
def text(name: str) -> str:
    kernel, sizes, warps, stages = CASES[name]
    module = kernels.final_ir(kernel, sizes, num_warps=warps, num_stages=stages)
    return print_module(module, locations=False)


def is_refused(proof: Pass, module: Module) -> bool:
    try:
        proof._run(module)
    except CompileError:
        return True
    return False


PROOFS = (ProveRings(), ProveBarriers())


@pytest.mark.parametrize("name", CASES)
def test_what_the_passes_make_is_accepted(name: str) -> None:
    for proof in PROOFS:
        proof._run(parse(text(name)))


def loop_ops(module: Module, *kinds: type[Op]) -> list[Op]:
    """The ops of these kinds that stand directly in a loop with products."""
    loops = [op for op in module.walk() if isinstance(op, For)]
    blocks = [loop.body.block for loop in loops]
    blocks = [b for b in blocks if any(isinstance(op, Wgmma) for op in b.ops)]
    return [op for block in blocks for op in block.ops if isinstance(op, kinds)]


def drop(op: Op) -> None:
    op.erase()


def weaken(op: Op) -> None:
    op.attributes["groups"] += 1


def fence_later(op: Op) -> None:
    """Behind the barrier."""
    block = op.parent
    assert block is not None
    position = block.ops.index(op)
    op.detach()
    block.insert(position + 1, op)


def one_slot_too_few(op: Op) -> None:
    kind = op.results[0].type
    op.results[0].type = kind.__class__(kind.shape, kind.element, kind.layout, kind.depth - 1)
    for slot in list(op.results[0].users):
        for each in (slot.operands[1].owner, *slot.operands[1].users):
            if isinstance(each, NextSlot) and each.depth > op.results[0].type.depth:
                each.attributes["depth"] -= 1
                each.attributes["by"] = min(each.by, each.depth - 1)


def another_slot(op: Op) -> None:
    """The slot behind."""
    depth = op.operands[0].type.depth
    builder = Builder.before(op)
    op.set_operand(1, builder.insert(NextSlot(op.operands[1], depth, loc=op.loc)).result)


Mutation = tuple[Callable[[Op], None], tuple[type[Op], ...], Callable[[Op], bool]]


def always(op: Op) -> bool:
    return True


def is_copied_to(op: Op) -> bool:
    return any(isinstance(user, AsyncCopy) for user in op.results[0].users)


def is_of_copies(op: Op) -> bool:
    """Whether threads copy to a buffer."""
    slots = [user for user in op.results[0].users if isinstance(user, SharedSlot)]
    return any(map(is_copied_to, slots))


MUTATIONS: dict[str, Mutation] = {
    "no wait for copies": (drop, (AsyncWait,), always),
    "a wait that is too weak": (weaken, (AsyncWait,), always),
    "no fence": (drop, (FenceAsync,), always),
    "a fence behind the barrier": (fence_later, (FenceAsync,), always),
    "no barrier": (drop, (Barrier,), always),
    "no group": (drop, (AsyncCommit,), always),
    "a wait for products that is too weak": (weaken, (WgmmaWait,), lambda op: op.groups == 1),
    "copies to another slot": (another_slot, (SharedSlot,), is_copied_to),
    "products of another slot": (
        another_slot,
        (SharedSlot,),
        lambda op: not is_copied_to(op) and is_of_copies(op.operands[0].owner),
    ),
}


# What is wrong in another way than that two accesses meet: that a result is read too early, or that
# a slot holds nothing, only one of the proofs finds; which iteration's factors a slot holds, none.
ONE_PROOF = {
    ("attention", "a wait for products that is too weak"): ("prove-rings",),
    ("attention", "copies to another slot"): ("prove-rings",),
    ("attention", "products of another slot"): (),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
@pytest.mark.parametrize("name", CASES)
def test_without_any_part_both_proofs_refuse(name: str, mutation: str) -> None:
    change, kinds, applies = MUTATIONS[mutation]
    count = sum(applies(op) for op in loop_ops(parse(text(name)), *kinds))
    assert count > 0
    expected = ONE_PROOF.get((name, mutation), [proof.name for proof in PROOFS])
    for number in range(count):
        for proof in PROOFS:
            module = parse(text(name))
            change([op for op in loop_ops(module, *kinds) if applies(op)][number])
            if proof.name in expected:
                assert is_refused(proof, module), f"{proof.name} accepts number {number}"


@pytest.mark.parametrize("name", CASES)
def test_with_one_slot_too_few_both_proofs_refuse(name: str) -> None:
    module = parse(text(name))
    count = sum(isinstance(op, SharedAlloc) and is_of_copies(op) for op in module.walk())
    for number in range(count):
        for proof in PROOFS:
            module = parse(text(name))
            found = [op for op in module.walk() if isinstance(op, SharedAlloc) and is_of_copies(op)]
            one_slot_too_few(found[number])
            assert is_refused(proof, module), f"{proof.name} accepts number {number}"


@pytest.mark.parametrize("name", CASES)
def test_barriers_outside_of_loops_are_needed_too(name: str) -> None:
    """Those by which the bytes of slots change hands, and slots are seen behind their loop."""

    def barriers(module: Module) -> list[Op]:
        inside = loop_ops(module, Barrier)
        return [op for op in module.walk() if isinstance(op, Barrier) and op not in inside]

    for number in range(len(barriers(parse(text(name))))):
        module = parse(text(name))
        barriers(module)[number].erase()
        assert is_refused(ProveBarriers(), module), number
