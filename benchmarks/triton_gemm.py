"""The peers of `gemm`: Triton's matrix products by pointers and, persistent, by descriptors."""

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

TILES = ((128, 256), (128, 128), (256, 128), (64, 256), (128, 64), (64, 128), (64, 64))


def quickly(run: Callable[[], object], quantiles: Any) -> Any:
    """How long tuning measures a configuration."""
    return triton.testing.do_bench(run, warmup=2, rep=20, quantiles=quantiles)


def pointer_configurations() -> list[triton.Config]:
    """The candidates of `pointers`."""
    return [
        triton.Config({"BM": m, "BN": n, "BK": 64, "GROUP": 8}, num_stages=stages, num_warps=warps)
        for m, n in TILES
        for stages in (3, 4)
        for warps in (4, 8)
        if warps == 8 or m * n < 32768
    ]


@triton.jit
def pointers(
    a, b, c, m, n, k, stride_am, stride_ak, stride_bk, stride_bn, stride_cm, stride_cn,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """One tile a program, as in Triton's tutorial."""
    tile = tl.program_id(0)
    width = GROUP * tl.cdiv(n, BN)
    first = tile // width * GROUP
    size = min(tl.cdiv(m, BM) - first, GROUP)
    i, j = first + tile % width % size, tile % width // size
    rows = (i * BM + tl.arange(0, BM)) % m
    columns = (j * BN + tl.arange(0, BN)) % n
    inner = tl.arange(0, BK)
    x = a + rows[:, None] * stride_am + inner[None, :] * stride_ak
    y = b + inner[:, None] * stride_bk + columns[None, :] * stride_bn
    total = tl.zeros((BM, BN), tl.float32)
    for at in range(0, tl.cdiv(k, BK)):
        p = tl.load(x, mask=inner[None, :] < k - at * BK, other=0.0)
        q = tl.load(y, mask=inner[:, None] < k - at * BK, other=0.0)
        total = tl.dot(p, q, total)
        x += BK * stride_ak
        y += BK * stride_bk
    rows = i * BM + tl.arange(0, BM)
    columns = j * BN + tl.arange(0, BN)
    mask = (rows[:, None] < m) & (columns[None, :] < n)
    z = c + rows[:, None] * stride_cm + columns[None, :] * stride_cn
    tl.store(z, total.to(c.dtype.element_ty), mask=mask)


def set_blocks(arguments: dict[str, Any]) -> None:
    """Give the descriptors of a launch the blocks of its configuration."""
    bm, bn, bk = (arguments[name] for name in ("BM", "BN", "BK"))
    arguments["a"].block_shape = [bm, bk]
    arguments["b"].block_shape = [bn, bk]
    arguments["c"].block_shape = [bm, bn // arguments["PARTS"]]


def descriptor_configurations() -> list[triton.Config]:
    """The candidates of `persistent`."""
    return [
        triton.Config(
            {"BM": m, "BN": n, "BK": 64, "GROUP": 8, "PARTS": parts},
            num_stages=stages, num_warps=warps, pre_hook=set_blocks,
        )
        for m, n in TILES[:3]
        for stages in (3, 4)
        for warps in (4, 8)
        for parts in (1, 2)
        if warps == 8 or m * n < 32768
    ]  # fmt: skip


@triton.jit
def persistent(
    a, b, c, m, n, k, PROGRAMS: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """Programs that walk over tiles; a, b (n x k) and c are descriptors. Tiles leave in PARTS."""
    rows, columns = tl.cdiv(m, BM), tl.cdiv(n, BN)
    for tile in tl.range(tl.program_id(0), rows * columns, PROGRAMS, flatten=True):
        width = GROUP * columns
        first = tile // width * GROUP
        size = min(rows - first, GROUP)
        i, j = first + tile % width % size, tile % width // size
        total = tl.zeros((BM, BN), tl.float32)
        for at in range(tl.cdiv(k, BK)):
            p = a.load([i * BM, at * BK])
            q = b.load([j * BN, at * BK])
            total = tl.dot(p, q.T, total)
        if PARTS == 2:
            halves = tl.permute(tl.reshape(total, (BM, 2, BN // 2)), (0, 2, 1))
            left, right = tl.split(halves)
            c.store([i * BM, j * BN], left.to(tl.bfloat16))
            c.store([i * BM, j * BN + BN // 2], right.to(tl.bfloat16))
        else:
            c.store([i * BM, j * BN], total.to(tl.bfloat16))


tuned_pointers = triton.autotune(pointer_configurations(), key=["m", "n", "k"], do_bench=quickly)(
    pointers
)
tuned_persistent = triton.autotune(
    descriptor_configurations(), key=["m", "n", "k"], do_bench=quickly
)(persistent)


def launch_pointers(a: Any, b: Any, c: Any) -> Callable[[], object]:
    """A launch of c = a @ b, tuned."""
    (m, k), n = a.shape, c.shape[1]
    run = tuned_pointers[lambda x: (triton.cdiv(m, x["BM"]) * triton.cdiv(n, x["BN"]),)]
    strides = (*a.stride(), *b.stride(), *c.stride())
    return lambda: run(a, b, c, m, n, k, *strides)


def launch_persistent(a: Any, b: Any, c: Any) -> Callable[[], object]:
    """A launch of c = a @ b.T, tuned."""
    (m, k), n = a.shape, c.shape[1]
    count = torch.cuda.get_device_properties(0).multi_processor_count
    described = [TensorDescriptor.from_tensor(each, [1, 1]) for each in (a, b, c)]
    run = tuned_persistent[
        lambda x: (min(count, triton.cdiv(m, x["BM"]) * triton.cdiv(n, x["BN"])),)
    ]
    return lambda: run(*described, m, n, k, count)
