"""How far a computation in float32 may be from the truth: running error analysis.

A `Rounded` goes through a NumPy formula like an array. It carries the result in float64, and
beside each element a bound on the error of a program that computes the same formula in float32,
whatever its order of additions. So a formula that is written once serves as NumPy's yardstick for
speed, as the reference and as its tolerance:

    exact = formula(Rounded(x)).stored(x.dtype)
    assert (abs(y - exact.value) <= exact.error).all()

Each operation hands on the errors of its operands, to first order, and adds its own rounding.
Sums are the one place where the bound is not for the worst case but for rounding errors of random
sign, which grow with the root of the number of terms; six standard deviations are allowed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

# Relative error of one rounded float32 operation, and where float32 stops being relative.
UNIT = 2.0**-24
TINY = 2.0**-126
DEVIATIONS = 6


class Rounded(np.lib.mixins.NDArrayOperatorsMixin):
    """An array in float64, and the largest error of each element in float32 arithmetic."""

    def __init__(self, value: Any, error: Any = 0.0) -> None:
        self.value = np.asarray(value, np.float64)
        self.error = np.broadcast_to(np.asarray(error, np.float64), self.value.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self.value.shape

    def __getitem__(self, index: Any) -> Rounded:
        return Rounded(self.value[index], self.error[index])

    def swapaxes(self, first: int, second: int) -> Rounded:
        """The array with two axes exchanged."""
        return Rounded(self.value.swapaxes(first, second), self.error.swapaxes(first, second))

    def max(self, axis: int, keepdims: bool = False) -> Rounded:
        """The largest element along an axis; exact, but for what its operands carry."""
        return Rounded(
            self.value.max(axis=axis, keepdims=keepdims),
            self.error.max(axis=axis, keepdims=keepdims),
        )

    def sum(self, axis: int, keepdims: bool = False) -> Rounded:
        """The sum along an axis, in any order."""
        carried = self.error.sum(axis=axis, keepdims=keepdims)
        size = np.abs(self.value).sum(axis=axis, keepdims=keepdims)
        own = DEVIATIONS * np.sqrt(self.shape[axis]) * UNIT * size
        return Rounded(self.value.sum(axis=axis, keepdims=keepdims), carried + own)

    def mean(self, axis: int, keepdims: bool = False) -> Rounded:
        """The mean along an axis."""
        return self.sum(axis, keepdims) / float(self.shape[axis])

    def stored(self, dtype: Any) -> Rounded:
        """The array after rounding to the dtype that it is stored in."""
        import ml_dtypes  # NumPy's own finfo does not know bfloat16

        facts = ml_dtypes.finfo(dtype)
        spacing = float(facts.eps) / 2 * (np.abs(self.value) + self.error)
        return Rounded(self.value, self.error + spacing + float(facts.smallest_subnormal) / 2)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__" or options or ufunc not in RULES:
            return NotImplemented
        operands = [item if isinstance(item, Rounded) else Rounded(item) for item in inputs]
        return RULES[ufunc](*operands)


def _add(a: Rounded, b: Rounded) -> Rounded:
    return _rounded(a.value + b.value, a.error + b.error)


def _subtract(a: Rounded, b: Rounded) -> Rounded:
    return _rounded(a.value - b.value, a.error + b.error)


def _multiply(a: Rounded, b: Rounded) -> Rounded:
    carried = np.abs(a.value) * b.error + np.abs(b.value) * a.error + a.error * b.error
    return _rounded(a.value * b.value, carried)


def _matrix_product(a: Rounded, b: Rounded) -> Rounded:
    # Each product is exact or rounded as part of its addition: the rule of sums. What that adds is
    # proportional to the products' sizes, like what the errors of `a` do: one product has both.
    own = DEVIATIONS * np.sqrt(a.shape[-1]) * UNIT
    size = np.abs(a.value)
    error = (own * size + a.error) @ np.abs(b.value)
    if b.error.any():
        error += (size + a.error) @ b.error
    return Rounded(a.value @ b.value, error + TINY)


def _divide(a: Rounded, b: Rounded) -> Rounded:
    value = a.value / b.value
    return _rounded(value, (a.error + np.abs(value) * b.error) / np.abs(b.value), units=4)


def _square_root(a: Rounded) -> Rounded:
    value = np.sqrt(a.value)
    return _rounded(value, a.error / (2 * value), units=4)


def _logarithm(a: Rounded) -> Rounded:
    value = np.log(a.value)
    # GPUs multiply a logarithm to the base 2, which is near zero where this one is.
    return Rounded(value, a.error / a.value + (4 * np.abs(value) + 2) * UNIT)


def _exponential(a: Rounded) -> Rounded:
    value = np.exp(a.value)
    # GPUs compute 2**(a * log2(e)), and the rounding of that product grows with a.
    own = (4 + 2 * np.abs(a.value)) * UNIT
    return Rounded(value, value * (np.expm1(a.error) + own) + TINY)


def _rounded(value: Any, carried: Any, units: int = 1) -> Rounded:
    return Rounded(value, carried + units * UNIT * np.abs(value) + TINY)


RULES: dict[np.ufunc, Callable[..., Rounded]] = {
    np.add: _add,
    np.subtract: _subtract,
    np.multiply: _multiply,
    np.matmul: _matrix_product,
    np.true_divide: _divide,
    np.sqrt: _square_root,
    np.exp: _exponential,
    np.log: _logarithm,
}
