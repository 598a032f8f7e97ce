"""Kernels whose copies and products run beside the threads on sm_90a: two matrix products and
attention, and how to compile them for tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import blocklang
import blocklang.language as bl
from blocklang.codegen.targets import gpu_target
from blocklang.ir.core import Module
from blocklang.ir.parser import parse
from blocklang.kernel import JitFunction

TARGET = gpu_target("sm_90a")


@blocklang.jit
def gemm(a, b, c, m, n, k, M: bl.constexpr, N: bl.constexpr, K: bl.constexpr):
    """One tile of c = a b for each program."""
    left = bl.make_tensor_descriptor(a, [m, k], [k, 1], [M, K])
    right = bl.make_tensor_descriptor(b, [k, n], [n, 1], [K, N])
    out = bl.make_tensor_descriptor(c, [m, n], [n, 1], [M, N])
    row, column = bl.program_id(0) * M, bl.program_id(1) * N
    acc = bl.zeros((M, N), bl.float32)
    for i in range(0, k, K):
        acc = bl.dot(left.load([row, i]), right.load([i, column]), acc)
    out.store([row, column], acc)


@blocklang.jit
def persistent(a, b, c, m, n, k, M: bl.constexpr, N: bl.constexpr, K: bl.constexpr):
    """c = a b^T by programs that take one tile after the other."""
    left = bl.make_tensor_descriptor(a, [m, k], [k, 1], [M, K])
    right = bl.make_tensor_descriptor(b, [n, k], [k, 1], [N, K])
    out = bl.make_tensor_descriptor(c, [m, n], [n, 1], [M, N])
    across = bl.cdiv(n, N)
    for tile in range(bl.program_id(0), bl.cdiv(m, M) * across, bl.num_programs(0)):
        row, column = tile // across * M, tile % across * N
        acc = bl.zeros((M, N), bl.float32)
        for i in range(0, k, K):
            acc = bl.dot(left.load([row, i]), right.load([column, i]).T, acc)
        out.store([row, column], acc)


@blocklang.jit
def ragged(a, b, c, lengths, m, n, k, M: bl.constexpr, N: bl.constexpr, K: bl.constexpr):
    """c = a b^T, of each block of rows over the first `lengths` of k; the threads that compute are
    told more than those that copy.
    """
    left = bl.make_tensor_descriptor(a, [m, k], [k, 1], [M, K])
    right = bl.make_tensor_descriptor(b, [n, k], [k, 1], [N, K])
    out = bl.make_tensor_descriptor(c, [m, n], [n, 1], [M, N])
    row = bl.program_id(0) * M
    length = bl.load(lengths + bl.program_id(0))
    bl.assume(length >= 0)
    acc = bl.zeros((M, N), bl.float32)
    for i in range(0, length // K):
        acc = bl.dot(left.load([row, i * K]), right.load([0, i * K]).T, acc)
    out.store([row, 0], acc)


@blocklang.jit
def attention(q, k, v, o, rows, columns, scale, M: bl.constexpr, N: bl.constexpr, D: bl.constexpr):
    """softmax(scale q k^T) v for M queries, with all keys."""
    queries = bl.make_tensor_descriptor(q, [rows, D], [D, 1], [M, D])
    keys = bl.make_tensor_descriptor(k, [columns, D], [D, 1], [N, D])
    values = bl.make_tensor_descriptor(v, [columns, D], [D, 1], [N, D])
    out = bl.make_tensor_descriptor(o, [rows, D], [D, 1], [M, D])
    row = bl.program_id(0) * M
    block = queries.load([row, 0])
    top = bl.full((M,), -1e30, bl.float32)
    total = bl.zeros((M,), bl.float32)
    acc = bl.zeros((M, D), bl.float32)
    for i in range(0, columns, N):
        s = bl.dot(block, keys.load([i, 0]).T) * scale
        s = bl.where((i + bl.arange(0, N))[None, :] < columns, s, -1e30)
        larger = bl.maximum(top, bl.max(s, 1))
        p = bl.exp2(s - larger[:, None])
        shrink = bl.exp2(top - larger)
        total = total * shrink + bl.sum(p, 1)
        acc = bl.dot(p.to(q.dtype.element_ty), values.load([i, 0]), acc * shrink[:, None])
        top = larger
    out.store([row, 0], acc / total[:, None])


PRODUCT = {"a": "*fp16:16", "b": "*fp16:16", "c": "*fp16:16",
           "m": "i32", "n": "i32:16", "k": "i32:16"}  # fmt: skip
ATTENTION = {"q": "*fp16:16", "k": "*fp16:16", "v": "*fp16:16", "o": "*fp16:16",
             "rows": "i32", "columns": "i32", "scale": "fp32"}  # fmt: skip
SIGNATURES: Mapping[JitFunction, dict[str, str]] = {
    gemm: PRODUCT,
    persistent: PRODUCT,
    attention: ATTENTION,
    ragged: {**PRODUCT, "lengths": "*i32"},
}


def final_ir(kernel: JitFunction, sizes: Mapping[str, int], **options: Any) -> Module:
    """The kernel with explicit shared memory, as code is generated from it."""
    made = kernel.compile(SIGNATURES[kernel], constexprs=dict(sizes), target="sm_90a", **options)
    return parse(made.asm["shared"])
