"""Moving 8 x 8 matrices: which factors `ldmatrix` serves, and buffers without bank conflicts."""

from __future__ import annotations

import pytest

from blocklang.ir.layout import (
    LinearLayout,
    bank_conflicts,
    best_shared,
    blocked,
    copied_elements,
    dot_operand,
    matrix_access,
    mma_accumulator,
    prefers_matrices,
    shared_linear,
)
from blocklang.ir.layout.matrix_access import matrix_cost
from blocklang.ir.passes.coalesce import row_layout

FREE = {8: 5 / 16, 16: 5 / 8, 32: 5 / 4}
"""The price per element of four matrices without conflicts, by the bits of an element."""


@pytest.mark.parametrize("warps", [(1, 4), (2, 2), (4, 1)])
@pytest.mark.parametrize("shape", [(128, 32), (64, 64), (32, 128), (128, 128)])
@pytest.mark.parametrize("operand", ["a", "b"])
@pytest.mark.parametrize("bits", [8, 16, 32])
def test_factors_with_k_contiguous_are_matrices(
    bits: int, operand: str, shape: tuple[int, int], warps: tuple[int, int]
) -> None:
    """Copies of 16 bytes and loads of four matrices, both without conflicts."""
    order = (1, 0) if operand == "a" else (0, 1)
    piece = 128 // bits
    source = row_layout(shape, order, piece, 4)
    target = dot_operand(operand, shape, warps, bits)  # type: ignore[arg-type]
    buffer = best_shared(source, target, bits, copied=piece)
    assert copied_elements(source, buffer) >= piece
    assert bank_conflicts(source, buffer, bits, piece) == 1
    access = matrix_access(target, buffer, bits)
    assert access is not None
    assert not access.transposed
    assert access.count == 4
    assert matrix_cost(access, bits) == FREE[bits]


@pytest.mark.parametrize("operand", ["a", "b"])
def test_factors_of_16_bits_may_lie_the_other_way(operand: str) -> None:
    order = (0, 1) if operand == "a" else (1, 0)
    source = row_layout((64, 128), order, 8, 4)
    target = dot_operand(operand, (64, 128), (2, 2), 16)  # type: ignore[arg-type]
    buffer = best_shared(source, target, 16, copied=8)
    access = matrix_access(target, buffer, 16)
    assert access is not None
    assert access.transposed
    assert matrix_cost(access, 16) == FREE[16]


def test_every_register_is_in_one_word() -> None:
    target = dot_operand("a", (64, 64), (2, 1), 16)
    access = matrix_access(target, shared_linear((64, 64), (1, 0)), 16)
    assert access is not None
    registers = [r for matrices in access.words for word in matrices for r in word]
    assert sorted(registers) == list(range(target.in_size("register")))
    # Rows of 128 bytes without a swizzle begin in one bank: eight passes for each matrix.
    assert matrix_cost(access, 16) == (4 * 8 + 1) / 8


@pytest.mark.parametrize(
    ("registers", "bits"),
    [
        (dot_operand("b", (32, 64), (1, 1), 8), 8),  # bytes cannot be transposed
        (dot_operand("b", (32, 64), (1, 1), 64), 64),
        (blocked((32, 64), (1, 8), (4, 8), (1, 1), (1, 0)), 16),  # vectors, not matrices
    ],
)
def test_other_layouts_are_none(registers: LinearLayout, bits: int) -> None:
    assert matrix_access(registers, shared_linear((32, 64), (1, 0)), bits) is None


def test_accumulators_are_stored_as_matrices_where_vectors_are_narrow() -> None:
    accumulator = mma_accumulator((64, 64), (2, 2))
    rows = shared_linear((64, 64), (1, 0))
    swizzled = best_shared(row_layout((64, 64), (1, 0), 8, 4), accumulator, 16, copied=8)
    assert prefers_matrices(accumulator, swizzled, 16)
    assert not prefers_matrices(row_layout((64, 64), (1, 0), 8, 4), rows, 16)
