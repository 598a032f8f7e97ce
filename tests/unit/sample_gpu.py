"""A machine with a GPU that does not exist, for what users see of drivers and devices.

`SampleGpu` stands in the place of `cuda.bindings.driver`, so that everything of blocklang above it
is real. Memory is not kept and kernels do not run: a launch is recorded, and ends as the test says.
"""

import gc
import sys
from contextlib import contextmanager
from enum import IntEnum
from types import SimpleNamespace

import pytest

from blocklang import compile as pipeline
from blocklang.runtime import cuda
from tests.unit.recording_driver import CONTEXT, Driver

# Names, numbers and sentences are those of the driver.
SENTENCES = {
    "CUDA_SUCCESS": (0, "no error"),
    "CUDA_ERROR_OUT_OF_MEMORY": (2, "out of memory"),
    "CUDA_ERROR_NO_DEVICE": (100, "no CUDA-capable device is detected"),
    "CUDA_ERROR_NO_BINARY_FOR_GPU": (
        209,
        "no kernel image is available for execution on the device",
    ),
    "CUDA_ERROR_UNSUPPORTED_PTX_VERSION": (
        222,
        "the provided PTX was compiled with an unsupported toolchain.",
    ),
    "CUDA_ERROR_ILLEGAL_ADDRESS": (700, "an illegal memory access was encountered"),
    "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES": (701, "too many resources requested for launch"),
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": (
        803,
        "system has unsupported display driver / cuda driver combination",
    ),
}
Status = IntEnum("Status", {name: number for name, (number, _) in SENTENCES.items()})

ATTRIBUTES = {"COMPUTE_CAPABILITY_MAJOR": 8, "COMPUTE_CAPABILITY_MINOR": 0, "WARP_SIZE": 32}
ANSWERS = {
    "cuCtxGetCurrent": (CONTEXT,),
    "cuCtxGetDevice": (0,),
    "cuDeviceGet": (0,),
    "cuDeviceGetName": (b"NVIDIA A100\0",),
    "cuDeviceTotalMem": (40 << 30,),
    "cuDriverGetVersion": (12000,),
    "cuFuncGetAttribute": (0,),
    "cuMemAlloc": (1 << 20,),
    "cuModuleGetFunction": (55,),
}


class Names:
    """An enumeration of the bindings, each member its own name."""

    def __getattr__(self, name):
        return name


class SampleGpu(Driver):
    """`cuda.bindings.driver` of a machine with `gpus` GPUs.

    `refused` gives the functions of the driver that fail their error; `outcome` is the error that
    launched kernels end with, or CUDA_SUCCESS, and `log` what the driver's assembler says.
    """

    CUdevice_attribute = CUfunction_attribute = CUjit_option = Names()
    CUresult = Status

    def __init__(self, gpus=1, refused=(), outcome="CUDA_SUCCESS", log=""):
        super().__init__()
        self.CUresult = Status
        self.gpus, self.refused, self.outcome, self.log = gpus, dict(refused), outcome, log

    def __getattr__(self, function):
        def call(*_):
            return self._status(function), *ANSWERS.get(function, ())

        return call

    def _status(self, function):
        return Status[self.refused.get(function, "CUDA_SUCCESS")]

    def cuInit(self, _):
        return (self._status("cuInit"),)

    def cuDeviceGetCount(self):
        return Status.CUDA_SUCCESS, self.gpus

    def cuDeviceGetAttribute(self, name, _):
        return Status.CUDA_SUCCESS, ATTRIBUTES.get(name.removeprefix("CU_DEVICE_ATTRIBUTE_"), 1)

    def cuModuleLoadDataEx(self, _, __, names, values):
        options = dict(zip(names, values, strict=True))
        options["CU_JIT_ERROR_LOG_BUFFER"][: len(self.log)] = self.log.encode()
        return self._status("cuModuleLoadDataEx"), 66

    def cuLaunchKernel(self, *arguments):
        self.status.value = self._status("cuLaunchKernel")
        (status,) = super().cuLaunchKernel(*arguments)
        return (Status(int(status)),)

    def cuCtxSynchronize(self):
        return (Status[self.outcome if self.general else "CUDA_SUCCESS"],)

    def cuGetErrorString(self, status):
        return Status.CUDA_SUCCESS, SENTENCES[status.name][1].encode()


class NoLibrary:
    """`cuda.bindings.driver` where there is no driver for it to load."""

    def cuInit(self, _):
        raise RuntimeError("libcuda.so.1 cannot be loaded")


class NotInstalled:
    """Makes `import cuda` fail."""

    def find_spec(self, name, *_):
        if name.partition(".")[0] == "cuda":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@contextmanager
def sample_machine(driver=None):
    """A machine whose `cuda.bindings.driver` is `driver`; None for one without cuda-python.

    It has no ptxas, so that the driver assembles, and no array library but NumPy.
    """
    cached = (cuda.driver, cuda.available, cuda.device, cuda.primary_context)
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in sys.modules if n.partition(".")[0] in ("cuda", "torch", "cupy")]:
            patch.delitem(sys.modules, name)
        if driver is None:
            patch.setattr(sys, "meta_path", [NotInstalled(), *sys.meta_path])
        else:
            patch.setitem(sys.modules, "cuda.bindings", SimpleNamespace(driver=driver))
        patch.setattr(pipeline, "ptxas", lambda: None)
        for each in cached:
            each.cache_clear()
        try:
            yield driver
        finally:
            # Arrays and modules free themselves on the machine that they were made on.
            gc.collect()
            for each in cached:
                each.cache_clear()
