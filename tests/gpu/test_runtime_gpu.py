"""The runtime on a real GPU: loading, launching on both paths, memory, streams, errors.

The kernels are written in PTX, so that nothing of the compiler is needed.
"""

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blocklang.codegen.nvptx import assembler
from blocklang.runtime import cuda, device_array, empty, errors, module, native, timing
from blocklang.runtime.launcher import Launcher
from blocklang.runtime.specialise import Parameter

pytestmark = pytest.mark.gpu

# y[i] = x[i] * scale + n for i < length; one block of 128 threads for each 128 elements.
SCALE = """
.version 8.0
.target sm_80
.address_size 64
.extern .shared .align 16 .b8 dynamic[];
.visible .entry scale(.param .u64 p_x, .param .u64 p_y, .param .u32 p_length, .param .u64 p_n,
                      .param .f32 p_scale) .reqntid 128 {
  .reg .pred %p; .reg .b32 %r<5>; .reg .b64 %a<6>; .reg .f32 %f<5>;
  ld.param.u64 %a1, [p_x];
  ld.param.u64 %a2, [p_y];
  ld.param.u32 %r1, [p_length];
  ld.param.u64 %a3, [p_n];
  ld.param.f32 %f1, [p_scale];
  mov.u32 %r2, %ctaid.x;
  mov.u32 %r3, %tid.x;
  shl.b32 %r2, %r2, 7;
  add.u32 %r2, %r2, %r3;
  setp.ge.u32 %p, %r2, %r1;
  @%p ret;
  cvta.to.global.u64 %a1, %a1;
  cvta.to.global.u64 %a2, %a2;
  mul.wide.u32 %a4, %r2, 4;
  add.u64 %a1, %a1, %a4;
  add.u64 %a2, %a2, %a4;
  ld.global.f32 %f2, [%a1];
  cvt.rn.f32.s64 %f3, %a3;
  fma.rn.f32 %f2, %f2, %f1, %f3;
  st.global.f32 [%a2], %f2;
  ret;
}
"""


@dataclass
class Kernel:
    function: Any
    specialisation: Any
    parameters: tuple = ((0, "ptr"), (1, "ptr"), (2, "i32"), (3, "i64"), (4, "f32"))
    threads: int = 128
    written: frozenset = frozenset({1})
    tensor_maps: None = None
    num_ctas = 1


def scale_launcher(image=SCALE, shared_bytes=0):
    def slow_path(specialisation):
        function = module.load(
            image, "scale", device=specialisation.device, shared_bytes=shared_bytes
        )
        return Kernel(function, specialisation)

    parameters = [
        Parameter("x"),
        Parameter("y"),
        Parameter("length", dtype="i32"),
        Parameter("n", dtype="i64"),
        Parameter("scale"),
        Parameter("BLOCK", constexpr=True, default=128),
    ]
    return Launcher("scale", parameters, {"num_warps": 4}, slow_path)


@pytest.fixture(scope="module")
def torch():
    module_ = pytest.importorskip("torch")
    if not module_.cuda.is_available():
        pytest.skip("torch has no CUDA")
    return module_


def test_device_facts():
    facts = cuda.device(0)
    assert facts.warp_size == 32
    assert facts.threads_per_block == 1024
    assert facts.shared_bytes_per_block >= 48 * 1024
    assert facts.multiprocessors > 0
    assert facts.target.startswith(f"sm_{facts.capability[0]}{facts.capability[1]}")
    assert cuda.device(0) is facts
    with pytest.raises(errors.NoDeviceError, match="there is no GPU 99"):
        cuda.device(99)


def test_memory_round_trip():
    values = np.arange(24, dtype=np.float16).reshape(4, 6)
    array = device_array(values)
    np.testing.assert_array_equal(array.to_host(), values)
    assert cuda.pointer_device(array.data_ptr()) == array.get_device() == 0
    assert empty((0, 3), np.int8).to_host().shape == (0, 3)


