"""Matrix products and attention on the CPU against NumPy, whose products are those of its BLAS.

    python -m benchmarks.cpu_products results.json

Both use all cores. The kernels are as plain as they come: pointers, masks, a loop over k. float32
products round nothing ("ieee"), as BLAS does; NumPy has no fast products of narrower floats, so
these are compared with its float32. Providers take turns, and each figure is the least of all
turns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

import blocklang
import blocklang.language as bl
from benchmarks.record import Results, parser
from blocklang.runtime.cpu import thread_count
from examples import harness

TURNS = 5
LOG2_E = 1.4426950408889634


@blocklang.jit
def multiply(
    a, b, c, M, N, K, am, ak, bk, bn, BM: bl.constexpr, BN: bl.constexpr, BK: bl.constexpr
):
    """c = a x b, for any strides of a and b; c is row-major."""
    m = bl.program_id(0) * BM + bl.arange(0, BM)
    n = bl.program_id(1) * BN + bl.arange(0, BN)
    k = bl.arange(0, BK)
    left = a + m[:, None] * am + k[None, :] * ak
    right = b + k[:, None] * bk + n[None, :] * bn
    total = bl.zeros((BM, BN), bl.float32)
    for at in range(0, K, BK):
        x = bl.load(left, mask=(m[:, None] < M) & (k[None, :] < K - at), other=0.0)
        y = bl.load(right, mask=(k[:, None] < K - at) & (n[None, :] < N), other=0.0)
        total = bl.dot(x, y, total, input_precision="ieee")
        left += BK * ak
        right += BK * bk
    inside = (m[:, None] < M) & (n[None, :] < N)
    bl.store(c + m[:, None] * N + n[None, :], total, mask=inside)


@blocklang.jit
def attend(q, k, v, out, S, scale, D: bl.constexpr, BM: bl.constexpr, BN: bl.constexpr):
    """Attention of each head, over keys in blocks; heads are program_id(1)."""
    head = bl.program_id(1) * S * D
    m, n, d = bl.program_id(0) * BM + bl.arange(0, BM), bl.arange(0, BN), bl.arange(0, D)
    rows = head + m[:, None] * D + d[None, :]
    query = bl.load(q + rows, mask=m[:, None] < S, other=0.0)
    most, total = bl.full((BM,), -float("inf"), bl.float32), bl.zeros((BM,), bl.float32)
    acc = bl.zeros((BM, D), bl.float32)
    for at in range(0, S, BN):
        here = at + n
        key = bl.load(k + head + here[None, :] * D + d[:, None], mask=here[None, :] < S, other=0.0)
        score = bl.dot(query, key, input_precision="ieee") * scale
        score = bl.where(here[None, :] < S, score, -float("inf"))
        new = bl.maximum(most, bl.max(score, axis=1))
        p, fade = bl.exp2(score - new[:, None]), bl.exp2(most - new)
        total = total * fade + bl.sum(p, axis=1)
        value = bl.load(
            v + head + here[:, None] * D + d[None, :], mask=here[:, None] < S, other=0.0
        )
        acc = bl.dot(p, value, acc * fade[:, None], input_precision="ieee")
        most = new
    bl.store(out + rows, acc / total[:, None], mask=m[:, None] < S)


def product(a: Any, b: Any, c: Any) -> None:
    """c = a x b by `multiply`."""
    (m, k), n, tile = a.shape, b.shape[1], (128, 128, 64)
    strides = [s // x.itemsize for x in (a, b) for s in x.strides]
    grid = (-(-m // tile[0]), -(-n // tile[1]))
    multiply[grid](a, b, c, m, n, k, *strides, BM=tile[0], BN=tile[1], BK=tile[2])


def product_case(size: int, dtype: Any, turned: bool) -> tuple[Any, Any, Any, Any, float]:
    """Two launches, their results, and how many operations they are."""
    a, b = (np.random.default_rng(s).standard_normal((size, size), np.float32) for s in (0, 1))
    narrow = [x.astype(dtype) for x in (a, b.T if turned else b)]
    a, b = (x.astype(np.float32) for x in (narrow[0], narrow[1].T if turned else narrow[1]))
    c, expected = np.empty_like(a), np.empty_like(a)
    left, right = narrow[0], narrow[1].T if turned else narrow[1]
    return (
        lambda: np.dot(a, b, out=expected),
        lambda: product(left, right, c),
        expected,
        c,
        2.0 * size**3,
    )


def attention_case(heads: int, size: int, depth: int) -> tuple[Any, Any, Any, Any, float]:
    """As `product_case`."""
    shape = heads, size, depth
    q, k, v = (np.random.default_rng(s).standard_normal(shape, np.float32) for s in range(3))
    out, expected = np.empty_like(q), np.empty_like(q)
    scale = depth**-0.5

    def by_numpy() -> None:
        score = q @ k.transpose(0, 2, 1)
        score *= scale
        score -= score.max(axis=-1, keepdims=True)
        np.exp(score, out=score)
        score /= score.sum(axis=-1, keepdims=True)
        np.matmul(score, v, out=expected)

    def by_blocks() -> None:
        grid = (-(-size // 128), heads)
        attend[grid](q, k, v, out, size, scale * LOG2_E, D=depth, BM=128, BN=128)

    return by_numpy, by_blocks, expected, out, 4.0 * heads * size**2 * depth


CASES: dict[str, Callable[[], tuple[Any, Any, Any, Any, float]]] = {
    "product f32 1024": lambda: product_case(1024, np.float32, False),
    "product f32 1024, transposed": lambda: product_case(1024, np.float32, True),
    "product f32 1000": lambda: product_case(1000, np.float32, False),
    "product f16 1024": lambda: product_case(1024, np.float16, False),
    "product bf16 1024": lambda: product_case(1024, ml_dtypes.bfloat16, False),
    "attention f32 8x1024x64": lambda: attention_case(8, 1024, 64),
}


def measure(results: Results, name: str) -> None:
    """Both providers on one case."""
    by_numpy, by_blocks, expected, found, operations = CASES[name]()
    launches = {"numpy": by_numpy, "blocklang": by_blocks}
    best = dict.fromkeys(launches, float("inf"))
    for _ in range(TURNS):
        for provider, launch in launches.items():
            best[provider] = min(best[provider], harness.least_seconds(launch, 0.3))
    error = float(np.abs(found - expected).max() / np.abs(expected).max())
    for provider, seconds in best.items():
        values = {"ms": 1e3 * seconds, "rate": operations / seconds}
        values["of_numpy"] = best["numpy"] / seconds
        if provider == "blocklang":
            values |= {"threads": thread_count(), "error": error, "correct": error < 1e-5}
        results.add("cpu_products", name, provider, **values)


def main() -> None:
    """Measure, print, and write JSON."""
    arguments = parser(__doc__.splitlines()[0]).parse_args()
    results = Results(arguments.commit)
    for name in CASES:
        measure(results, name)
    results.write(arguments.output)


if __name__ == "__main__":
    main()
