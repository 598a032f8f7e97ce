"""A CUDA driver for tests of launches without a GPU: it records what it is asked to launch."""

import ctypes
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace

import llvmlite.binding as llvm
import pytest

from blocklang.runtime import arrays, cuda, fast, native, tensor_map
from blocklang.runtime.launcher import Launcher
from blocklang.runtime.module import Function, FunctionResources
from blocklang.runtime.specialise import Parameter

CONTEXT = 77

# cuLaunchKernel that keeps its arguments and the first slots; cuCtxGetCurrent.
DRIVER = """
@shape = global [8 x i32] zeroinitializer
@handles = global [2 x i64] zeroinitializer
@slots = global [16 x i64] zeroinitializer
@count = global i64 0
@wanted = global i64 0
@status = global i32 0
@context = global i64 77
define i32 @launch(ptr %f, i32 %x, i32 %y, i32 %z, i32 %tx, i32 %ty, i32 %tz, i32 %shared,
                   i64 %stream, ptr %parameters, ptr %extra) {
entry:
  %function = ptrtoint ptr %f to i64
  store i64 %function, ptr @handles
  store i64 %stream, ptr getelementptr (i64, ptr @handles, i64 1)
  store i32 %x, ptr @shape
  store i32 %y, ptr getelementptr (i32, ptr @shape, i64 1)
  store i32 %z, ptr getelementptr (i32, ptr @shape, i64 2)
  store i32 %tx, ptr getelementptr (i32, ptr @shape, i64 3)
  store i32 %ty, ptr getelementptr (i32, ptr @shape, i64 4)
  store i32 %tz, ptr getelementptr (i32, ptr @shape, i64 5)
  store i32 %shared, ptr getelementptr (i32, ptr @shape, i64 6)
  %old = load i64, ptr @count
  %new = add i64 %old, 1
  store i64 %new, ptr @count
  %n = load i64, ptr @wanted
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %body ]
  %done = icmp eq i64 %i, %n
  br i1 %done, label %out, label %body
body:
  %from = getelementptr ptr, ptr %parameters, i64 %i
  %slot = load ptr, ptr %from
  %value = load i64, ptr %slot
  %to = getelementptr i64, ptr @slots, i64 %i
  store i64 %value, ptr %to
  %next = add i64 %i, 1
  br label %loop
out:
  %result = load i32, ptr @status
  ret i32 %result
}
define i32 @current(ptr %out) {
  %context = load i64, ptr @context
  store i64 %context, ptr %out
  ret i32 0
}
"""


class Status(int):
    name = "CUDA_ERROR_SAMPLE"


class Driver:
    """Records launches; `native` counts those that came from native code."""

    def __init__(self):
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
        self.engine = llvm.create_mcjit_compiler(llvm.parse_assembly(DRIVER), machine)
        self.engine.finalize_object()
        self.shape = self._variable("shape", ctypes.c_uint32 * 8)
        self.handles = self._variable("handles", ctypes.c_uint64 * 2)
        self.slots = self._variable("slots", ctypes.c_uint64 * 16)
        self._native = self._variable("count", ctypes.c_uint64)
        self.wanted = self._variable("wanted", ctypes.c_uint64)
        self.status = self._variable("status", ctypes.c_int32)
        self.context = self._variable("context", ctypes.c_uint64)
        self.general = 0
        self.CUresult = Status
        address = self.engine.get_function_address("launch")
        self._launch = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.c_void_p, *(ctypes.c_uint32,) * 7, *(ctypes.c_void_p,) * 3
        )(address)

    def _variable(self, name, kind):
        return kind.from_address(self.engine.get_global_value_address(name))

    def cuLaunchKernel(self, *arguments):
        self.general += 1
        return (Status(self._launch(*arguments)),)

    def cuGetErrorString(self, _):
        return 0, b"a sample error"

    @property
    def native(self):
        return self._native.value - self.general

    def entry_point(self, name):
        names = {"cuLaunchKernel": "launch", "cuCtxGetCurrent": "current"}
        return self.engine.get_function_address(names[name])


class FakeTensor:
    def __init__(self, address=4096, dtype="torch.float32", device=0):
        self.address, self.dtype, self.ordinal = address, dtype, device
        self.is_cuda = device >= 0
        self.device = SimpleNamespace(type="cuda" if self.is_cuda else "cpu")

    def data_ptr(self):
        return self.address

    def get_device(self):
        return self.ordinal


