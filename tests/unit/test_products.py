"""Matrix products as PTX does them: every instruction form, layout and depth, against NumPy."""

from __future__ import annotations

import random
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from blocklang import CompileError
from blocklang.codegen.targets import gpu_target
from tests.products import KINDS, Gemm, Run, attention, batched, persistent, stage_bytes

TARGETS = ("sm_75", "sm_80", "sm_89", "sm_90")


def check(problem: Gemm, target: str) -> Run:
    run = problem.run(target)
    run.on_machine()
    problem.check(run, has_tensor_cores=target != "sm_75")
    assert run.compiled.metadata.get("warnings", []) == []
    assert run.compiled.resources.spill_stores == 0
    return run


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", list(KINDS))
def test_every_dtype(kind: str, target: str) -> None:
    check(Gemm(kind, (40, 24, 72), (32, 32, 32)), target)


@pytest.mark.parametrize("precision", ["tf32x3", "ieee"])
def test_float32_is_nearly_exact_when_asked_for(precision: str) -> None:
    problem = Gemm("fp32", (32, 32, 64), (32, 32, 32), precision=precision)
    run = problem.run("sm_80")
    run.on_machine()
    a, b = (x.astype(np.float64) for x in problem.operands)
    error = np.abs(run.arguments["c"] - a @ b) / (np.abs(a) @ np.abs(b))
    assert error.max() < 3e-7


