"""Tensor descriptors and block pointers on a GPU: the kernels of the unit tests, against NumPy."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import blocklang
from blocklang import TensorDescriptor
from blocklang.runtime import device_array
from tests.unit import test_descriptors as unit

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.int8])
@pytest.mark.parametrize("n", [1, 17, 96, 100, 129])
@pytest.mark.parametrize("m", [1, 17, 129])
def test_odd_shapes(m: int, n: int, dtype: Any) -> None:
    x = unit.array(m, n, dtype=dtype)
    y = device_array(np.zeros_like(x))
    unit.scale[(blocklang.cdiv(m, 16),)](device_array(x), y, m, n, 1, ROWS=16, COLS=32)
    np.testing.assert_array_equal(y.to_host(), x)


@pytest.mark.parametrize("padding", ["zero", "nan"])
@pytest.mark.parametrize("i", [-(2**31), -3, 0, 6, 2**31 - 1])
@pytest.mark.parametrize("j", [-7, 0, 9, 2**31 - 7])
def test_padding_on_all_sides(i: int, j: int, padding: str) -> None:
    x = unit.array(7, 10)
    y = device_array(np.ones((4, 8), np.float32))
    unit.window[(1,)](device_array(x), y, 7, 10, i, j, PADDING=padding)
    expected = unit.padded(x, i, j, float("nan") if padding == "nan" else 0)
    np.testing.assert_array_equal(y.to_host(), expected)


@pytest.mark.parametrize(("m", "n"), [(1, 129), (17, 17), (129, 100)])
def test_strides_of_block_pointers(m: int, n: int) -> None:
    x = unit.array(m, n)
    y = device_array(np.zeros((n, m), np.float32))
    grid = blocklang.cdiv(m, 8), blocklang.cdiv(n, 16)
    unit.transpose[grid](device_array(x), y, m, n, ORDER=(0, 1))
    np.testing.assert_array_equal(y.to_host(), x.T)


@pytest.mark.parametrize("n", unit.SIZES)
def test_advance_in_a_loop(n: int) -> None:
    x, y = unit.array(17, n), device_array(np.zeros(17, np.float32))
    unit.row_sums[(5,)](device_array(x), y, 17, n, BACKWARDS=True)
    np.testing.assert_array_equal(y.to_host(), x.sum(axis=1))


def test_atomic_add() -> None:
    x, sums = unit.array(20, 9), device_array(np.zeros(9, np.float32))
    unit.add_rows[(20,)](device_array(x), sums, 20, 9)
    np.testing.assert_array_equal(sums.to_host(), x.sum(axis=0))


def test_descriptors_of_the_host() -> None:
    """Several launches, so that whatever is remembered is used."""
    x = unit.array(33, 80)
    source = TensorDescriptor.from_tensor(device_array(x), [16, 32])
    for factor in (1.0, 2.0, 3.0):
        y = device_array(np.zeros_like(x))
        unit.copy[(3,)](source, TensorDescriptor.from_tensor(y, [16, 32]), factor)
        np.testing.assert_array_equal(y.to_host(), x * factor)


@pytest.mark.parametrize("flatten", [False, True])
@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize(("m", "n", "k"), [*unit.SIZES_OF_PRODUCTS, (1000, 776, 520)])
def test_product_by_block_pointers(m: int, n: int, k: int, size: int, flatten: bool) -> None:
    """Programs that stay, with one tile and with several; in both languages."""
    a, b = unit.array(m, k, dtype=np.float16), unit.array(k, n, dtype=np.float16)
    expected = a.astype(np.float64) @ b.astype(np.float64)
    for kernel in (unit.product, unit.kernels(unit.PRODUCT)["product"]):
        c = device_array(np.full((m, n), np.nan, np.float32))
        kernel[(5,)](
            device_array(a), device_array(b), c, m, n, k, BM=size, BN=size, BK=64, FLATTEN=flatten
        )
        np.testing.assert_allclose(c.to_host(), expected, rtol=1e-5)


@pytest.mark.parametrize(("m", "n", "k"), [(16, 16, 32), (17, 33, 104), (128, 128, 128)])
def test_matrix_product(m: int, n: int, k: int) -> None:
    a, b = unit.array(m, k, dtype=np.float16), unit.array(n, k, dtype=np.float16)
    c = device_array(np.ones((m, n), np.float32))
    grid = blocklang.cdiv(m, 16), blocklang.cdiv(n, 16)
    kernel = unit.kernels(unit.MULTIPLY)["multiply"]
    kernel[grid](device_array(a), device_array(b), c, n, k, k)
    expected = a.astype(np.float64) @ b.T.astype(np.float64)
    np.testing.assert_allclose(c.to_host(), expected, rtol=1e-5)
