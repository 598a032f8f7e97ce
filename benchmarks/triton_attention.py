"""The peer of `attention`: the forward pass in Triton, with block pointers, and its causal loop cut
into blocks that all see and those on the diagonal.
"""

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl

BLOCKS = ((128, 128, 8), (128, 64, 8), (128, 64, 4))


def quickly(run: Callable[[], object], quantiles: Any) -> Any:
    """How long tuning measures a configuration."""
    return triton.testing.do_bench(run, warmup=2, rep=20, quantiles=quantiles)


@triton.jit
def attend(
    x, keys, values, row, start, end, top, total, acc, factor, CAUSAL: tl.constexpr,
    BN: tl.constexpr,
):  # fmt: skip
    """Walk over keys from `start` to `end`, under a mask if CAUSAL."""
    for n in range(start, end, BN):
        s = tl.dot(x, tl.load(keys)) * factor
        if CAUSAL:
            s = tl.where(row[:, None] >= n + tl.arange(0, BN)[None, :], s, -1e6)
        higher = tl.maximum(top, tl.max(s, 1))
        p = tl.exp2(s - higher[:, None])
        shrunk = tl.exp2(top - higher)
        total = total * shrunk + tl.sum(p, 1)
        acc = acc * shrunk[:, None]
        z = tl.load(values)
        acc = tl.dot(p.to(z.dtype), z, acc)
        top = higher
        keys = tl.advance(keys, (0, BN))
        values = tl.advance(values, (BN, 0))
    return keys, values, top, total, acc


@triton.jit
def attention(
    q, k, v, o, lse, rows, scale,
    D: tl.constexpr, CAUSAL: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """A block of queries a program, the causal ones with most keys first; BM divides rows."""
    head = tl.program_id(1).to(tl.int64)
    block = tl.program_id(0)
    if CAUSAL:
        block = tl.num_programs(0) - 1 - block
    start = head * rows * D
    queries = tl.make_block_ptr(q + start, (rows, D), (D, 1), (block * BM, 0), (BM, D), (1, 0))
    keys = tl.make_block_ptr(k + start, (D, rows), (1, D), (0, 0), (D, BN), (0, 1))
    values = tl.make_block_ptr(v + start, (rows, D), (D, 1), (0, 0), (BN, D), (1, 0))
    x = tl.load(queries)
    row = block * BM + tl.arange(0, BM)
    top = tl.full((BM,), -float("inf"), tl.float32)
    total = tl.zeros((BM,), tl.float32)
    acc = tl.zeros((BM, D), tl.float32)
    factor = scale * 1.44269504
    common = rows
    if CAUSAL:
        common = block * BM
    keys, values, top, total, acc = attend(
        x, keys, values, row, 0, common, top, total, acc, factor, False, BN
    )
    if CAUSAL:
        keys, values, top, total, acc = attend(
            x, keys, values, row, common, common + BM, top, total, acc, factor, True, BN
        )
    tl.store(lse + head * rows + row, (top + tl.log2(total)) * 0.6931471805599453)
    results = tl.make_block_ptr(o + start, (rows, D), (D, 1), (block * BM, 0), (BM, D), (1, 0))
    tl.store(results, (acc / total[:, None]).to(o.dtype.element_ty))


tuned = triton.autotune(
    configs=[
        triton.Config({"BM": m, "BN": n}, num_stages=stages, num_warps=warps)
        for m, n, warps in BLOCKS
        for stages in (2, 3)
    ],
    key=["rows", "D", "CAUSAL"],
    do_bench=quickly,
)(attention)


def launch(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, o: torch.Tensor, lse: torch.Tensor,
           causal: bool) -> Callable[[], object]:  # fmt: skip
    """A launch of the tuned kernel; all heads have keys of their own, and as many as queries."""
    batch, heads, rows, size = q.shape
    grid = lambda meta: (rows // meta["BM"], batch * heads)  # noqa: E731
    return lambda: tuned[grid](q, k, v, o, lse, rows, size**-0.5, D=size, CAUSAL=causal)
