"""Argument classification: NumPy, things like torch and CuPy, DLPack, numbers, and refusals."""

import ctypes
import sys
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

from blocklang.runtime import arrays, cuda, dlpack
from blocklang.runtime.arrays import HOST, classify
from blocklang.runtime.errors import ArgumentRangeError, ArgumentTypeError
from blocklang.runtime.memory import DeviceArray


class FakeTensor:
    """The part of torch.Tensor that launches read."""

    def __init__(self, address=4096, dtype="torch.float32", device=0, kind="cuda"):
        self._address, self._dtype, self._device, self._kind = address, dtype, device, kind

    dtype = property(lambda self: self._dtype)
    is_cuda = property(lambda self: self._kind == "cuda")
    device = property(lambda self: SimpleNamespace(type=self._kind))

    def data_ptr(self):
        return self._address

    def get_device(self):
        return self._device


@pytest.fixture
def torch(monkeypatch):
    fake = SimpleNamespace(Tensor=FakeTensor, nn=SimpleNamespace(Parameter=FakeTensor))
    monkeypatch.setitem(sys.modules, "torch", fake)
    monkeypatch.setattr(arrays, "_classifiers", {})
    return fake


DTYPES = [
    (np.bool_, "i1"),
    (np.int8, "i8"),
    (np.uint8, "u8"),
    (np.int16, "i16"),
    (np.uint16, "u16"),
    (np.int32, "i32"),
    (np.uint32, "u32"),
    (np.int64, "i64"),
    (np.uint64, "u64"),
    (np.float16, "f16"),
    (ml_dtypes.bfloat16, "bf16"),
    (np.float32, "f32"),
    (np.float64, "f64"),
    (ml_dtypes.float8_e4m3fn, "f8e4m3"),
    (ml_dtypes.float8_e5m2, "f8e5m2"),
]


@pytest.mark.parametrize(("dtype", "name"), DTYPES)
def test_numpy_arrays(dtype, name):
    array = np.zeros(6, dtype)
    argument = classify(array[2:])
    assert (argument.kind, argument.dtype, argument.device) == ("array", name, HOST)
    assert argument.value == array.ctypes.data + 2 * array.itemsize
    assert argument.writable


def test_read_only_numpy_array():
    array = np.zeros(3)
    array.flags.writeable = False
    assert not classify(array).writable


@pytest.mark.parametrize("dtype", [np.complex64, np.dtype(">f4"), "U3", np.longdouble, object])
def test_numpy_dtypes_without_element_type(dtype):
    with pytest.raises(ArgumentTypeError, match="no element type"):
        classify(np.zeros(2, dtype))


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (0, "i32"),
        (2**31 - 1, "i32"),
        (2**31, "i64"),
        (-(2**31), "i32"),
        (-(2**31) - 1, "i64"),
        (2**63 - 1, "i64"),
        (2**63, "u64"),
        (2**64 - 1, "u64"),
        (np.int8(5), "i32"),
        (np.uint64(2**63), "u64"),
    ],
)
def test_integers(value, dtype):
    argument = classify(value)
    assert (argument.kind, argument.dtype, argument.value) == ("integer", dtype, int(value))
    assert type(argument.value) is int


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1])
def test_integers_beyond_64_bits(value):
    with pytest.raises(ArgumentRangeError, match="64 bits"):
        classify(value)


@pytest.mark.parametrize(
    "value", [1.5, np.float64(1.5), np.float16(1.5), ml_dtypes.bfloat16(1.5)], ids=repr
)
def test_floats(value):
    argument = classify(value)
    assert (argument.kind, argument.dtype, argument.value) == ("float", "f32", 1.5)


def test_booleans_and_none():
    for value in (True, np.bool_(True)):
        argument = classify(value)
        assert (argument.kind, argument.dtype, argument.value) == ("boolean", "i1", True)
    assert classify(None).kind == "none"


@pytest.mark.parametrize(
    "value", ["text", [1, 2], (1,), {}, object(), 1j], ids=lambda v: type(v).__name__
)
def test_refused_objects(value):
    with pytest.raises(ArgumentTypeError, match=type(value).__name__) as caught:
        classify(value)
    assert "constexpr" in caught.value.help


def test_torch_tensors(torch):
    on_gpu = classify(FakeTensor(8192, "torch.bfloat16", 1))
    assert on_gpu[:5] == ("array", "bf16", 8192, 1, True)
    on_host = classify(FakeTensor(8192, "torch.uint8", -1, "cpu"))
    assert on_host[:4] == ("array", "u8", 8192, HOST)
    with pytest.raises(ArgumentTypeError, match="cannot read"):
        classify(FakeTensor(0, "torch.float32", 0, "xpu"))
    with pytest.raises(ArgumentTypeError, match=r"torch\.complex64"):
        classify(FakeTensor(0, "torch.complex64"))


def cuda_array(device=None, **interface):
    fields = {"shape": (4,), "typestr": "<f2", "data": (64, False), "version": 3, **interface}
    place = {} if device is None else {"device": SimpleNamespace(id=device)}
    return SimpleNamespace(__cuda_array_interface__=fields, **place)


