"""Comparing arrays of any library within a tolerance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from blocklang.runtime.memory import DeviceArray

_NUMPY_KINDS = "biufc"


def assert_close(
    x: Any,
    y: Any,
    atol: float | Callable[[Any], float] | None = None,
    rtol: float | Callable[[Any], float] | None = None,
    err_msg: str = "",
) -> None:
    """Raise AssertionError unless |x - y| <= atol + rtol * |y| everywhere; NaN equals NaN.

    `x` and `y` are arrays of NumPy, torch, CuPy or blocklang, or anything that NumPy can read, of
    one shape, or scalars. 16-bit and 8-bit floats are compared as f32. A tolerance may be a
    function of x's dtype; by default `atol` is 0.01 and `rtol` 0.
    """
    dtype = getattr(x, "dtype", None)
    absolute = 1e-2 if atol is None else atol(dtype) if callable(atol) else atol
    relative = 0.0 if rtol is None else rtol(dtype) if callable(rtol) else rtol
    actual, expected = on_host(x), on_host(y)
    is_scalar = 1 in (actual.size, expected.size)
    if actual.shape != expected.shape and not is_scalar:
        raise AssertionError(
            f"shapes differ: {actual.shape} and {expected.shape}" + (f"\n{err_msg}" * bool(err_msg))
        )
    np.testing.assert_allclose(
        actual, expected, rtol=relative, atol=absolute, equal_nan=True, err_msg=err_msg
    )


def on_host(array: Any) -> npt.NDArray[Any]:
    """The contents of an array as NumPy sees them; floats that NumPy lacks become f32."""
    if isinstance(array, DeviceArray):
        array = array.to_host()
    elif hasattr(array, "detach") and hasattr(array, "cpu"):
        array = array.detach().cpu()
        # torch's bfloat16 and 8-bit floats have no NumPy counterpart that it knows.
        if getattr(array, "is_floating_point", bool)() and array.element_size() < 4:
            array = array.float()
        array = array.numpy()
    elif hasattr(array, "get") and hasattr(array, "__cuda_array_interface__"):
        array = array.get()
    found = np.asarray(array)
    narrow = found.dtype.kind not in _NUMPY_KINDS or found.dtype == np.float16
    return found.astype(np.float32) if narrow else found
