"""Tensor maps: expressions that the host computes, what the driver is asked to encode, launches."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from typing import Any

import pytest

from blocklang import TensorDescriptor
from blocklang.ir.analysis.host import arguments_of, host_expression, host_function
from blocklang.ir.parser import parse
from blocklang.ir.types import bf16, f8e4m3, f32
from blocklang.runtime import fast, native, tensor_map
from blocklang.runtime.errors import CudaError, GridError, MixedPlacesError, TensorMapError

from .recording_driver import (
    FakeTensor,
    compile_for,
    launch_until_native,
    make,
    recording_driver,
)

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


class Encoder:
    """The driver's function, which numbers the maps that it makes."""

    def __init__(self) -> None:
        self.calls: list[list[Any]] = []
        self.kept: list[Any] = []

    def __call__(self, *arguments: Any) -> Any:
        self.calls.append([self.plain(each) for each in arguments])
        memory = (ctypes.c_uint64 * 16)(*[len(self.calls)] * 16)
        self.kept.append(memory)
        return 0, self

    def getPtr(self) -> int:
        return ctypes.addressof(self.kept[-1])

    @staticmethod
    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [int(each) for each in value]
        return getattr(value, "name", value)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A driver that records, with the real enumerations of cuda-python."""
    real = pytest.importorskip("cuda.bindings.driver")
    with recording_driver(monkeypatch) as made:
        for name in dir(real):
            if name.startswith("CUtensorMap") or name in ("cuuint64_t", "cuuint32_t"):
                setattr(made, name, getattr(real, name))
        made.cuTensorMapEncodeTiled = Encoder()
        tensor_map.encode.cache_clear()
        yield made
        tensor_map.encode.cache_clear()


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
    tensor_map.encode(4096, (64, 8, 48), (1, 4096, 64), f32, (1, 2, 0), (1, 16, 32), 64, "nan")
    (call,) = driver.cuTensorMapEncodeTiled.calls
    assert call[3:6] == [[64, 48, 8], [256, 16384], [32, 16, 1]]
    assert call[8].endswith("SWIZZLE_64B")
    assert call[10].endswith("NAN_REQUEST_ZERO_FMA")
    tensor_map.encode(4096, (64,), (1,), f8e4m3, (0,), (64,), 0, "zero")
    assert driver.cuTensorMapEncodeTiled.calls[1][0].endswith("UINT8")


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


# ---------------------------------------------------------------- launches

PLUS_ONE = ["add", "i32", {}, ["arg", "i32", 1], ["const", "i32", 1]]
RECIPE = {
    "pointer": ["arg", "ptr<f32>", 0],
    "shape": [["arg", "i32", 1], ["const", "i32", 8]],
    "strides": [
        ["cast", "i64", {"rounding": "rtne"}, PLUS_ONE],
        ["const", "i64", 1],
    ],
    "element": "f32",
    "axes": [0, 1],
    "box": [8, 8],
    "swizzle": 32,
    "padding": "zero",
}  # fmt: skip


natively = pytest.mark.skipif(not native.available(), reason="no native path here")


def with_maps(specialisation: Any) -> Any:
    kernel = compile_for(specialisation)
    kernel.tensor_maps = tensor_map.TensorMaps([RECIPE, {**RECIPE, "swizzle": 0}])
    return kernel


def test_maps_follow_the_parameters(driver: Any) -> None:
    launcher, _ = make("x", "n", slow_path=with_maps)
    driver.wanted.value = 4
    x = FakeTensor(4096)
    for _ in range(4):
        launcher[(1,)](x, 3)
        assert list(driver.slots)[:4] == [4096, 3, 1, 2]
    encoder = driver.cuTensorMapEncodeTiled
    assert len(encoder.calls) == 2
    assert encoder.calls[0][3:5] == [[8, 3], [16]]
    launcher[(1,)](x, 7)
    assert len(encoder.calls) == 4
    assert list(driver.slots)[2:4] == [3, 4]


@natively
def test_maps_of_other_arguments(driver: Any) -> None:
    """Maps that have been made serve again without the general path, however many there are."""
    launcher, _ = make("x", "n", slow_path=with_maps)
    driver.wanted.value = 4
    choices = [(4096 * (1 + i % 5), 3 + 4 * (i // 5)) for i in range(40)]
    numbers: dict[tuple[int, int], list[int]] = {}
    launch_until_native(driver, lambda: launcher[(1,)](FakeTensor(4096), 3))
    for address, n in choices:
        launcher[(1,)](FakeTensor(address), n)
        numbers[address, n] = list(driver.slots)[2:4]
    assert len(set(map(tuple, numbers.values()))) == 40
    general, encoded = driver.general, len(driver.cuTensorMapEncodeTiled.calls)
    assert encoded == 80
    for address, n in choices + choices[::-1]:
        launcher[(1,)](FakeTensor(address), n)
        assert list(driver.slots)[:4] == [address, n, *numbers[address, n]]
    assert driver.general == general
    assert len(driver.cuTensorMapEncodeTiled.calls) == encoded


@natively
def test_what_maps_do_not_depend_on_makes_none(driver: Any) -> None:
    launcher, _ = make("x", "n", "late", "scale", slow_path=with_maps)
    driver.wanted.value = 6
    launch_until_native(driver, lambda: launcher[(1,)](FakeTensor(8192), 3, 2, 2.0))
    general = driver.general
    launcher[(1,)](FakeTensor(8192), 3, 5, 1.0)
    assert list(driver.slots)[:3] == [8192, 3, 5]
    assert list(driver.slots)[3] & 0xFFFFFFFF == 0x3F800000
    assert list(driver.slots)[4:6] == [1, 2]
    assert driver.general == general


@natively
def test_constant_maps(driver: Any) -> None:
    """Maps that depend on no argument."""
    recipe = {**RECIPE, "pointer": ["const", "ptr<f32>", 4096]}
    recipe |= {
        "shape": [["const", "i32", 8]] * 2,
        "strides": [["const", "i64", 8], RECIPE["strides"][1]],
    }

    def slow_path(specialisation: Any) -> Any:
        kernel = compile_for(specialisation)
        kernel.tensor_maps = tensor_map.TensorMaps([recipe])
        return kernel

    launcher, _ = make("x", slow_path=slow_path)
    driver.wanted.value = 2
    launch_until_native(driver, lambda: launcher[(1,)](FakeTensor(8192)))
    before = driver.native
    launcher[(1,)](FakeTensor(16384))
    assert list(driver.slots)[:2] == [16384, 1]
    assert driver.native == before + 1


@natively
def test_programs_of_several_blocks(driver: Any) -> None:
    def slow_path(specialisation: Any) -> Any:
        kernel = with_maps(specialisation)
        kernel.num_ctas = 2
        return kernel

    launcher, _ = make("x", "n", slow_path=slow_path)
    x = FakeTensor()
    launch_until_native(driver, lambda: launcher[(1,)](x, 3))
    before = driver.native
    launcher[3, 5](x, 3)
    assert list(driver.shape)[:4] == [6, 5, 1, 128]
    launcher[(2**30 - 1,)](x, 3)
    assert list(driver.shape)[:3] == [2**31 - 2, 1, 1]
    assert driver.native == before + 2
    with pytest.raises(GridError, match="1073741824 programs along x; a GPU allows 1073741823"):
        launcher[(2**30,)](x, 3)


@natively
def test_a_refused_launch_with_maps_is_explained(driver: Any) -> None:
    launcher, _ = make("x", "n", slow_path=with_maps)
    x = FakeTensor()
    launch_until_native(driver, lambda: launcher[(1,)](x, 3))
    general = driver.general
    driver.status.value = 1
    with pytest.raises(CudaError, match="launching sample with 1 x 1 x 1 programs"):
        launcher[(1,)](x, 3)
    assert driver.general == general + 1
    with pytest.raises(TensorMapError, match="sample cannot copy 'x'"):
        launcher[(1,)](x, 5)


@natively
def test_an_empty_grid_makes_no_maps(driver: Any) -> None:
    launcher, _ = make("x", "n", slow_path=with_maps)
    x = FakeTensor()
    for _ in range(4):
        launcher[(0,)](x, 3)
    assert not driver.cuTensorMapEncodeTiled.calls
    launch_until_native(driver, lambda: launcher[(1,)](x, 3))
    counted = driver.native, driver.general
    launcher[(0,)](x, 3)
    launcher[(0,)](x, 7)
    assert (driver.native, driver.general) == counted


@natively
def test_maps_die_with_their_entries(driver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache is bounded, and what it forgets is encoded again."""
    monkeypatch.setattr(fast, "_MOST_ENTRIES", 10)
    monkeypatch.setattr(tensor_map, "_MOST_LAUNCHES", 1)
    launcher, _ = make("x", "n", slow_path=with_maps)
    driver.wanted.value = 4
    launch_until_native(driver, lambda: launcher[(1,)](FakeTensor(4096), 3))
    for i in 2 * list(range(50)):
        launcher[(1,)](FakeTensor(4096 * (i + 1)), 3)
        first, second = list(driver.slots)[2:4]
        assert (first, second) == (2 * i + 1, 2 * i + 2)
        assert len(launcher._fast._cache) <= 10