def test_cuda_array_interface(monkeypatch):
    argument = classify(cuda_array(device=2, data=(64, True), stream=7))
    assert argument[:6] == ("array", "f16", 64, 2, False, 7)
    monkeypatch.setattr(cuda, "pointer_device", {64: 3}.get)
    assert classify(cuda_array()).device == 3


def test_dtype_attribute_goes_before_typestr():
    # Extension types such as bfloat16 have no typestr of their own.
    array = cuda_array(device=0, typestr="<V2")
    array.dtype = np.dtype(ml_dtypes.bfloat16)
    assert classify(array).dtype == "bf16"


class Exporter:
    """Exports a NumPy array through DLPack, and says that it is elsewhere if asked to."""

    def __init__(self, array, device=None, versioned=True):
        self.array, self.device, self.versioned, self.streams = array, device, versioned, []

    def __dlpack_device__(self):
        return self.device or self.array.__dlpack_device__()

    def __dlpack__(self, **keywords):
        if "stream" in keywords:
            self.streams.append(keywords.pop("stream"))
        if not self.versioned:
            if keywords:
                raise TypeError("unexpected keyword")
            return self.array.__dlpack__()
        return self.array.__dlpack__(**keywords)


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float64, np.bool_])
def test_dlpack_on_the_host(dtype, versioned):
    array = np.zeros((4, 5), dtype)[1:]
    argument = classify(Exporter(array, versioned=versioned))
    assert argument[:5] == ("array", arrays.dtype_name(array.dtype), array.ctypes.data, HOST, True)


def test_dlpack_read_only():
    array = np.zeros(4)
    array.flags.writeable = False
    exporter = Exporter(array)
    assert dlpack.borrow(exporter, lambda gpu: 0).writable is False


@pytest.mark.parametrize(("current", "told"), [(0, 1), (77, 77)])
def test_dlpack_on_a_gpu(monkeypatch, current, told):
    monkeypatch.setattr(cuda, "current_stream", lambda gpu: current + gpu * 0)
    exporter = Exporter(np.zeros(4, np.float32), (2, 5))
    assert classify(exporter).device == 5
    assert exporter.streams == [told]


def test_dlpack_elsewhere():
    with pytest.raises(ArgumentTypeError, match="type 8"):
        classify(Exporter(np.zeros(4), (8, 0)))


def test_dlpack_memory_is_released_with_the_argument():
    array = np.zeros(1000)
    before = sys.getrefcount(array)
    argument = classify(Exporter(array))
    assert sys.getrefcount(array) > before
    del argument
    assert sys.getrefcount(array) == before


def test_dlpack_types_without_a_name():
    capsule = Exporter(np.zeros(4, np.complex64))
    with pytest.raises(ArgumentTypeError, match="code 5"):
        classify(capsule)


def test_device_array_is_an_array_on_its_gpu(monkeypatch):
    calls = []

    def call(name, *arguments):
        calls.append((name, *arguments))
        return {"cuMemAlloc": 512}.get(name)

    monkeypatch.setattr(cuda, "call", call)
    monkeypatch.setattr(cuda, "activated", lambda gpu: _Entered(99))
    monkeypatch.setattr(cuda, "pushed", lambda context: _Entered(context))
    array = DeviceArray((2, 3), np.float16, 1)
    assert classify(array)[:4] == ("array", "f16", 512, 1)
    assert array.__cuda_array_interface__["data"] == (512, False)
    assert arrays.extent(array) == (512, 524)
    del array
    assert calls == [("cuMemAlloc", 12), ("cuMemFree", 512)]


class _Entered:
    def __init__(self, value):
        self.value = value

    def __enter__(self):
        return self.value

    def __exit__(self, *_):
        return None


def test_device_array_copies(monkeypatch):
    memory = ctypes.create_string_buffer(24)
    address = ctypes.addressof(memory)

    def call(name, *arguments):
        if name.startswith("cuMemcpy"):
            ctypes.memmove(*arguments)
        return address if name == "cuMemAlloc" else None

    monkeypatch.setattr(cuda, "call", call)
    monkeypatch.setattr(cuda, "activated", lambda gpu: _Entered(99))
    monkeypatch.setattr(cuda, "pushed", lambda context: _Entered(context))
    array = DeviceArray((2, 3), np.int32, 0)
    values = np.arange(6, dtype=np.int32).reshape(3, 2).T
    array.copy_from(values)
    np.testing.assert_array_equal(array.to_host(), values)
    with pytest.raises(ValueError, match=r"expected int32 of shape \(2, 3\)"):
        array.copy_from(values.T)


def test_extent():
    array = np.zeros((4, 6), np.float32)
    start = array.ctypes.data
    assert arrays.extent(array) == (start, start + 96)
    assert arrays.extent(array[1:3, ::2]) == (start + 24, start + 24 + 24 + 4 * 4 + 4)
    assert arrays.extent(array[::-1, ::-1]) == (start, start + 96)
    assert arrays.extent(array[:0]) is None
    assert arrays.extent(object()) is None
