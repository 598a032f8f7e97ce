"""The GPU's side of tuning and measuring, on a driver that keeps a clock instead of a GPU."""

from types import SimpleNamespace

import numpy as np
import pytest

import blocklang
from blocklang import Config, testing
from blocklang.runtime import cuda, device_array, fast, native, timing
from blocklang.runtime.errors import CudaError
from tests.unit.sample_gpu import SampleGpu, Status, sample_machine
from tests.unit.tuning_samples import increment, programs

FLUSH, RESET = 1.0, 0.5
# Of configurations with 4, 1 and 2 warps.
TIMES = pytest.approx([1.28, 0.32, 0.64])


class ClockGpu(SampleGpu):
    """Work takes milliseconds of `now`: a launch what `cost(threads)` says (None: it is refused,
    with the error `refusal`), a memset FLUSH or RESET. `work` lists it by stream; what is captured
    is done when its graph is launched.
    """

    CUevent_flags = SimpleNamespace(CU_EVENT_DEFAULT=0)
    CUstream_flags = SimpleNamespace(CU_STREAM_DEFAULT=0)
    CUstreamCaptureMode = SimpleNamespace(CU_STREAM_CAPTURE_MODE_RELAXED=2)

    def __init__(
        self,
        cost=lambda threads: threads / 100,
        refusal="CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
        **others,
    ):
        super().__init__(**others)
        self.cost, self.refusal, self.now = cost, refusal, 0.0
        self.work, self.events, self.freed, self.addresses = [], {}, [], 1 << 20
        self.streams, self.capturing, self.graphs, self.waits = [], {}, {}, []

    def _handle(self):
        self.addresses += 1 << 30
        return self.addresses

    def _do(self, stream, kind, milliseconds):
        if stream in self.capturing:
            self.capturing[stream].append((kind, milliseconds))
            return
        self.now += milliseconds
        self.work.append((stream, kind))

    def cuCtxSynchronize(self):
        self.waits.append(len(self.work))
        return super().cuCtxSynchronize()

    def cuMemAlloc(self, size):
        return Status.CUDA_SUCCESS, self._handle()

    def cuLaunchKernel(self, function, *arguments):
        threads, stream = arguments[3], arguments[7]
        self.refused = {"cuLaunchKernel": self.refusal} if self.cost(threads) is None else {}
        if not self.refused:
            self._do(stream, f"{threads} threads", self.cost(threads))
        return super().cuLaunchKernel(function, *arguments)

    def cuMemsetD8Async(self, address, value, size, stream):
        assert value == 0
        large = size >= 1 << 28
        self._do(stream, "flush" if large else "zero", FLUSH if large else RESET)
        return (Status.CUDA_SUCCESS,)

    def cuMemcpyDtoDAsync(self, to, source, size, stream):
        self._do(stream, "copy", RESET)
        return (Status.CUDA_SUCCESS,)

    def cuEventCreate(self, flags):
        return Status.CUDA_SUCCESS, self._handle()

    def cuEventRecord(self, event, stream):
        self.events[event] = self.now
        return (Status.CUDA_SUCCESS,)

    def cuEventElapsedTime(self, start, end):
        return Status.CUDA_SUCCESS, self.events[end] - self.events[start]

    def cuEventDestroy(self, event):
        self.freed.append(event)
        return (Status.CUDA_SUCCESS,)

    def cuStreamCreate(self, flags):
        self.streams.append(self._handle())
        return Status.CUDA_SUCCESS, self.streams[-1]

    def cuStreamDestroy(self, stream):
        self.freed.append(stream)
        return (Status.CUDA_SUCCESS,)

    def cuStreamBeginCapture(self, stream, mode):
        self.capturing[stream] = []
        return (Status.CUDA_SUCCESS,)

    def cuStreamEndCapture(self, stream):
        graph = self._handle()
        self.graphs[graph] = self.capturing.pop(stream)
        return Status.CUDA_SUCCESS, graph

    def cuGraphInstantiate(self, graph, flags):
        return Status.CUDA_SUCCESS, graph

    def cuGraphLaunch(self, graph, stream):
        for kind, milliseconds in self.graphs[graph]:
            self._do(stream, kind, milliseconds)
        return (Status.CUDA_SUCCESS,)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A function that puts a machine with this GPU in the place of the real one."""
    monkeypatch.setenv("BLOCKLANG_CACHE_DIR", str(tmp_path / "cache"))
    # Launches from native code would pass the clock by.
    monkeypatch.setattr(native, "available", lambda: False)
    fast._environment.cache_clear()
    running = []

    def start(**settings):
        running.append(sample_machine(ClockGpu(**settings)))
        return running[-1].__enter__()

    yield start
    fast._environment.cache_clear()
    for each in running:
        each.__exit__(None, None, None)


def tuned(warps=(4, 1, 2), kernel=increment, **settings):
    configs = [Config({"BLOCK": 128}, num_warps=w) for w in warps]
    settings = {"warmup": 0, "rep": 1, **settings}
    return blocklang.autotune(configs, ["n"], **settings)(fresh(kernel))


def fresh(kernel):
    """The kernel without what earlier machines have loaded."""
    return blocklang.jit(kernel.__wrapped__)


def array():
    return device_array(np.zeros(100, np.float32))


def test_the_fastest_on_the_gpu_is_chosen(machine):
    gpu = machine()
    kernel = tuned()
    x = array()
    compiled = kernel[programs](x, 100)
    assert compiled.device == 0
    assert kernel.best_config.num_warps == 1
    assert [trial.milliseconds for trial in kernel.trials] == TIMES
    assert gpu.work[-1] == (0, "32 threads")
    count = len(gpu.work)
    kernel[programs](x, 100)
    assert len(gpu.work) == count + 1


def test_each_measured_run_finds_a_cold_cache(machine):
    gpu = machine()
    tuned(warps=(1, 2))[programs](array(), 100)
    kinds = [kind for _, kind in gpu.work]
    # Only the first run of each, which loads it, and the launch itself are not measured.
    warm = [i for i in range(len(kinds)) if "threads" in kinds[i] and kinds[i - 1] != "flush"]
    assert len(warm) == 3
    assert len(kinds) >= 7


@pytest.mark.parametrize("option", ["reset_to_zero", "restore_value"])
def test_contents_are_put_back_untimed_and_before_the_flush(machine, option):
    gpu = machine()
    kernel = tuned(**{option: ["x"]})
    kernel[programs](array(), 100)
    assert [trial.milliseconds for trial in kernel.trials] == TIMES
    kind = "zero" if option == "reset_to_zero" else "copy"
    kinds = [kind for _, kind in gpu.work]
    measured = [i for i in range(1, len(kinds)) if kinds[i - 1] == "flush"]
    assert len(measured) >= 3
    assert all(kinds[i - 2] == kind for i in measured)
    assert kinds[-2:] == [kind, "32 threads"]


def test_what_is_too_large_for_the_gpu_is_left_out(machine, capsys):
    machine(cost=lambda threads: None if threads > 64 else 1 / threads)
    kernel = tuned(verbose=True)
    kernel[programs](array(), 100)
    assert kernel.best_config.num_warps == 2
    assert [trial.reason[:5] for trial in kernel.trials] == ["BL512", "", ""]
    printed = capsys.readouterr().err.splitlines()
    assert printed[1].split() == ["configuration", "shared", "bytes", "time"]
    assert printed[3].split() == ["BLOCK=128,", "num_warps=2", "0", "15.62", "us", "best"]
    assert "BLOCK=128, num_warps=4" in printed[5]
    assert "too many resources requested for launch" in printed[5]


def test_when_everything_is_too_large_the_driver_says_so(machine):
    machine(cost=lambda threads: None)
    with pytest.raises(blocklang.CompileError, match="none of the 3 configurations") as caught:
        tuned()[programs](array(), 100)
    assert str(caught.value).count("too many resources requested") == 3


def test_other_errors_of_the_driver_are_not_a_matter_of_one_configuration(machine):
    machine(
        cost=lambda threads: None if threads > 64 else 1, refusal="CUDA_ERROR_NO_BINARY_FOR_GPU"
    )
    with pytest.raises(CudaError, match="no kernel image is available"):
        tuned()[programs](array(), 100)


def test_a_lost_context_is_not_a_matter_of_one_configuration(machine):
    machine(outcome="CUDA_ERROR_ILLEGAL_ADDRESS")
    with pytest.raises(CudaError, match="illegal memory access"):
        tuned()[programs](array(), 100)


def test_a_given_stream_is_that_of_the_launch_alone(machine):
    gpu = machine()
    tuned()[programs](array(), 100, stream=1234)
    *measured, last = gpu.work
    assert {stream for stream, _ in measured} == {0}
    assert last == (1234, "32 threads")


def test_arguments_are_complete_before_they_are_copied_and_after_they_are_put_back(machine):
    gpu = machine()
    x = array()
    del gpu.waits[:]
    tuned(restore_value=["x"])[programs](x, 100, stream=1234)
    assert gpu.work[0] == (0, "copy")
    # All but the launch itself.
    assert (gpu.waits[0], gpu.waits[-1]) == (0, len(gpu.work) - 1)


def test_choices_are_kept_for_the_same_gpu(machine):
    machine()
    first, second = tuned(), tuned()
    first[programs](array(), 100)
    second[programs](array(), 100)
    assert (len(first.trials), second.trials) == (3, [])
    assert second.best_config.num_warps == 1


def test_graphs_repeat_without_pause(machine):
    gpu = machine()
    kernel = tuned(use_cuda_graph=True, rep=100)
    kernel[programs](array(), 100)
    assert [trial.milliseconds for trial in kernel.trials] == TIMES
    (stream, *others) = gpu.streams
    assert len(others) == 2
    on_stream = [kind for where, kind in gpu.work if where == stream]
    # 5 to estimate; then 10 graphs of 7, for 100 ms; before them one to load.
    assert on_stream == ["128 threads"] * (1 + 5 + 10 * 7)
    assert "flush" not in [kind for _, kind in gpu.work]
    assert set(gpu.streams) <= set(gpu.freed)


def test_graphs_with_hooks_hold_one_run(machine):
    gpu = machine()
    kernel = tuned(use_cuda_graph=True, restore_value=["x"], rep=4)
    kernel[programs](array(), 100)
    assert [trial.milliseconds for trial in kernel.trials] == TIMES
    assert max(len(graph) for graph in gpu.graphs.values()) == 1


def test_do_bench_on_the_gpu(machine):
    gpu = machine()
    kernel, x = fresh(increment), array()
    found = testing.do_bench(lambda: kernel[(1,)](x, 100, 32, num_warps=2), 0, 1)
    assert found == pytest.approx(0.64)
    kinds = {kind for _, kind in gpu.work}
    assert kinds == {"flush", "64 threads"}


def test_do_bench_cudagraph(machine):
    gpu = machine()
    kernel, x = fresh(increment), array()
    tensor = SimpleNamespace(grad=1)

    def run(stream):
        assert tensor.grad is None
        tensor.grad = 1
        kernel[(1,)](x, 100, 32, num_warps=2, stream=stream)

    found = testing.do_bench_cudagraph(run, rep=20, grad_to_none=[tensor], return_mode="all")
    assert found == pytest.approx([0.64] * 10)
    assert {stream for stream, _ in gpu.work} == set(gpu.streams)
    assert gpu.streams[0] in gpu.freed


def test_what_cannot_be_captured_ends_the_capture(machine):
    gpu = machine()
    with timing.side_stream(0) as stream:

        def fail(stream):
            raise RuntimeError("a sample")

        with pytest.raises(RuntimeError, match="a sample"):
            timing.Graph(fail, stream)
    assert gpu.capturing == {}


def test_torch_works_on_the_side_stream(machine, monkeypatch):
    machine()
    entered = []

    class Stream:
        def __init__(self, handle, device=None):
            self.handle = handle

        def __enter__(self):
            entered.append(self.handle)

        def __exit__(self, *_):
            entered.append("left")

    libraries = {
        "torch": SimpleNamespace(
            cuda=SimpleNamespace(ExternalStream=Stream, stream=lambda stream: stream)
        ),
        "cupy": SimpleNamespace(cuda=SimpleNamespace(ExternalStream=Stream)),
    }
    for name, library in libraries.items():
        monkeypatch.setitem(timing.sys.modules, name, library)
    with timing.side_stream(0) as stream:
        assert entered == [stream, stream]
    assert entered[2:] == ["left", "left"]


def test_the_flushed_memory_is_larger_than_any_cache(machine, monkeypatch):
    gpu = machine()
    sizes = []
    monkeypatch.setattr(gpu, "cuMemsetD8Async", lambda _, __, size, ___: sizes.append(size) or (0,))
    timing.CacheFlush(0)()
    facts = SimpleNamespace(l2_bytes=1 << 30)
    monkeypatch.setattr(cuda, "device", lambda _: facts)
    timing.CacheFlush(0)()
    assert sizes == [1 << 28, 1 << 32]