@natively
def test_counts_stay_with_maps(driver: Any) -> None:
    launcher, _ = make("x", "n", slow_path=with_maps)
    x = FakeTensor()
    kernel = launch_until_native(driver, lambda: launcher[(1,)](x, 3))
    entries = list(launcher._fast._cache.values())
    assert len(entries) == 2
    watched = (x, x.dtype, kernel, *entries)
    before = [sys.getrefcount(value) for value in watched]
    blocks = sys.getallocatedblocks()
    for _ in range(300):
        launcher[(1,)](x, 3)
        launcher[(0,)](x, 3)
    after = [sys.getrefcount(value) for value in watched]
    assert sys.getallocatedblocks() - blocks < 100
    assert all(abs(a - b) < 50 for a, b in zip(after, before, strict=True))


@natively
def test_entries_dropped_during_a_launch(driver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream's getter is Python, and may empty the cache between look-up and launch."""
    launcher, _ = make("x", "n", slow_path=with_maps)
    driver.wanted.value = 4

    def stream_of(device: int) -> int:
        launcher._fast._cache.clear()
        gc.collect()
        return 1000 + device

    monkeypatch.setattr(sys.modules["torch"]._C, "_cuda_getCurrentRawStream", stream_of)
    for _ in range(6):
        launcher[(1,)](FakeTensor(4096), 3)
        assert list(driver.slots)[:4] == [4096, 3, 1, 2]
        assert list(driver.handles) == [55, 1000]
    assert driver.native > 0


@natively
def test_threads_with_maps(driver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "_MOST_ENTRIES", 10)
    launcher, _ = make("x", "n", slow_path=with_maps)
    launch_until_native(driver, lambda: launcher[(1,)](FakeTensor(4096), 3))
    failures: list[BaseException] = []

    def work(own: int) -> None:
        try:
            for i in range(300):
                launcher[(1,)](FakeTensor(4096 * (own + i % 7 + 1)), 3)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(own,)) for own in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert driver.native + driver.general == 4 + 4 * 300


