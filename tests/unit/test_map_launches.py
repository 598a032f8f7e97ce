"""Launches with tensor maps and with tensor descriptors of the host, by both paths."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from typing import Any

import pytest

from blocklang import TensorDescriptor
from blocklang.runtime import fast, native, tensor_map
from blocklang.runtime.errors import (
    CudaError,
    DescriptorError,
    GridError,
    MixedPlacesError,
    TensorMapError,
)
from blocklang.runtime.specialise import Parameter

from .recording_driver import (
    FakeTensor,
    compile_for,
    encoding_driver,
    launch_until_native,
    make,
)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Any:
    with encoding_driver(monkeypatch) as made:
        yield made


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
    "rounding": "",
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
def test_entries_keep_their_maps_alive(driver: Any) -> None:
    """Whatever the other caches have forgotten."""
    launcher, _ = make("x", "n", slow_path=with_maps)
    kernel = launch_until_native(driver, lambda: launcher[(1,)](FakeTensor(4096), 3))
    maps = list(map(weakref.ref, kernel.tensor_maps.encode([4096, 3], ["x", "n"], "sample")))
    kernel.tensor_maps._made.clear()
    tensor_map.encode.cache_clear()
    gc.collect()
    assert all(each() is not None for each in maps)
    launcher._fast._cache.clear()
    gc.collect()
    assert all(each() is None for each in maps)


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


# ---------------------------------------------------------------- descriptors on the native path


def product(specialisation: Any) -> Any:
    """A kernel of two matrices by descriptors, and a number; all that may be passed, and a map."""
    kernel = compile_for(specialisation)
    kernel.parameters = [(0, "ptr"), (1, "i32"), (2, "i32"), (3, "i64"), (4, "ptr"), (8, "f32")]
    first = {**RECIPE, "shape": [["arg", "i32", 1], ["arg", "i32", 2]]}
    first["strides"] = [["arg", "i64", 3], ["const", "i64", 1]]
    kernel.tensor_maps = tensor_map.TensorMaps([first])
    return kernel


def matrix(address: int, rows: int = 3, block: Any = (2, 8), **more: Any) -> TensorDescriptor:
    return TensorDescriptor(FakeTensor(address), [rows, 8], [8, 1], block, **more)


@natively
def test_descriptors_are_launched_natively(driver: Any) -> None:
    launcher, seen = make("a", "b", "scale", slow_path=product)
    driver.wanted.value = 7
    launch_until_native(driver, lambda: launcher[(1,)](matrix(8192), matrix(4096), 2.0))
    counted = driver.native, driver.general
    descriptor = matrix(8192)
    kernel = launcher[2, 3](descriptor, matrix(16384), 1.0, stream=5)
    assert kernel.specialisation is seen[0]
    assert list(driver.slots)[:5] == [8192, 3, 8, 8, 16384]
    assert list(driver.slots)[5] & 0xFFFFFFFF == 0x3F800000
    assert list(driver.slots)[6] == 1
    assert list(driver.shape)[:3] == [2, 3, 1]
    assert driver.handles[1] == 5
    assert (driver.native, driver.general) == (counted[0] + 1, counted[1])
    # What has been assigned to counts, and is another map of the same kernel.
    descriptor.shape = [5, 8]
    launcher[(1,)](descriptor, matrix(4096), 2.0)
    assert list(driver.slots)[:3] == [8192, 5, 8]
    assert list(driver.slots)[6] == 2
    assert driver.general == counted[1] + 1
    descriptor.shape = (3, 8)
    launcher[(1,)](descriptor, matrix(4096), 2.0)
    assert list(driver.slots)[6] == 1
    assert driver.general == counted[1] + 1
    assert len(seen) == 1


@natively
@pytest.mark.parametrize(
    "other",
    [
        lambda: matrix(8192, block=(4, 8)),
        lambda: matrix(8192, padding="nan"),
        lambda: matrix(8192, rows=16),
        lambda: matrix(8192, rows=1),
        lambda: TensorDescriptor(FakeTensor(8192, "torch.float16"), [3, 8], [8, 1], [2, 8]),
        lambda: TensorDescriptor(FakeTensor(8192), [3, 3, 8], [64, 8, 1], [1, 2, 8]),
    ],
    ids=["block", "padding", "divisible", "one", "dtype", "rank"],
)
def test_other_descriptors_are_other_kernels(driver: Any, other: Any) -> None:
    """By the native path, too, which has launched both."""

    def slow_path(specialisation: Any) -> Any:
        kernel = compile_for(specialisation)
        kernel.parameters = [(0, "ptr")]
        return kernel

    launcher, seen = make("a", slow_path=slow_path)
    first = launch_until_native(driver, lambda: launcher[(1,)](matrix(8192)))
    second = launch_until_native(driver, lambda: launcher[(1,)](other()))
    assert len(seen) == 2
    general = driver.general
    assert launcher[(1,)](matrix(4096)) is first
    assert launcher[(1,)](other()) is second
    assert first is not second
    assert driver.general == general


@natively
def test_wrong_descriptors_are_explained(driver: Any) -> None:
    launcher, _ = make("a", "b", "scale", slow_path=product)
    right = matrix(8192)
    launch_until_native(driver, lambda: launcher[(1,)](right, matrix(4096), 2.0))
    right.strides = [8, 2]
    with pytest.raises(DescriptorError, match=r"'a' of sample: the last stride .* is 2"):
        launcher[(1,)](right, matrix(4096), 2.0)
    right.strides = [8, 1.0]
    with pytest.raises(DescriptorError, match="give a list of integers"):
        launcher[(1,)](right, matrix(4096), 2.0)
    right.strides = [8, 1]
    elsewhere = TensorDescriptor(FakeTensor(4096, device=1), [3, 8], [8, 1], [2, 8])
    with pytest.raises(MixedPlacesError, match="'a' is on GPU 0, 'b' is on GPU 1"):
        launcher[(1,)](right, elsewhere, 2.0)
    driver.status.value = 1
    with pytest.raises(CudaError, match="launching sample"):
        launcher[(1,)](right, matrix(4096), 2.0)


@natively
def test_a_constant_descriptor_stays_one(driver: Any) -> None:
    """As a compile-time value it is an object like others."""
    launcher, seen = make("x", Parameter("D", constexpr=True))
    base = FakeTensor(8192)
    constant, other = (TensorDescriptor(base, [3, 8], [8, 1], [2, 8]) for _ in range(2))
    for each in (constant, other):
        launch_until_native(driver, lambda each=each: launcher[(1,)](FakeTensor(), each))
    general = driver.general
    for each in (constant, other):
        kernel = launcher[(1,)](FakeTensor(), each)
        assert kernel.specialisation.arguments[1].value is each
    assert driver.general == general
    assert len(seen) == 2


@natively
def test_descriptors_are_not_specialised_where_not_wanted(driver: Any) -> None:
    launcher, seen = make(Parameter("a", specialize=False), "b", "scale", slow_path=product)
    launch_until_native(driver, lambda: launcher[(1,)](matrix(8192), matrix(4096), 2.0))
    for rows in (1, 8, 16):
        launcher[(1,)](matrix(8192, rows=rows), matrix(4096), 2.0)
    general = driver.general
    launcher[(1,)](matrix(8192, rows=16), matrix(4096), 2.0)
    assert (len(seen), driver.general) == (1, general)
