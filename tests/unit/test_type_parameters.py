"""What arguments say of the type parameters of text kernels."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import blocklang
import blocklang.language as bl
from blocklang import CompileError, TensorDescriptor
from blocklang.frontend.text import load_text
from blocklang.kernel import JitFunction

FILL = """
kernel fill(x: *T, value: f32, n: i32, T: constexpr = f16, BLOCK: constexpr = 16):
    offsets = program_id(0) * BLOCK + arange(0, BLOCK)
    store(x + offsets, value.to(T), mask=offsets < n)
"""
COPY = """
kernel copy(
    x: tensordesc<T[ROWS, COLS]>, y: tensordesc<T[ROWS, COLS]>,
    ROWS: constexpr = 16, COLS: constexpr = 16, T: constexpr = bf16
):
    y.store([0, 0], x.load([0, 0]).to(T) + 1)
"""
ADD = """
kernel add(x: *T, y: *S, z: *T, T: constexpr = f16, S: constexpr = f16):
    i = arange(0, 4)
    store(z + i, load(x + i) + load(y + i).to(T))
"""


def kernel(text: str) -> JitFunction:
    (tree,) = load_text(text, "types.bl").values()
    return JitFunction(None, tree)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
def test_the_dtype_of_an_array(dtype: Any) -> None:
    x = np.zeros(5, dtype)
    kernel(FILL)[(1,)](x, 0.1, 5)
    np.testing.assert_array_equal(x, np.float32(0.1).astype(dtype))


def test_what_is_passed_has_to_agree() -> None:
    x = np.zeros(5, np.float32)
    kernel(FILL)[(1,)](x, 0.1, 5, T=bl.float32)
    np.testing.assert_array_equal(x, np.float32(0.1))
    with pytest.raises(CompileError, match=r"'x' is of f32, and T is bf16 because of what was"):
        kernel(FILL)[(1,)](x, 0.1, 5, T=bl.bfloat16)
    with pytest.raises(CompileError, match="must be a dtype"):
        kernel(FILL)[(1,)](x, 0.1, 5, T="f32")


def test_arrays_have_to_agree() -> None:
    x, y = np.ones(4, np.float32), np.full(4, 2, np.float64)
    z = np.zeros_like(x)
    kernel(ADD)[(1,)](x, y, z)  # of two parameters, each by itself
    np.testing.assert_array_equal(z, 3)
    with pytest.raises(CompileError, match=r"'z' is of f64, and T is f32 because of 'x'"):
        kernel(ADD)[(1,)](x, y, y)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("sizes", [{}, {"ROWS": 8, "COLS": 32}])
def test_descriptors(dtype: Any, sizes: dict[str, int]) -> None:
    x = np.arange(8 * 16).reshape(8, 16).astype(dtype)
    y = np.zeros_like(x)
    block = [sizes.get(name, 16) for name in ("ROWS", "COLS")]
    kernel(COPY)[(1,)](*(TensorDescriptor.from_tensor(each, block) for each in (x, y)), **sizes)
    np.testing.assert_array_equal(y, x + np.ones((), dtype))


def test_sizes_are_not_inferred() -> None:
    """Grids are made of them."""
    x = np.zeros((8, 16), np.float32)
    given = TensorDescriptor.from_tensor(x, [8, 16])
    with pytest.raises(CompileError, match=r"'x' is .*\[8, 16\].* says tensordesc<f32\[16, 16\]>"):
        kernel(COPY)[lambda meta: (meta["ROWS"],)](given, given)


def test_descriptors_have_to_agree() -> None:
    x = np.zeros((8, 16), np.float32)
    one, other = (TensorDescriptor.from_tensor(x, block) for block in ([8, 16], [8, 32]))
    with pytest.raises(CompileError, match=r"'y' is .*\[8, 32\].* says tensordesc<f32\[8, 16\]>"):
        kernel(COPY)[(1,)](one, other, ROWS=8)
    half = TensorDescriptor.from_tensor(x.astype(np.float16), [8, 16])
    with pytest.raises(CompileError, match=r"'y' is of f16, and T is f32 because of 'x'"):
        kernel(COPY)[(1,)](one, half, ROWS=8)
    mixed = {"x": "tensordesc<fp32[8, 16]>", "y": "tensordesc<fp32[8, 16]>"}
    with pytest.raises(CompileError, match=r"says tensordesc<f32\[16, 16\]>"):
        kernel(COPY).compile(mixed)
    assert kernel(COPY).compile(mixed, {"ROWS": 8}).asm["ir"].count("8x16xf32")


@pytest.mark.parametrize("padding", ["", ", nan"])
def test_arrays_in_place_of_descriptors(padding: str) -> None:
    x = np.ones((16, 16), np.float32)
    y = np.zeros_like(x)
    text = COPY.replace("COLS]>", f"COLS]{padding}>").replace("= bf16", "= i32")
    kernel(text)[(1,)](x, y)
    np.testing.assert_array_equal(y, 2)


NUMBER = """
kernel fill(x: *T, value: T, n: i32, T: constexpr = f16, BLOCK: constexpr = 16):
    offsets = program_id(0) * BLOCK + arange(0, BLOCK)
    store(x + offsets, value, mask=offsets < n)