def test_launches_with_device_arrays():
    launcher = scale_launcher()
    x = device_array(np.arange(1000, dtype=np.float32))
    for n in range(6):
        y = device_array(np.zeros(1000, np.float32))
        launcher[(8,)](x, y, 1000, n - 3, 0.5)
        np.testing.assert_array_equal(y.to_host(), np.arange(1000) * np.float32(0.5) + n - 3)
    if native.available():
        assert len(launcher._fast._cache) > 0


def test_launches_with_torch(torch):
    launcher = scale_launcher()
    x = torch.arange(1000, dtype=torch.float32, device="cuda")
    for n in range(6):
        y = torch.zeros_like(x)
        kernel = launcher[lambda meta: (-(-meta["length"] // meta["BLOCK"]),)](x, y, 1000, n, 2.0)
        assert torch.equal(y, x * 2 + n)
    assert kernel.specialisation.arguments[0].divisible == 16
    for n in range(4):
        y = torch.zeros_like(x)
        kernel = launcher[(8,)](x[1:], y, 999, n, 2.0)
        assert torch.equal(y[:999], x[1:] * 2 + n)
    assert kernel.specialisation.arguments[0].divisible == 1


def test_torch_streams(torch):
    launcher = scale_launcher()
    x = torch.ones(1 << 20, device="cuda")
    y = torch.zeros_like(x)
    side = torch.cuda.Stream()
    for _ in range(5):
        with torch.cuda.stream(side):
            torch.cuda._sleep(10_000_000)
            x.fill_(3.0)
            launcher[(8192,)](x, y, 1 << 20, 0, 2.0)
            z = y.clone()
        side.synchronize()
        assert bool((z == 6.0).all())
        x.fill_(1.0)
        torch.cuda.synchronize()
    launcher[(8192,)](x, y, 1 << 20, 0, 2.0, stream=side)
    side.synchronize()
    assert bool((y == 2.0).all())


def test_cuda_graph(torch):
    launcher = scale_launcher()
    x, y = torch.ones(1000, device="cuda"), torch.zeros(1000, device="cuda")
    for _ in range(4):
        launcher[(8,)](x, y, 1000, 1, 2.0)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        launcher[(8,)](x, y, 1000, 1, 2.0)
    x.fill_(5.0)
    graph.replay()
    torch.cuda.synchronize()
    assert bool((y == 11.0).all())


def test_arrays_by_protocol(torch):
    class ThroughInterface:
        def __init__(self, tensor):
            self.tensor = tensor

        @property
        def __cuda_array_interface__(self):
            return self.tensor.__cuda_array_interface__

    class ThroughDlpack:
        def __init__(self, tensor):
            self.tensor = tensor

        def __dlpack_device__(self):
            return self.tensor.__dlpack_device__()

        def __dlpack__(self, stream=None):
            return self.tensor.__dlpack__(stream=stream)

    launcher = scale_launcher()
    x = torch.arange(100, dtype=torch.float32, device="cuda")
    for wrap in (ThroughInterface, ThroughDlpack):
        for _ in range(3):
            y = torch.zeros_like(x)
            launcher[1](wrap(x), wrap(y), 100, 7, 1.0)
            assert torch.equal(y, x + 7)


def test_mixed_places(torch):
    launcher = scale_launcher()
    x = torch.zeros(4, device="cuda")
    with pytest.raises(errors.MixedPlacesError, match="'y' is on the host"):
        launcher[1](x, torch.zeros(4), 4, 0, 1.0)


def test_launch_from_a_thread_without_a_context():
    launcher = scale_launcher()
    x, y = device_array(np.ones(100, np.float32)), empty(100, np.float32)
    for _ in range(4):
        launcher[1](x, y, 100, 1, 1.0)
    failures = []

    def work():
        try:
            launcher[1](x, y, 100, 41, 1.0)
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failures
    np.testing.assert_array_equal(y.to_host(), 42)


def test_cubin_and_ptx_give_the_same():
    ptxas = assembler.find_ptxas()
    if ptxas is None:
        pytest.skip("no ptxas on this machine")
    # Machine code is for one architecture: assemble for the one at hand.
    facts = cuda.device(0)
    target = f"sm_{facts.capability[0]}{facts.capability[1]}"
    assembled = assembler.assemble(SCALE, target, ptxas=ptxas)
    loaded = module.load(assembled.cubin, "scale", device=0)
    assert loaded.resources.registers == assembled.kernels["scale"].registers
    assert loaded.resources.threads_per_block >= 128
    x, y = device_array(np.ones(10, np.float32)), empty(10, np.float32)
    scale_launcher(assembled.cubin)[1](x, y, 10, 3, 2.0)
    np.testing.assert_array_equal(y.to_host(), 5)


def test_dynamic_shared_memory_above_48_kib():
    limit = cuda.device(0).shared_bytes_per_block
    x, y = device_array(np.ones(10, np.float32)), empty(10, np.float32)
    scale_launcher(shared_bytes=limit)[1](x, y, 10, 3, 2.0)
    np.testing.assert_array_equal(y.to_host(), 5)
    with pytest.raises(errors.CudaError, match="cuFuncSetAttribute failed"):
        module.load(SCALE, "scale", device=0, shared_bytes=limit + 1)


def test_bad_ptx_gives_the_log_of_the_driver():
    with pytest.raises(errors.ModuleLoadError, match="does not accept the PTX") as caught:
        module.load(SCALE.replace("fma.rn", "fma.nonsense"), "scale", device=0)
    assert "fma" in caught.value.log or "nonsense" in caught.value.log
    with pytest.raises(errors.CudaError, match="CUDA_ERROR_NOT_FOUND"):
        module.load(SCALE, "another", device=0)


def test_refused_launch_names_kernel_and_error():
    launcher = scale_launcher()
    x = device_array(np.ones(10, np.float32))
    kernel = launcher[1](x, x, 10, 0, 1.0)
    kernel.threads = 64
    fresh = Launcher("wrong", launcher.parameters, {"num_warps": 4}, lambda _: kernel)
    for _ in range(4):
        with pytest.raises(errors.CudaError, match=r"launching wrong .* 64 threads failed"):
            fresh[1](x, x, 10, 0, 1.0)
    kernel.threads = 128


def test_event_times():
    """They are milliseconds, and span what is timed. Others may work on the GPU meanwhile."""
    n, launches = 1 << 24, 20
    x, y = device_array(np.ones(n, np.float32)), empty(n, np.float32)
    launcher = scale_launcher()

    def run():
        for _ in range(launches):
            launcher[n // 128](x, y, n, 0, 1.0)

    run()
    cuda.synchronize()
    start = time.perf_counter()
    times = timing.time_runs(run, 10)
    elapsed = 1000 * (time.perf_counter() - start)
    assert len(times) == 10
    # No memory moves 100 TB/s.
    assert min(times) > 1000 * launches * (x.nbytes + y.nbytes) / 1e14
    # The runs follow each other; two clocks may differ a little.
    assert sum(times) < 1.01 * elapsed + 0.1


def test_illegal_access_is_explained():
    # In a process of its own, whose context it ruins.
    program = """
import numpy as np
from blocklang.runtime import device_array, errors
from test_runtime_gpu import scale_launcher
x = device_array(np.ones(16, np.float32))
class Wild:
    __cuda_array_interface__ = dict(
        version=3, shape=(16,), typestr="<f4", data=(64, False), strides=None, stream=None)
    class device:
        id = 0
try:
    scale_launcher()[1](x, Wild(), 16, 0, 1.0)
    x.to_host()
except errors.CudaError as error:
    print(error)
"""
    folder = str(Path(__file__).parent)
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": folder + os.pathsep + os.environ.get("PYTHONPATH", "")},
    )
    assert "CUDA_ERROR_ILLEGAL_ADDRESS" in run.stdout, run.stdout + run.stderr
    assert "check masks and strides" in run.stdout
