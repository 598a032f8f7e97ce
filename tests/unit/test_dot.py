"""Matrix products: the evaluator against float64, and CPU code against the evaluator."""

from __future__ import annotations

from typing import Any

import numpy
import pytest

from blocklang.ir.products import matrix_product, round_to_tf32
from blocklang.ir.types import DTYPES


def sample(shape: tuple[int, ...], name: str, seed: int = 0) -> Any:
    """Numbers of a dtype that need all its bits."""
    dtype = DTYPES[name]
    rng = numpy.random.default_rng(seed)
    if dtype.is_integer:
        return rng.integers(dtype.minimum, int(dtype.maximum) + 1, shape, dtype.numpy)
    return rng.standard_normal(shape).astype(dtype.numpy)


def exact(a: Any, b: Any) -> tuple[Any, Any]:
    """The product in float64 and the size of its terms."""
    a, b = a.astype(numpy.float64), b.astype(numpy.float64)
    return a @ b, numpy.abs(a) @ numpy.abs(b)


# ---------------------------------------------------------------- the evaluator


# precision, how far each factor may be rounded
@pytest.mark.parametrize(
    ("precision", "rounding"), [("tf32", 2.0**-11), ("tf32x3", 2.0**-21), ("ieee", 0.0)]
)
def test_the_evaluator_rounds_factors_of_float32(precision: str, rounding: float) -> None:
    a, b, acc = sample((5, 33), "f32"), sample((33, 7), "f32", 1), sample((5, 7), "f32", 2)
    found = matrix_product(a, b, acc, DTYPES["f32"], precision)
    product, size = exact(a, b)
    error = numpy.abs(found - (product + acc))
    assert found.dtype == numpy.float32
    assert (error <= 2.1 * rounding * size + 2.0**-24 * (size + numpy.abs(acc))).all()
    # Less rounding than promised would be another function.
    assert not rounding or error.max() > rounding * size.max() / 100


@pytest.mark.parametrize("left", ["f16", "bf16", "f64", "f8e4m3", "f8e5m2"])
def test_the_evaluator_rounds_no_other_floats(left: str) -> None:
    right = "f8e5m2" if left == "f8e4m3" else left
    target = DTYPES["f64" if left == "f64" else "f32"]
    a, b = sample((2, 4, 16), left), sample((2, 16, 3), right, 1)
    found = matrix_product(a, b, numpy.zeros((2, 4, 3), target.numpy), target, "tf32")
    product, size = exact(a, b)
    assert found.dtype == target.numpy
    numpy.testing.assert_allclose(found, product, rtol=0, atol=size.max() * 2.0**-24)


@pytest.mark.parametrize("name", ["i8", "u8"])
def test_the_evaluator_sums_integers_modulo_2_to_the_32(name: str) -> None:
    a, b = sample((4, 64), name), sample((64, 4), name, 1)
    acc = numpy.full((4, 4), 2**31 - 1, numpy.int32)
    found = matrix_product(a, b, acc, DTYPES["i32"], "tf32")
    right = a.astype(object) @ b.astype(object) + 2**31 - 1
    assert (found == (right + 2**31) % 2**32 - 2**31).all()


def test_float16_sums_are_rounded_once() -> None:
    a, b = numpy.full((1, 2), 1, numpy.float16), numpy.array([[2048], [1.0]], numpy.float16)
    acc = numpy.array([[1]], numpy.float16)
    assert matrix_product(a, b, acc, DTYPES["f16"], "tf32") == 2050


def test_tf32_rounds_to_nearest_and_ties_away_from_zero() -> None:
    one = 2.0**-10
    given = [1 + one / 2, -1 - one / 2, 1 + 0.49 * one, 3.4e38, numpy.inf, numpy.nan, 1e-45]
    right = [1 + one, -1 - one, 1.0, 3.4e38, numpy.inf, numpy.nan, 0.0]
    found = round_to_tf32(numpy.array(given, numpy.float32))
    numpy.testing.assert_allclose(found, right, rtol=2.0**-12)
    payload = numpy.array([0x7FFFFFFF], numpy.uint32).view(numpy.float32)
    assert numpy.isnan(round_to_tf32(payload)).all()


def test_tf32x3_keeps_infinities() -> None:
    a = numpy.array([[numpy.inf, 1.0]], numpy.float32)
    b = numpy.array([[1.0], [1.0]], numpy.float32)
    assert matrix_product(a, b, numpy.zeros((1, 1), numpy.float32), DTYPES["f32"], "tf32x3") == (
        numpy.inf
    )