def test_the_error_names_the_argument(driver: Any) -> None:
    launcher, _ = make("x", "n", slow_path=with_maps)
    with pytest.raises(TensorMapError, match=r"sample cannot copy 'x' with .* 20 bytes"):
        launcher[(1,)](FakeTensor(4096), 4)


class Strided(FakeTensor):
    """A tensor of torch, with shape and strides."""

    shape = (3, 8)

    def stride(self) -> tuple[int, ...]:
        return 8, 1

    def element_size(self) -> int:
        return 4


def flattened(specialisation: Any) -> Any:
    """A kernel that takes all parts of its first argument, a descriptor, and the second."""
    kernel = compile_for(specialisation)
    kernel.parameters = [(0, "ptr"), (1, "i32"), (2, "i32"), (3, "i64"), (4, "i32")]
    return kernel


def test_descriptors_become_parameters(driver: Any) -> None:
    launcher, seen = make("x", "n", slow_path=flattened)
    driver.wanted.value = 5
    descriptor = TensorDescriptor.from_tensor(Strided(8192), [2, 8])
    for _ in range(4):
        launcher[(1,)](descriptor, 5)
        assert list(driver.slots)[:5] == [8192, 3, 8, 8, 5]
    (specialisation,) = seen
    facts = specialisation.arguments[0]
    assert (facts.kind, facts.block_shape, facts.padding) == ("descriptor", (2, 8), "zero")
    assert [part.divisible for part in facts.parts] == [16, 1, 8, 8]
    launcher[(1,)](TensorDescriptor.from_tensor(Strided(8192), [4, 8]), 5)
    assert len(seen) == 2
    assert driver.native == 0


def test_arrays_of_descriptors_are_in_one_place(driver: Any) -> None:
    launcher, _ = make("x", "y", slow_path=flattened)
    here = TensorDescriptor.from_tensor(Strided(8192), [2, 8])
    with pytest.raises(MixedPlacesError, match="'x' is on GPU 0, 'y' is on GPU 1"):
        launcher[(1,)](here, FakeTensor(device=1))