@dataclass
class Kernel:
    """A compiled kernel as a back end returns it."""

    specialisation: object
    parameters: list
    threads: int = 128
    shared_bytes: int = 2048
    written: frozenset = frozenset()
    tensor_maps: object = None
    num_ctas: int = 1
    host_launches: list = field(default_factory=list)

    def __post_init__(self):
        resources = FunctionResources(8, 0, 0, 0, 1024)
        self.function = Function("sample", 55, CONTEXT, 0, self.shared_bytes, resources, "")

    def launch_host(self, grid, slots):
        values = (ctypes.c_uint64 * len(self.parameters)).from_address(slots)
        self.host_launches.append((grid, list(values)))


@contextmanager
def recording_driver(monkeypatch):
    """Put a `Driver`, and a torch of `FakeTensor`, in the place of the real ones."""
    made = Driver()

    @contextmanager
    def activated(_):
        yield CONTEXT

    monkeypatch.setattr(cuda, "driver", lambda: made)
    monkeypatch.setattr(cuda, "entry_point", made.entry_point)
    monkeypatch.setattr(cuda, "activated", activated)
    fake_torch = SimpleNamespace(
        Tensor=FakeTensor,
        nn=SimpleNamespace(Parameter=FakeTensor),
        _C=SimpleNamespace(_cuda_getCurrentRawStream=lambda device: 1000 + device),
    )
    monkeypatch.setitem(sys.modules, "torch", fake_torch)
    monkeypatch.setattr(arrays, "_classifiers", {})
    fast._environment.cache_clear()
    yield made
    fast._environment.cache_clear()


class Encoder:
    """The driver's function that encodes tensor maps; it numbers those that it makes.

    It refuses what the driver refuses.
    """

    def __init__(self):
        self.calls = []
        self.kept = []

    def __call__(self, *arguments):
        self.calls.append([self.plain(each) for each in arguments])
        if not self.accepts(*self.calls[-1]):
            return Status(1), None
        memory = (ctypes.c_uint64 * 16)(*[len(self.calls)] * 16)
        self.kept.append(memory)
        return 0, self

    def getPtr(self):
        return ctypes.addressof(self.kept[-1])

    @staticmethod
    def accepts(
        kind, rank, address, sizes, strides, box, steps, interleave, swizzle, promotion, outside
    ):
        """What the documentation of cuTensorMapEncodeTiled asks for where nothing is interleaved.

        It does not say that there must be strides for one dimension, too, but the driver wants a
        pointer that is not null, and cuda-python makes one of a list that is not empty.
        """
        kind, swizzle = kind.rpartition("_")[2], swizzle.rpartition("_")[2]
        inner = box[0] * int("".join(filter(str.isdigit, kind))) // 8
        return (
            1 <= rank <= 5
            and address % 16 == 0
            and len(sizes) == len(box) == len(steps) == rank
            and len(strides) == max(rank - 1, 1)
            and all(1 <= size <= 2**32 for size in sizes)
            and all(stride % 16 == 0 and stride < 2**40 for stride in strides)
            and all(1 <= size <= 256 for size in box)
            and all(1 <= step <= 8 for step in steps)
            and inner % 16 == 0
            and (swizzle == "NONE" or inner <= int(swizzle.removesuffix("B")))
            and (outside.endswith("NONE") or "FLOAT" in kind)
        )

    @staticmethod
    def plain(value):
        if isinstance(value, list):
            return [int(each) for each in value]
        return getattr(value, "name", value)


@contextmanager
def encoding_driver(monkeypatch):
    """`recording_driver` with an `Encoder`, and the real enumerations of cuda-python."""
    real = pytest.importorskip("cuda.bindings.driver")
    with recording_driver(monkeypatch) as made:
        for name in dir(real):
            if name.startswith("CUtensorMap") or name in ("cuuint64_t", "cuuint32_t"):
                setattr(made, name, getattr(real, name))
        made.cuTensorMapEncodeTiled = Encoder()
        tensor_map.encode.cache_clear()
        yield made
        tensor_map.encode.cache_clear()


RUNTIME_TYPES = {"array": "ptr", "integer": None, "float": None, "boolean": "i1"}


def compile_for(specialisation):
    """Pass every run-time argument that is not None or equal to 1, in order."""
    plan = [
        (index, "ptr" if facts.kind == "array" else facts.dtype)
        for index, facts in enumerate(specialisation.arguments)
        if facts.kind not in ("none", "constexpr") and not facts.equal_to_1
    ]
    return Kernel(specialisation, plan)


def make(*parameters, options=None, slow_path=compile_for):
    listed = [p if isinstance(p, Parameter) else Parameter(p) for p in parameters]
    seen = []

    def compiled(specialisation):
        seen.append(specialisation)
        return slow_path(specialisation)

    launcher = Launcher("sample", listed, options or {"num_warps": 4}, compiled)
    return launcher, seen


def launch_until_native(driver, launch):
    """Launch four times; the last must have gone the native way, where there is one."""
    for _ in range(4):
        result = launch()
    if native.available():
        assert driver.native > 0
    return result
