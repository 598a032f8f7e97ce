"""Matrix products on a GPU, against NumPy in float64 or exact integers.

Each problem runs as compiled for the device, and as code for older ones: for sm_90 without
warpgroups where the device has them, and from PTX for sm_80.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from blocklang.codegen.targets import gpu_target
from tests.products import KINDS, Gemm, Run, attention, batched, persistent, stage_bytes
from tests.unit.test_products import bfloat16

pytestmark = pytest.mark.gpu

SIZES = (1, 17, 100, 129, 1000, 4097)
WARPS = (1, 2, 4, 8, 16)
STAGES = (1, 2, 3, 4, 5, 6)
BLOCKS = ((64, 64, 32), (128, 64, 32), (32, 64, 64), (16, 16, 16), (64, 128, 64))


def problems() -> Iterator[Gemm]:
    """Each size along each axis for each dtype; the rest is drawn."""
    choose = random.Random(1)
    for kind, axis, size in itertools.product(KINDS, range(3), SIZES):
        sizes = [choose.choice(SIZES[:5]) for _ in range(3)]
        sizes[axis] = size
        yield drawn(choose, kind, sizes)
    for kind in ("bf16", "fp32", "i8"):
        for warps, stages in itertools.product(WARPS, STAGES):
            sizes = [choose.choice((129, 256, 512)) for _ in range(3)]
            yield drawn(choose, kind, sizes, warps, stages)


def drawn(
    choose: random.Random, kind: str, sizes: list[int], warps: int = 0, stages: int = 0
) -> Gemm:
    stages = stages or choose.choice(STAGES)
    most = gpu_target("sm_80").shared_bytes // stages
    blocks = choose.choice(
        [b for b in (BLOCKS if kind != "fp64" else BLOCKS[2:4]) if stage_bytes(kind, b) <= most]
    )
    return Gemm(
        kind,
        (sizes[0], sizes[1], sizes[2]),
        blocks,
        warps or choose.choice((2, 4, 8)),
        stages,
        (choose.random() < 0.4, choose.random() < 0.4),
        choose.choice(["tf32", "tf32", "tf32x3", "ieee"]),
        choose.choice([None, 64]) if kind.startswith("fp8") else None,
        seed=choose.randrange(1 << 30),
    )


PROBLEMS = list(problems())


def targets() -> list[str]:
    from blocklang.runtime import cuda

    own = cuda.device(0).target
    return list(dict.fromkeys([own, own.rstrip("a"), "sm_80"]))


def targets_of(number: int) -> list[str]:
    """For a problem of many, the device's own target and one of the others."""
    own, *others = targets()
    return [own, others[number % len(others)]] if others else [own]


@pytest.mark.parametrize("number", range(len(PROBLEMS)))
def test_gemm(number: int) -> None:
    # The device may have less shared memory than what the problems are drawn for.
    least = min(gpu_target(target).shared_bytes for target in targets())
    problem = PROBLEMS[number].within(least)
    for target in targets_of(number):
        run = problem.run(target)
        run.on_gpu(from_ptx=target == "sm_80")
        problem.check(run)


@pytest.mark.parametrize("stages", [1, 2, 3, 5])
def test_persistent_programs(stages: int) -> None:
    rng = np.random.default_rng(stages)
    m, n, k = 1000, 600, 512
    a, b = bfloat16(rng, m, k), rng.integers(-9, 9, (n, k)).astype(np.int8)
    signature = {"a": "*bf16:16", "b": "*i8:16", "c": "*fp32:16", "M": "i32", "N": "i32"}
    expected = a.astype(np.float64) @ (2.0 * b.T)
    for target in targets():
        c = np.zeros((m, n), np.float32)
        kernel = persistent.compile(
            {**signature, "K": "i32:16"}, {"BM": 64, "BN": 64, "BK": 64, "STAGES": stages}, target
        )
        run = Run(kernel, {"a": a, "b": b, "c": c, "M": m, "N": n, "K": k}, (50,))
        run.on_gpu(from_ptx=target == "sm_80")
        np.testing.assert_allclose(c, expected, rtol=1e-3, atol=2e-2)


@pytest.mark.parametrize(
    ("n", "d", "warps", "causal"),
    [(128, 64, 4, False), (1000, 64, 4, True), (777, 128, 8, False), (2048, 32, 2, True)],
)
def test_attention(n: int, d: int, warps: int, causal: bool) -> None:
    rng = np.random.default_rng(n)
    q, k, v = (bfloat16(rng, n, d) for _ in range(3))
    s = q.astype(np.float64) @ k.astype(np.float64).T / np.sqrt(d)
    s = np.where(np.tril(np.ones((n, n), bool)), s, -np.inf) if causal else s
    p = np.exp(s - s.max(axis=1, keepdims=True))
    expected = p / p.sum(axis=1, keepdims=True) @ v.astype(np.float64)
    signature = {**dict.fromkeys("qkv", "*bf16:16"), "o": "*fp32:16", "N": "i32", "scale": "fp32"}
    for target in targets():
        o = np.zeros((n, d), np.float32)
        kernel = attention.compile(
            signature, {"BM": 64, "BN": 32, "D": d, "CAUSAL": causal}, target, num_warps=warps
        )
        scale = float(np.log2(np.e) / np.sqrt(d))
        arguments: dict[str, Any] = {"q": q, "k": k, "v": v, "o": o, "N": n, "scale": scale}
        Run(kernel, arguments, (-(-n // 64),)).on_gpu(from_ptx=target == "sm_80")
        np.testing.assert_allclose(o, expected, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("kind", ["fp16", "fp32", "fp64", "i8"])
def test_a_batch(kind: str) -> None:
    rng = np.random.default_rng(0)
    dtype, _, spelled, _ = KINDS[kind]
    a = (4 * rng.standard_normal((8, 32, 32))).astype(dtype)
    b = (4 * rng.standard_normal((8, 32, 16))).astype(dtype)
    signature = {"a": f"*{kind}:16", "b": f"*{kind}:16", "c": f"*{spelled}:16"}
    for target in targets():
        c = np.zeros((8, 32, 16), {"fp64": np.float64, "i32": np.int32}.get(spelled, np.float32))
        kernel = batched.compile(signature, {"B": 8, "M": 32, "N": 16, "K": 32}, target)
        Run(kernel, {"a": a, "b": b, "c": c}, (1,)).on_gpu(from_ptx=target == "sm_80")
        expected = a.astype(np.float64) @ b.astype(np.float64)
        np.testing.assert_allclose(c, expected, rtol=1e-4, atol=1e-3)