@pytest.mark.parametrize("transposed", [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize("kind", ["bf16", "fp32", "i8", "fp64"])
def test_operands_in_any_order(kind: str, transposed: tuple[bool, bool]) -> None:
    check(Gemm(kind, (64, 48, 80), (32, 32, 32), transposed=transposed), "sm_80")


@pytest.mark.parametrize("stages", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("depth", [0, 1, 32, 33, 64, 200])
def test_any_number_of_iterations_fits_any_number_of_stages(stages: int, depth: int) -> None:
    check(Gemm("fp16", (16, 16, depth), (16, 16, 32), warps=1, stages=stages), "sm_80")


@pytest.mark.parametrize("warps", [1, 2, 4, 8, 16])
def test_any_number_of_warps(warps: int) -> None:
    check(Gemm("bf16", (64, 64, 64), (64, 64, 32), warps=warps), "sm_80")


def test_float8_sums_are_added_up_in_float32() -> None:
    check(Gemm("fp8e5", (16, 16, 128), (16, 16, 128), warps=1, imprecise=64), "sm_89")


@pytest.mark.parametrize("seed", range(24))
def test_small_and_odd_blocks(seed: int) -> None:
    """Blocks smaller than an instruction, sizes that nothing divides."""
    choose = random.Random(seed)
    blocks = tuple(choose.choice([1, 2, 4, 8, 16, 32]) for _ in range(3))
    problem = Gemm(
        choose.choice(list(KINDS)),
        tuple(choose.randint(1, 2 * block + 1) for block in blocks),  # type: ignore[arg-type]
        blocks,  # type: ignore[arg-type]
        choose.choice([1, 2, 4, 8]),
        choose.choice([1, 2, 3]),
        (choose.random() < 0.5, choose.random() < 0.5),
        choose.choice(["tf32", "ieee"]),
        seed=seed,
    )
    check(problem, choose.choice(TARGETS))


def test_stages_that_fit() -> None:
    """As many as shared memory has room for, to the byte; the GPU's tests draw no others."""
    problem = Gemm("fp32", (64, 128, 256), (64, 128, 64), stages=4)
    with pytest.raises(CompileError, match="needs 196608 bytes of shared memory"):
        problem.run("sm_80")
    fitting = problem.within(gpu_target("sm_80").shared_bytes)
    needed = fitting.run("sm_80").compiled.metadata["shared_bytes"]
    assert needed == 3 * stage_bytes(problem.kind, problem.blocks) == 147456
    assert problem.within(10**6) == problem


def bfloat16(rng: Any, *shape: int) -> Any:
    return rng.standard_normal(shape).astype(ml_dtypes.bfloat16)


@pytest.mark.parametrize("stages", [1, 2, 4])
def test_persistent_programs_with_a_narrow_transposed_factor(stages: int) -> None:
    rng = np.random.default_rng(stages)
    m, n, k = 80, 48, 96
    a, b = bfloat16(rng, m, k), rng.integers(-9, 9, (n, k)).astype(np.int8)
    c = np.zeros((m, n), np.float32)
    compiled = persistent.compile(
        {"a": "*bf16:16", "b": "*i8:16", "c": "*fp32:16", "M": "i32", "N": "i32", "K": "i32:16"},
        {"BM": 32, "BN": 32, "BK": 32, "STAGES": stages}, "sm_80", num_warps=2,
    )  # fmt: skip
    assert ("cp.async" in compiled.asm["ptx"]) == (stages > 1)
    Run(compiled, {"a": a, "b": b, "c": c, "M": m, "N": n, "K": k}, (2,)).on_machine()
    expected = a.astype(np.float64) @ (2.0 * b.T)
    np.testing.assert_allclose(c, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("causal", "warps"), [(False, 4), (True, 4), (True, 1), (False, 8)])
def test_attention(causal: bool, warps: int) -> None:
    rng = np.random.default_rng(3)
    n, d = 100, 32
    q, k, v = (bfloat16(rng, n, d) for _ in range(3))
    o = np.zeros((n, d), np.float32)
    scale = float(np.log2(np.e) / np.sqrt(d))
    compiled = attention.compile(
        {**dict.fromkeys("qkv", "*bf16:16"), "o": "*fp32:16", "N": "i32", "scale": "fp32"},
        {"BM": 64, "BN": 32, "D": d, "CAUSAL": causal}, "sm_80", num_warps=warps,
    )  # fmt: skip
    # The probabilities are the left factor as they are, if each warp has rows of its own.
    assert ("st.shared" in loop_of(compiled.asm["ptx"])) == (warps == 8)
    arguments = {"q": q, "k": k, "v": v, "o": o, "N": n, "scale": scale}
    Run(compiled, arguments, (2,)).on_machine()
    x, y, z = (each.astype(np.float64) for each in (q, k, v))
    s = x @ y.T / np.sqrt(d)
    if causal:
        s = np.where(np.tril(np.ones((n, n), bool)), s, -np.inf)
    p = np.exp(s - s.max(axis=1, keepdims=True))
    np.testing.assert_allclose(o, p / p.sum(axis=1, keepdims=True) @ z, rtol=2e-2, atol=2e-2)


def loop_of(ptx: str) -> str:
    """What stands between the first and the last product."""
    return ptx[ptx.index("mma.sync") : ptx.rindex("mma.sync")]


@pytest.mark.parametrize("warps", [1, 2, 8])
@pytest.mark.parametrize("kind", ["fp16", "fp32", "fp64"])
def test_a_batch(kind: str, warps: int) -> None:
    rng = np.random.default_rng(warps)
    dtype, _, spelled, tolerance = KINDS[kind]
    shape = {"B": 4, "M": 16, "N": 8, "K": 32}
    a = rng.standard_normal((4, 16, 32)).astype(dtype)
    b = rng.standard_normal((4, 32, 8)).astype(dtype)
    c = np.zeros((4, 16, 8), {"fp64": np.float64}.get(spelled, np.float32))
    signature = {"a": f"*{kind}:16", "b": f"*{kind}:16", "c": f"*{spelled}:16"}
    compiled = batched.compile(signature, shape, "sm_80", num_warps=warps)
    Run(compiled, {"a": a, "b": b, "c": c}, (1,)).on_machine()
    expected = a.astype(np.float64) @ b.astype(np.float64)
    np.testing.assert_allclose(c, expected, rtol=1e-4, atol=100 * tolerance)


@pytest.mark.parametrize("target", ["sm_86", "sm_90a", "sm_100a", "sm_120a"])
@pytest.mark.parametrize("kind", list(KINDS))
def test_every_instruction_is_accepted(kind: str, target: str) -> None:
    compiled = Gemm(kind, (32, 32, 32), (32, 32, 32)).run(target).compiled
    assert compiled.metadata.get("warnings", []) == []
    assert "mma." in compiled.asm["ptx"]
