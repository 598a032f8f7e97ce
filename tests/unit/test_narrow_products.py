"""Products with fewer rows than a warpgroup's instruction has: they are done with the factors
swapped, and are right.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from blocklang import compile as pipeline
from tests import overlap_kernels, pointer_kernels
from tests.products import Gemm, Run, attention
from tests.unit.test_warpgroup_copies import assert_clean, check_example, pointers, random

needs_ptxas = pytest.mark.skipif(pipeline.ptxas() is None, reason="there is no ptxas")


def shapes(made: Any) -> set[str]:
    """The instructions of warpgroups, as m64nNkK."""
    return set(re.findall(r"wgmma\.mma_async\.sync\.aligned\.(\w+)", made.asm["ptx"]))


# ---------------------------------------------------------------- code


@needs_ptxas
@pytest.mark.parametrize("warps", [4, 8])
@pytest.mark.parametrize("rows", [16, 32])
@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize(
    ("element", "depth", "step"),
    [("bf16", 64, 16), ("fp16", 64, 16), ("fp32", 32, 8), ("fp8e4nv", 128, 32), ("i8", 128, 32)],
)
def test_factors_by_pointers(
    element: str, depth: int, step: int, transposed: bool, rows: int, warps: int
) -> None:
    made = pointers(element, transposed, (rows, 128, depth), warps, 3)
    assert_clean(made)
    assert shapes(made) == {f"m64n{rows}k{step}"}


# kernel, rows, columns, warps, columns of the instruction
BY_DESCRIPTORS = [
    ("gemm", 16, 128, 4, 16), ("gemm", 32, 64, 4, 32), ("gemm", 16, 256, 8, 16),
    # Warpgroups side by side along the rows.
    ("gemm", 32, 64, 8, 16), ("gemm", 32, 128, 16, 16),
    # There are more than have work: two of four do the same.
    ("gemm", 16, 64, 16, 8),
    ("persistent", 16, 128, 4, 16), ("persistent", 32, 256, 8, 32),
]  # fmt: skip


@needs_ptxas
@pytest.mark.parametrize(("name", "rows", "columns", "warps", "width"), BY_DESCRIPTORS)
def test_factors_by_descriptors(name: str, rows: int, columns: int, warps: int, width: int) -> None:
    kernel = getattr(overlap_kernels, name)
    made = kernel.compile(
        overlap_kernels.PRODUCT, {"M": rows, "N": columns, "K": 64}, target="sm_90a",
        num_warps=warps, num_stages=4,
    )  # fmt: skip
    assert_clean(made)
    assert shapes(made) == {f"m64n{width}k16"}
    assert "1 left under way" in made.asm["schedule"]


@needs_ptxas
@pytest.mark.parametrize("rows", [16, 32])
def test_weights_of_attention_are_left_to_warps(rows: int) -> None:
    """They are computed: a left factor that would have to be a right one, in registers."""
    sizes = {"M": rows, "N": 64, "D": 64}
    made = overlap_kernels.attention.compile(
        overlap_kernels.ATTENTION, sizes, target="sm_90a", num_warps=4, num_stages=2
    )
    assert_clean(made)
    assert shapes(made) == {f"m64n{rows}k16"}
    assert "mma.sync.aligned.m16n8k16" in made.asm["ptx"]


# ---------------------------------------------------------------- results

PRODUCTS = [
    # kind, sizes, blocks, warps, transposed
    ("bf16", (16, 128, 128), (16, 64, 64), 4, (False, True)),
    ("bf16", (40, 128, 136), (16, 128, 64), 8, (False, False)),
    ("fp16", (40, 144, 144), (32, 128, 64), 8, (True, True)),
    ("fp16", (40, 144, 144), (32, 64, 64), 8, (True, False)),
    ("bf16", (40, 256, 64), (16, 256, 32), 16, (False, True)),
    ("i8", (40, 128, 144), (32, 64, 64), 4, (False, True)),
    ("u8", (40, 128, 144), (16, 64, 64), 16, (False, True)),
    ("fp8e4nv", (40, 128, 144), (16, 64, 64), 4, (False, True)),
    ("fp8e5", (40, 128, 144), (16, 64, 64), 4, (False, False)),
    ("fp32", (40, 128, 144), (16, 64, 32), 4, (False, True)),
    ("fp32", (40, 128, 144), (32, 64, 32), 8, (True, False)),
]


@pytest.mark.parametrize(("kind", "sizes", "blocks", "warps", "transposed"), PRODUCTS)
def test_products_are_right(
    kind: str, sizes: tuple[int, int, int], blocks: tuple[int, int, int], warps: int,
    transposed: tuple[bool, bool],
) -> None:  # fmt: skip
    problem = Gemm(kind, sizes, blocks, warps, 3, transposed)
    run = problem.run("sm_90a")
    assert all(shape.startswith("m64") for shape in shapes(run.compiled))
    assert shapes(run.compiled)
    run.on_machine()
    problem.check(run)


@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize(("rows", "warps"), [(16, 4), (32, 8)])
def test_the_example_is_right(rows: int, warps: int, transposed: bool) -> None:
    check_example(transposed, (48, 144, 208), (rows, 64, 64), warps)


@pytest.mark.parametrize(("rows", "warps"), [(16, 4), (32, 8)])
def test_attention_is_right(rows: int, warps: int) -> None:
    n, scale = 128, 0.18
    q, k, v = (random((n, 64), seed) for seed in range(3))
    o = np.full((n, 64), 77, np.float32)
    sizes = {"BM": rows, "BN": 64, "D": 64, "CAUSAL": False}
    made = pointer_kernels.compiled(attention, sizes, num_warps=warps, num_stages=3)
    assert shapes(made)
    values = {"q": q, "k": k, "v": v, "o": o, "N": n, "scale": scale}
    Run(made, values, (n // rows,)).on_machine()
    scores = q.astype(float) @ k.astype(float).T * scale
    weights = np.exp2(scores - scores.max(axis=1, keepdims=True))
    expected = weights @ v.astype(float) / weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(o, expected, atol=5e-3)