"""


@pytest.mark.parametrize("value", [0.1, 3, 1, True, np.float64(0.1)])
@pytest.mark.parametrize(
    "dtype",
    [np.float16, np.float32, np.float64, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn,
     ml_dtypes.float8_e5m2],
)  # fmt: skip
def test_numbers(dtype: Any, value: Any) -> None:
    x = np.zeros(5, dtype)
    kernel(NUMBER)[(1,)](x, value, 5)
    np.testing.assert_array_equal(x, np.asarray(value).astype(dtype))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64])
def test_integers(dtype: Any) -> None:
    x, limits = np.zeros(5, dtype), np.iinfo(dtype)
    for value in (limits.min, 1, 7, limits.max):
        kernel(NUMBER)[(1,)](x, int(value), 5)
        np.testing.assert_array_equal(x, value)
    for value in (int(limits.min) - 1, int(limits.max) + 1):
        with pytest.raises(
            blocklang.LaunchError, match=r"does not fit|fits no integer|out of range"
        ):
            kernel(NUMBER)[(1,)](x, value, 5)
    with pytest.raises(CompileError, match=r"'value' is a float, and T is"):
        kernel(NUMBER)[(1,)](x, 0.5, 5)


def test_integers_become_floats() -> None:
    """Before anything is computed of them."""
    text = NUMBER.replace("x + offsets, value,", "x + offsets, value * value,")
    x = np.zeros(5, np.float32)
    kernel(text)[(1,)](x, 100_000, 5)
    np.testing.assert_array_equal(x, np.float32(1e10))


def test_signatures_ahead_of_time() -> None:
    add = kernel(ADD)
    plain = add.compile(target="sm_90a").metadata["arguments"]
    assert [each["element"] for each in plain] == ["f16"] * 3
    stated = add.compile({"x": "*fp32:16"}, target="sm_90a").metadata["arguments"]
    assert [each["element"] for each in stated] == ["f32", "f16", "f32"]
    with pytest.raises(CompileError, match=r"'x' is of f32, and T is f16"):
        add.compile({"x": "*fp32"}, {"T": bl.float16})
    with pytest.raises(CompileError, match=r"'z' is of f64, and T is f32"):
        add.compile({"x": "*fp32", "z": "*fp64"})


def test_what_is_compiled_can_be_read_again(tmp_path: Any) -> None:
    text = kernel(FILL).compile({"x": "*fp32", "n": "i32"}).asm["bl"]
    (tmp_path / "again.bl").write_text(text)
    x = np.zeros(3, np.float32)
    blocklang.load(tmp_path / "again.bl").fill[(1,)](x, 0.1, 3)
    np.testing.assert_array_equal(x, np.float32(0.1))
