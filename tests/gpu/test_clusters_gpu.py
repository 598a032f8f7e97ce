"""Programs over clusters of blocks of threads on a real GPU: products and attention against
float64, for whole and partial tiles, with what is written once beside a product.
"""

from __future__ import annotations

import functools
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import blocklang
from blocklang.runtime import cuda, device_array
from examples import flash_attention as attention
from examples import gemm
from examples.rounding import Rounded
from tests import overlap_kernels as kernels
from tests.unit.test_clusters import counts
from tests.unit.test_flash_attention import given, judge
from tests.unit.test_gemm import close, matrix

pytestmark = pytest.mark.gpu

BF16 = ml_dtypes.bfloat16
# Parts of tiles in all dimensions; one tile of one step, of several steps; many tiles; few rows.
SHAPES = pytest.mark.parametrize(
    "shape",
    [(640, 1104, 520), (256, 256, 64), (512, 256, 1024), (1536, 1024, 768), (8, 128, 72)],
    ids=lambda shape: "x".join(map(str, shape)),
)
TILES = pytest.mark.parametrize(
    ("m", "n", "num_ctas"), [(256, 256, 2), (256, 128, 2), (128, 128, 2), (512, 128, 4)]
)


@pytest.fixture(autouse=True)
def _clusters() -> None:
    if cuda.device(0).capability[0] != 9:
        pytest.skip("these are for GPUs with clusters and warpgroups")


@functools.cache
def product(shape: tuple[int, int, int], dtype: Any) -> tuple[Any, Any, Any]:
    """a, the transposed b and the exact product: once a process, and nobody writes to them."""
    rows, columns, steps = shape
    a, b = matrix(rows, steps, dtype=dtype), matrix(columns, steps, dtype=dtype, seed=1)
    return a, b, gemm.product(Rounded(a), Rounded(b), dtype)


@SHAPES
@TILES
@pytest.mark.parametrize("num_stages", [2, 3])
def test_products(
    shape: tuple[int, int, int], m: int, n: int, num_ctas: int, num_stages: int
) -> None:
    """One tile for each program: the grid counts programs, along two axes."""
    rows, columns, _ = shape
    a, b, exact = product(shape, np.float16)
    c = device_array(np.full((rows, columns), 7, np.float16))
    grid = (blocklang.cdiv(rows, m), blocklang.cdiv(columns, n))
    there = device_array(a), device_array(np.ascontiguousarray(b.T)), c
    for _ in range(3):
        kernel = kernels.gemm[grid](
            *there, *shape, M=m, N=n, K=64, num_warps=8, num_ctas=num_ctas, num_stages=num_stages
        )
    assert kernel.num_ctas == num_ctas
    close(c.to_host(), exact)


@SHAPES
@TILES
@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("programs", [1, 5, 1000])
def test_persistent_products(
    shape: tuple[int, int, int], m: int, n: int, num_ctas: int, transposed: bool, programs: int
) -> None:
    """Programs that take one tile after the other: rings go on from tile to tile."""
    rows, columns, _ = shape
    a, b, exact = product(shape, BF16)
    given_b = b if transposed else np.ascontiguousarray(b.T)
    c = device_array(np.full((rows, columns), 7, BF16))
    tile = {"BLOCK_M": m, "BLOCK_N": n, "BLOCK_K": 64, "GROUP": 8}
    (count,) = gemm.tiles({**tile, "m": rows, "n": columns})
    kernel = gemm.gemm[(min(count, programs),)](
        device_array(a), device_array(given_b), c, *shape,
        TRANSPOSED=transposed, **tile, num_warps=8, num_ctas=num_ctas, num_stages=2,
    )  # fmt: skip
    assert kernel.num_ctas == num_ctas
    close(c.to_host(), exact)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("lengths", [(512, 512), (700, 901), (256, 64), (100, 1000)])
@pytest.mark.parametrize("size", [64, 128])
def test_attention(lengths: tuple[int, int], size: int, causal: bool) -> None:
    """Keys and values are copied for both blocks of threads, which have half of the queries."""
    example, inputs, results = given((4, 2, *lengths, size), BF16, causal)
    there = {name: device_array(array) for name, array in inputs.items()}
    out = {name: device_array(array) for name, array in results.items()}
    heads, group, length, keys, scale, _ = attention.sizes(inputs["q"], inputs["k"], None)
    kernel = attention.attention[(5,)](
        *there.values(), *out.values(), heads, group, length, keys, scale,
        D=size, CAUSAL=causal, BM=256, BN=64, EVEN=keys % 64 == 0,
        num_warps=8, num_ctas=2, num_stages=2,
    )  # fmt: skip
    assert kernel.num_ctas == 2
    judge(example, inputs, {name: array.to_host() for name, array in out.items()})


def test_what_is_not_split_is_written_once() -> None:
    """A counter beside the product, in the first two elements of `a`."""
    steps = 128
    a, b = matrix(256, steps, dtype=np.float16), matrix(steps, 128, dtype=np.float16, seed=1)
    a[0, :2] = 0  # the counter: 32 bits, tiny numbers as float16
    there, c = device_array(a), device_array(np.zeros((256, 128), np.float16))
    programs = 6
    kernel = counts[(programs,)](
        there, device_array(b), c, 256, 128, steps, M=256, N=128, K=64,
        num_warps=8, num_ctas=2, num_stages=2,
    )  # fmt: skip
    assert kernel.num_ctas == 2
    assert there.to_host().view(np.int32)[0, 0] == programs
    found = c.to_host()
    exact = gemm.product(Rounded(a), Rounded(np.ascontiguousarray(b.T)), np.float16)
    # The first row is that of the counter, and its first element is written twice.
    close(found[1:], exact[1:])
