"""Results of kernels whose copies and products run beside the threads, with each of the optional
passes and without, against float64, on a GPU that has warpgroups.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import blocklang
from blocklang import environment
from blocklang.environment import OPTIONAL_PASSES
from blocklang.kernel import JitFunction
from blocklang.runtime import cuda, device_array
from tests.overlap_kernels import attention, gemm, persistent

pytestmark = pytest.mark.gpu

COMBINATIONS = [
    ",".join(names)
    for count in range(len(OPTIONAL_PASSES) + 1)
    for names in itertools.combinations(OPTIONAL_PASSES, count)
]


@pytest.fixture(autouse=True)
def needs_warpgroups() -> None:
    target = cuda.device(0).target
    if target != "sm_90a":
        pytest.skip(f"{target} has no warpgroups")


@pytest.fixture(params=COMBINATIONS, ids=lambda names: names or "all")
def disabled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(environment.DISABLE_PASSES.name, request.param)
    return str(request.param)


@pytest.fixture
def fresh(disabled: str) -> Any:
    """Kernels that have compiled nothing yet: what they have compiled knows no environment."""

    def again(kernel: JitFunction) -> JitFunction:
        return blocklang.jit(kernel.__wrapped__)

    return again


def sample(*shape: int, seed: int) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float16)


# rows, columns and depth of the result; the last ones divide nothing, or are one step, or none
SHAPES = [(256, 256, 512), (384, 128, 64), (1000, 712, 264), (72, 136, 1048), (64, 64, 8)]
TILES = [  # M, N, K, warps
    (64, 64, 64, 4), (128, 128, 64, 4), (128, 128, 64, 8), (128, 256, 64, 8), (256, 128, 64, 16),
]  # fmt: skip


def check_product(c: Any, a: Any, b: Any) -> None:
    exact = a.astype(np.float64) @ b.astype(np.float64)
    size = np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64)
    # Sums in float32, then one rounding to float16.
    assert (np.abs(c - exact) <= 2.0**-10 * np.abs(exact) + 2.0**-16 * size + 2.0**-24).all()


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
@pytest.mark.parametrize("tile", TILES, ids=str)
def test_product(tile: tuple[int, int, int, int], stages: int, fresh: Any) -> None:
    rows, columns, depth, warps = tile
    if stages * depth * (rows + columns) * 2 + rows * columns * 2 > 220 * 1024:
        pytest.skip("more shared memory than there is")
    kernel = fresh(gemm)
    for m, n, k in SHAPES:
        a, b = sample(m, k, seed=1), sample(k, n, seed=2)
        c = device_array(np.full((m, n), np.nan, np.float16))
        grid = blocklang.cdiv(m, rows), blocklang.cdiv(n, columns)
        kernel[grid](
            device_array(a), device_array(b), c, m, n, k, M=rows, N=columns, K=depth,
            num_warps=warps, num_stages=stages,
        )  # fmt: skip
        check_product(c.to_host(), a, b)


@pytest.mark.parametrize("programs", [1, 3, 132])
@pytest.mark.parametrize("tile", TILES[1:4], ids=str)
def test_tiles_one_after_the_other(
    tile: tuple[int, int, int, int], programs: int, fresh: Any
) -> None:
    rows, columns, depth, warps = tile
    kernel = fresh(persistent)
    for m, n, k in SHAPES:
        a, b = sample(m, k, seed=3), sample(n, k, seed=4)
        c = device_array(np.full((m, n), np.nan, np.float16))
        kernel[(programs,)](
            device_array(a), device_array(b), c, m, n, k, M=rows, N=columns, K=depth,
            num_warps=warps, num_stages=3,
        )  # fmt: skip
        check_product(c.to_host(), a, b.T)


@pytest.mark.parametrize("stages", [1, 2, 3])
@pytest.mark.parametrize(
    ("rows", "keys", "width", "warps"),
    [(64, 64, 64, 4), (128, 64, 64, 4), (128, 128, 64, 8), (128, 128, 128, 8), (128, 64, 128, 8)],
)
def test_attention(rows: int, keys: int, width: int, warps: int, stages: int, fresh: Any) -> None:
    if stages * 2 * keys * width * 2 + 2 * rows * width * 2 > 220 * 1024:
        pytest.skip("more shared memory than there is")
    kernel = fresh(attention)
    for m, n in [(128, 512), (200, 1000), (64, 64), (64, 40), (1, 129)]:
        q, k, v = (sample(size, width, seed=i) for i, size in enumerate((m, n, n)))
        o = device_array(np.full((m, width), np.nan, np.float16))
        scale = 1.4426950408889634 / width**0.5
        kernel[(blocklang.cdiv(m, rows),)](
            device_array(q), device_array(k), device_array(v), o, m, n, scale,
            M=rows, N=keys, D=width, num_warps=warps, num_stages=stages,
        )  # fmt: skip
        s = q.astype(np.float64) @ k.astype(np.float64).T * scale
        p = np.exp2(s - s.max(1, keepdims=True))
        exact = p / p.sum(1, keepdims=True) @ v.astype(np.float64)
        # The weights are rounded to float16 before they are summed.
        np.testing.assert_allclose(o.to_host(), exact, rtol=2.0**-9, atol=2.0**-9)
