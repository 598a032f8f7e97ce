"""Kernels for sm_90a whose factors come by pointers, so that the threads copy them, and how to
compile them for tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import blocklang
import blocklang.language as bl
from blocklang.ir.core import Module
from blocklang.ir.parser import parse
from blocklang.kernel import JitFunction
from tests.products import attention


@blocklang.jit
def persistent(a, b, c, m, n, k, M: bl.constexpr, N: bl.constexpr, K: bl.constexpr):
    """c = a b^T by programs that take one tile after the other."""
    across = bl.cdiv(n, N)
    inner = bl.arange(0, K)
    for tile in range(bl.program_id(0), bl.cdiv(m, M) * across, bl.num_programs(0)):
        row = tile // across * M + bl.arange(0, M)
        column = tile % across * N + bl.arange(0, N)
        acc = bl.zeros((M, N), bl.float32)
        for i in range(0, k, K):
            at = i + inner
            x = bl.load(
                a + row[:, None] * k + at[None, :],
                mask=(row[:, None] < m) & (at[None, :] < k),
                other=0,
            )
            y = bl.load(
                b + column[None, :] * k + at[:, None],
                mask=(column[None, :] < n) & (at[:, None] < k),
                other=0,
            )
            acc = bl.dot(x, y, acc)
        mask = (row[:, None] < m) & (column[None, :] < n)
        bl.store(c + row[:, None] * n + column[None, :], acc, mask=mask)


@blocklang.jit
def mixed(a, b, c, m, n, k, M: bl.constexpr, N: bl.constexpr, K: bl.constexpr):
    """One tile of c = a b^T for each program: a by a descriptor, b by pointers."""
    left = bl.make_tensor_descriptor(a, [m, k], [k, 1], [M, K])
    out = bl.make_tensor_descriptor(c, [m, n], [n, 1], [M, N])
    row, first = bl.program_id(0) * M, bl.program_id(1) * N
    column = first + bl.arange(0, N)
    acc = bl.zeros((M, N), bl.float32)
    for i in range(0, k, K):
        at = i + bl.arange(0, K)
        y = bl.load(
            b + column[None, :] * k + at[:, None],
            mask=(column[None, :] < n) & (at[:, None] < k),
            other=0,
        )
        acc = bl.dot(left.load([row, i]), y, acc)
    out.store([row, first], acc)


@blocklang.jit
def gated(a, b, gate, c, m, n, k, M: bl.constexpr, N: bl.constexpr, K: bl.constexpr):
    """c = a b^T * sigmoid(a gate^T) + a b^T: two sums in one loop, and a loop behind it; sizes are
    multiples of blocks.
    """
    row = bl.program_id(0) * M + bl.arange(0, M)
    column = bl.program_id(1) * N + bl.arange(0, N)
    acc, other = bl.zeros((M, N), bl.float32), bl.zeros((M, N), bl.float32)
    for i in range(0, k, K):
        at = i + bl.arange(0, K)
        x = bl.load(a + row[:, None] * k + at[None, :])
        acc = bl.dot(x, bl.load(b + column[None, :] * k + at[:, None]), acc)
        other = bl.dot(x, bl.load(gate + column[None, :] * k + at[:, None]), other)
    acc = acc * bl.sigmoid(other)
    for i in range(0, k, K):
        at = i + bl.arange(0, K)
        x = bl.load(a + row[:, None] * k + at[None, :])
        acc = bl.dot(x, bl.load(b + column[None, :] * k + at[:, None]), acc)
    bl.store(c + row[:, None] * n + column[None, :], acc)


@blocklang.jit
def doubled(a, b, c, K: bl.constexpr):
    """c = 2 a b^T for 64 rows and columns: the left factor is computed, and stays in registers."""
    i, at = bl.arange(0, 64), bl.arange(0, K)
    x = bl.load(a + i[:, None] * K + at[None, :])
    y = bl.load(b + i[None, :] * K + at[:, None])
    bl.store(c + i[:, None] * 64 + i[None, :], bl.dot(x + x, y))


@blocklang.jit
def branching(a, b, c, m, n, k, M: bl.constexpr, N: bl.constexpr, K: bl.constexpr):
    """c = a b^T of one tile, whose sum is doubled in every other iteration."""
    row, column = bl.arange(0, M), bl.arange(0, N)
    acc = bl.zeros((M, N), bl.float32)
    for i in range(0, k, K):
        at = i + bl.arange(0, K)
        x = bl.load(a + row[:, None] * k + at[None, :])
        y = bl.load(b + column[None, :] * k + at[:, None])
        if i // K % 2 == 0:
            acc = bl.dot(x, y, acc)
        else:
            acc = bl.dot(x, y, acc * 2)
    bl.store(c + row[:, None] * n + column[None, :], acc)


@blocklang.jit
def read_twice(a, b, c, m, n, k, M: bl.constexpr, N: bl.constexpr, K: bl.constexpr):
    """c = a b^T + the sums of the rows of a, of one tile: threads read a factor, too."""
    row, column = bl.arange(0, M), bl.arange(0, N)
    acc, sums = bl.zeros((M, N), bl.float32), bl.zeros((M,), bl.float32)
    for i in range(0, k, K):
        at = i + bl.arange(0, K)
        x = bl.load(a + row[:, None] * k + at[None, :])
        sums += bl.sum(x.to(bl.float32), 1)
        acc = bl.dot(x, bl.load(b + column[None, :] * k + at[:, None]), acc)
    bl.store(c + row[:, None] * n + column[None, :], acc + sums[:, None])


@blocklang.jit
def nested(a, b, c, m, n, k, M: bl.constexpr, N: bl.constexpr, K: bl.constexpr):
    """c = the sum of the products of all blocks of rows of a and of b, transposed: the outer loop
    loads for products of the inner one.
    """
    inner = bl.arange(0, K)
    acc = bl.zeros((M, N), bl.float32)
    for j in range(0, m, M):
        x = bl.load(a + (j + bl.arange(0, M))[:, None] * K + inner[None, :])
        for i in range(0, n, N):
            y = bl.load(b + (i + bl.arange(0, N))[None, :] * K + inner[:, None])
            acc = bl.dot(x, y, acc)
    bl.store(c + bl.arange(0, M)[:, None] * N + bl.arange(0, N)[None, :], acc)


@blocklang.jit
def one_factor(a, b, c, m, n, k, M: bl.constexpr, N: bl.constexpr, K: bl.constexpr):
    """c = exp2(a b^T) b, over all rows of b: two products read one slot, in two iterations."""
    row, inner = bl.arange(0, M), bl.arange(0, K)
    x = bl.load(a + row[:, None] * K + inner[None, :])
    acc = bl.zeros((M, K), bl.float32)
    for i in range(0, n, N):
        y = bl.load(b + (i + bl.arange(0, N))[:, None] * K + inner[None, :])
        p = bl.exp2(bl.dot(x, bl.trans(y)))
        acc = bl.dot(p.to(bl.bfloat16), y, acc)
    bl.store(c + row[:, None] * K + inner[None, :], acc)


PRODUCT = {"a": "*bf16:16", "b": "*bf16:16", "c": "*fp32:16",
           "m": "i32:16", "n": "i32:16", "k": "i32:16"}  # fmt: skip
ATTENTION = {"q": "*bf16:16", "k": "*bf16:16", "v": "*bf16:16", "o": "*fp32:16",
             "N": "i32:16", "scale": "fp32"}  # fmt: skip
SIGNATURES: Mapping[JitFunction, dict[str, str]] = {
    persistent: PRODUCT,
    mixed: PRODUCT,
    gated: {**PRODUCT, "gate": "*bf16:16"},
    attention: ATTENTION,
    **dict.fromkeys((branching, read_twice, nested, one_factor), PRODUCT),
}


def compiled(kernel: JitFunction, sizes: Mapping[str, Any], **options: Any) -> Any:
    """The kernel, compiled for sm_90a."""
    return kernel.compile(SIGNATURES[kernel], constexprs=dict(sizes), target="sm_90a", **options)


def final_ir(kernel: JitFunction, sizes: Mapping[str, Any], **options: Any) -> Module:
    """The kernel with explicit shared memory, as code is generated from it."""
    return parse(compiled(kernel, sizes, **options).asm["shared"])
