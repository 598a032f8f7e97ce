"""Tensor maps: expressions that the host computes, and what the driver is asked to encode."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from blocklang.ir.analysis.host import arguments_of, host_expression, host_function
from blocklang.ir.parser import parse
from blocklang.ir.types import bf16, f8e4m3, f32
from blocklang.runtime import tensor_map
from blocklang.runtime.errors import CudaError, TensorMapError

from .recording_driver import encoding_driver

EXPRESSIONS = """
kernel @k(%x: ptr<bf16>, %n: i32, %s: i64, %f: f32) {
  %c = constant {value = 8} : i32
  %m = mul %n, %c : i32
  %wide = cast %m : i64
  %r = rem %wide, %s : i64
  %p = add_pointer %x, %r : ptr<bf16>
  %less = compare %n, %c {predicate = "lt"} : i1
  %q = select %less, %x, %p : ptr<bf16>
  %h = hint %q {divisibility = [16]} : ptr<bf16>
  %pid = program_id {axis = 0} : i32
  %late = add %pid, %n : i32
  %g = cast %f : i32
  %zero = constant {value = 0} : i32
  for %zero, %n, %c body(%i: i32) {
    %inner = add %i, %n : i32
    yield
  }
  return
}
"""


def expression_of(name: str) -> Any:
    module = parse(EXPRESSIONS)
    values = {r.name: r for op in module.walk() for r in op.results}
    values |= {a.name: a for a in module.kernel.arguments}
    return host_expression(values[name])


def test_expressions_of_arguments() -> None:
    assert expression_of("n") == ["arg", "i32", 1]
    assert expression_of("c") == ["const", "i32", 8]
    assert expression_of("wide") == [
        "cast",
        "i64",
        {"rounding": "rtne"},
        ["mul", "i32", {}, ["arg", "i32", 1], ["const", "i32", 8]],
    ]
    assert arguments_of(expression_of("h")) == {0, 1, 2}


@pytest.mark.parametrize("name", ["pid", "late", "g", "f", "inner"])
def test_what_the_host_does_not_know(name: str) -> None:
    assert expression_of(name) is None


@pytest.mark.parametrize("n", [3, 100, 2**28 + 9])
def test_computed_as_the_ops_are_defined(n: int) -> None:
    # The product wraps around, and a remainder has the sign of the dividend.
    product = (n * 8 + 2**31) % 2**32 - 2**31
    remainder = product % 7 if product >= 0 else -(-product % 7)
    expected = 4096 if n < 8 else 4096 + 2 * remainder
    assert host_function(expression_of("h"))([4096, n, 7]) == expected


# ---------------------------------------------------------------- encoding


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Any:
    with encoding_driver(monkeypatch) as made:
        yield made


def test_encoding(driver: Any) -> None:
    arguments = (4096, (100, 72), (72, 1), bf16, (0, 1), (128, 64), 128, "zero")
    made = tensor_map.encode(*arguments)
    assert ctypes.sizeof(made) == 128
    assert ctypes.addressof(made) % 64 == 0
    assert bytes(made)[:9] == b"\1\0\0\0\0\0\0\0\1"
    assert driver.cuTensorMapEncodeTiled.calls == [
        [
            "CU_TENSOR_MAP_DATA_TYPE_BFLOAT16",
            2,
            4096,
            [72, 100],
            [144],
            [64, 128],
            [1, 1],
            "CU_TENSOR_MAP_INTERLEAVE_NONE",
            "CU_TENSOR_MAP_SWIZZLE_128B",
            "CU_TENSOR_MAP_L2_PROMOTION_L2_128B",
            "CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE",
        ]
    ]
    assert tensor_map.encode(*arguments) is made


def test_axes_in_another_order(driver: Any) -> None:
    """The map's axes go from slowest to fastest, whichever axes of the tensor they are."""
    tensor_map.encode(4096, (64, 8, 48), (1, 4096, 64), f32, (1, 2, 0), (1, 16, 16), 64, "nan")
    (call,) = driver.cuTensorMapEncodeTiled.calls
    assert call[3:6] == [[64, 48, 8], [256, 16384], [16, 16, 1]]
    assert call[8].endswith("SWIZZLE_64B")
    assert call[10].endswith("NAN_REQUEST_ZERO_FMA")
    tensor_map.encode(4096, (64,), (1,), f8e4m3, (0,), (64,), 0, "zero")
    assert driver.cuTensorMapEncodeTiled.calls[1][0].endswith("UINT8")


def test_one_dimension_has_a_stride_for_the_driver(driver: Any) -> None:
    """It refuses the null pointer that cuda-python makes of an empty list."""
    tensor_map.encode(4096, (17,), (1,), f32, (0,), (4,), 0, "zero")
    driver.cuMemAlloc = lambda size: (0, 65536)
    driver.cuMemsetD8 = lambda *arguments: (0,)
    tensor_map.encode(4096, (0,), (1,), f32, (0,), (4,), 0, "zero")
    calls = driver.cuTensorMapEncodeTiled.calls
    assert [call[3:6] for call in calls] == [[[17], [16], [4]], [[1], [16], [4]]]


def test_what_the_driver_refuses_is_an_error(driver: Any) -> None:
    """Here a box whose rows are no multiple of 16 bytes, which the compiler never makes."""
    with pytest.raises(CudaError, match="cuTensorMapEncodeTiled failed"):
        tensor_map.encode(4096, (17,), (1,), f32, (0,), (3,), 0, "zero")


def test_an_empty_tensor_has_memory_of_its_own(driver: Any) -> None:
    filled: list[Any] = []
    driver.cuMemAlloc = lambda size: (0, 65536)
    driver.cuMemsetD8 = lambda *arguments: (filled.append(arguments), (0,))[1]
    tensor_map.encode(0, (5, 0), (16, 1), f32, (0, 1), (8, 8), 0, "nan")
    (call,) = driver.cuTensorMapEncodeTiled.calls
    assert call[2:5] == [65536, [1, 1], [16]]
    assert filled == [(65536, 255, 16)]


@pytest.mark.parametrize(
    ("pointer", "shape", "strides", "text"),
    [
        (4104, (8, 8), (8, 1), "0x1008 is no multiple of 16"),
        (4096, (8, 9), (9, 1), "stride along axis 0 is 18 bytes"),
        (4096, (8, 8), (-8, 1), "stride along axis 0 is -16 bytes"),
        (4096, (8, 8), (8, 2), "stride along axis 1 is 2 elements"),
        (4096, (-1, 8), (8, 1), r"its shape is \[-1, 8\]"),
    ],
)
def test_what_cannot_be_encoded(
    driver: Any, pointer: int, shape: Any, strides: Any, text: str
) -> None:
    with pytest.raises(TensorMapError, match=text):
        tensor_map.encode(pointer, shape, strides, bf16, (0, 1), (8, 8), 0, "zero")
    assert not driver.cuTensorMapEncodeTiled.calls
