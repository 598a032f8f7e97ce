"""How wrong a float may be: units in the last place of its dtype, times a factor that each op
states with its reason.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from blocklang.ir.types import DTYPES, DType

SMALLEST_EXPONENT = {"f16": -14, "bf16": -126, "f32": -126, "f64": -1022}


def ulp(value: Any, dtype: DType) -> np.ndarray:
    """The distance of neighbouring numbers of `dtype` around `value`; never below that of its
    subnormals, and that of the largest numbers for infinities and NaN.
    """
    with np.errstate(all="ignore"):
        magnitude = np.abs(np.asarray(value, np.longdouble))
        magnitude = np.where(np.isfinite(magnitude), magnitude, 0)
        exponent = np.frexp(magnitude)[1] - 1
        exponent = np.where(magnitude == 0, SMALLEST_EXPONENT[dtype.name], exponent)
        exponent = np.maximum(exponent, SMALLEST_EXPONENT[dtype.name])
        return np.ldexp(np.longdouble(1), exponent - dtype.mantissa)


def rounded_sum(magnitudes: Any, count: int, dtype: DType) -> np.ndarray:
    """The bound for a sum of `count` numbers in any order, whose absolute values add up to
    `magnitudes`: each of the `count - 1` additions errs by at most half an ulp of a partial sum,
    and no partial sum exceeds `magnitudes`.
    """
    return np.maximum(count - 1, 1) * ulp(magnitudes, dtype) / 2


def numpy_dtype(name: str) -> np.dtype:
    """The NumPy dtype of an IR dtype."""
    return DTYPES[name].numpy
