"""How many products of 8-bit floats a tensor core may sum by itself: what is compiled for it."""

from __future__ import annotations

import re

import pytest

import blocklang
import blocklang.language as bl
from blocklang.compiled import CompiledKernel


@blocklang.jit
def product(
    a, b, c, m, n, k,
    M: bl.constexpr, N: bl.constexpr, K: bl.constexpr, MOST: bl.constexpr,
):  # fmt: skip
    left = bl.make_tensor_descriptor(a, [m, k], [k, 1], [M, K])
    right = bl.make_tensor_descriptor(b, [n, k], [k, 1], [N, K])
    out = bl.make_tensor_descriptor(c, [m, n], [n, 1], [M, N])
    row, column = bl.program_id(0) * M, bl.program_id(1) * N
    acc = bl.zeros((M, N), bl.float32)
    for i in range(0, k, K):
        x, y = left.load([row, i]), right.load([column, i])
        acc = bl.dot(x, y.T, acc, max_num_imprecise_acc=MOST)
    out.store([row, column], acc)


def compiled(depth: int, most: int | None, name: str = "fp8e4nv") -> CompiledKernel:
    """The kernel, held to: no message of the assembler, nothing spilled."""
    signature = {"a": f"*{name}:16", "b": f"*{name}:16", "c": "*fp32:16"}
    signature |= {"m": "i32", "n": "i32:16", "k": "i32:16"}
    found = product.compile(
        signature, {"M": 128, "N": 128, "K": depth, "MOST": most}, target="sm_90a", num_warps=8
    )
    assert found.metadata["warnings"] == []
    assert found.resources.spill_stores == found.resources.stack_bytes == 0
    return found


def additions(found: CompiledKernel) -> int:
    return len(re.findall(r"add(?:\.rn)?\.f32", found.asm["ptx"]))


@pytest.mark.parametrize("name", ["fp8e4nv", "fp8e5"])
@pytest.mark.parametrize("depth", [64, 128])
def test_each_product_is_added_to_the_sum(depth: int, name: str) -> None:
    found = compiled(depth, 128, name)
    assert "wgmma.mma_async" in found.asm["ptx"]
    # Each thread has 64 elements of the result.
    assert additions(found) == 64


@pytest.mark.parametrize("most", [None, 2**30])
def test_any_number_of_products(most: int | None) -> None:
    found = compiled(128, most)
    assert "wgmma.mma_async" in found.asm["ptx"]
    assert additions(found) == 0


def test_fewer_products_than_a_step_has() -> None:
    """Warps sum 64 of these 128 at a time, and add them twice."""
    found = compiled(128, 64)
    assert "wgmma" not in found.asm["ptx"]
    assert "mma.sync" in found.asm["ptx"]
    assert additions(found) == 2 * 64


def test_wider_floats_are_summed_exactly() -> None:
    found = compiled(64, 32, "fp16")
    assert "wgmma.mma_async" in found.asm["ptx"]
    assert additions(found) == 0
