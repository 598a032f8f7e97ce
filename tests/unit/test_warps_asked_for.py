"""Loops that ask for warps of their own for copies, and what is said where that cannot be."""

from __future__ import annotations

from typing import Any

import pytest

import blocklang
import blocklang.language as bl
from blocklang.compiled import CompiledKernel

SIGNATURE = {**dict.fromkeys("abc", "*fp16:16"), "m": "i32", "n": "i32:16", "k": "i32:16"}


@blocklang.jit
def product(a, b, c, m, n, k, SIZE: bl.constexpr, WISH: bl.constexpr):
    left = bl.make_tensor_descriptor(a, [m, k], [k, 1], [SIZE, SIZE])
    right = bl.make_tensor_descriptor(b, [k, n], [n, 1], [SIZE, SIZE])
    out = bl.make_tensor_descriptor(c, [m, n], [n, 1], [SIZE, SIZE])
    row, column = bl.program_id(0) * SIZE, bl.program_id(1) * SIZE
    acc = bl.zeros((SIZE, SIZE), bl.float32)
    for i in bl.range(0, k, SIZE, warp_specialize=WISH):
        acc = bl.dot(left.load([row, i]), right.load([i, column]), acc)
    out.store([row, column], acc)


@blocklang.jit
def searching(a, b, c, m, n, k, SIZE: bl.constexpr, WISH: bl.constexpr):
    """Where the next block is, the values of the last one say."""
    left = bl.make_tensor_descriptor(a, [m, k], [k, 1], [SIZE, SIZE])
    right = bl.make_tensor_descriptor(b, [k, n], [n, 1], [SIZE, SIZE])
    out = bl.make_tensor_descriptor(c, [m, n], [n, 1], [SIZE, SIZE])
    acc = bl.zeros((SIZE, SIZE), bl.float32)
    at = 0
    for _ in bl.range(0, k, SIZE, warp_specialize=WISH):
        acc = bl.dot(left.load([0, at]), right.load([at, 0]), acc)
        at = bl.max(acc).to(bl.int32)
    out.store([0, 0], acc)


@blocklang.jit
def beside(a, b, c, m, n, k, SIZE: bl.constexpr, WISH: bl.constexpr):
    """A product, and behind it a loop that copies nothing for one."""
    left = bl.make_tensor_descriptor(a, [m, k], [k, 1], [SIZE, SIZE])
    right = bl.make_tensor_descriptor(b, [k, n], [n, 1], [SIZE, SIZE])
    out = bl.make_tensor_descriptor(c, [m, n], [n, 1], [SIZE, SIZE])
    acc = bl.zeros((SIZE, SIZE), bl.float32)
    for i in range(0, k, SIZE):
        acc = bl.dot(left.load([0, i]), right.load([i, 0]), acc)
    at = bl.arange(0, SIZE)
    for i in bl.range(0, n, SIZE, warp_specialize=WISH):
        acc += bl.load(a + i + at)[None, :]
    out.store([0, 0], acc)


def compiled(kernel: Any, wish: bool | None, warps: int, target: str = "sm_90a") -> CompiledKernel:
    found: CompiledKernel = kernel.compile(
        SIGNATURE, {"SIZE": 64, "WISH": wish}, target, num_warps=warps
    )
    return found


@pytest.mark.parametrize("warps", [4, 8])
@pytest.mark.parametrize("wish", [None, True])
def test_warps_are_specialized(wish: bool | None, warps: int) -> None:
    found = compiled(product, wish, warps)
    assert "producer: one thread" in found.asm["schedule"]
    assert found.metadata["warnings"] == []


def test_a_loop_can_forbid_it() -> None:
    found = compiled(product, False, 4)
    assert "all work: 4 warps" in found.asm["schedule"]
    assert found.metadata["warnings"] == []


@pytest.mark.parametrize(
    ("kernel", "warps", "reason"),
    [
        (product, 2, "num_warps=2 makes no whole warpgroups"),
        (product, 32, "num_warps=32 leaves none for a producer"),
        (beside, 4, "the tensor memory accelerator copies nothing for products in it"),
        (searching, 4, "what is copied depends on more than scalars, here: "),
    ],
)
def test_what_cannot_be_is_explained(kernel: Any, warps: int, reason: str) -> None:
    (warning,) = compiled(kernel, True, warps).metadata["warnings"]
    place, text = warning.split(": ", 1)
    assert place.startswith(__file__)
    assert text.startswith(f"warps are not specialized, as this loop asks: {reason}")
    assert compiled(kernel, None, warps).metadata["warnings"] == []


@pytest.mark.parametrize("target", ["sm_80", "sm_90", "cpu"])
def test_other_targets_say_nothing(target: str) -> None:
    """A kernel may ask for what only some of its targets have."""
    assert compiled(product, True, 4, target).metadata["warnings"] == []
