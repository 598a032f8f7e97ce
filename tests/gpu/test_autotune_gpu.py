"""Tuning and measuring on a real GPU."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blocklang
import blocklang.language as bl
from blocklang import Config, testing
from blocklang.runtime import cuda, device_array
from tests.unit.tuning_samples import increment, programs

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLOCKLANG_CACHE_DIR", str(tmp_path / "cache"))


@blocklang.jit
def accumulate(x, n, TIMES: bl.constexpr, BLOCK: bl.constexpr):
    i = bl.program_id(0) * BLOCK + bl.arange(0, BLOCK)
    v = bl.load(x + i, mask=i < n)
    step = v * 0 + 1
    for _ in range(TIMES):
        step = bl.sqrt(step)
    bl.store(x + i, v + step, mask=i < n)


def slow_and_fast(**settings: Any) -> Any:
    """A tuner whose second configuration does a tiny part of the work of the others."""
    configs = [
        Config({"TIMES": times, "BLOCK": 256}, num_warps=warps)
        for times, warps in [(3000, 4), (1, 8), (6000, 1)]
    ]
    settings = {"warmup": 2, "rep": 10, **settings}
    return blocklang.autotune(configs, ["n"], **settings)(blocklang.jit(accumulate.__wrapped__))


@pytest.mark.parametrize("graph", [False, True], ids=["events", "graph"])
@pytest.mark.parametrize("restore", [False, True], ids=["plain", "restored"])
def test_the_fastest_is_chosen(graph: bool, restore: bool) -> None:
    kernel = slow_and_fast(use_cuda_graph=graph, restore_value=["x"] if restore else None)
    n = 1 << 20
    x = device_array(np.full(n, 5, np.float32))
    compiled = kernel[programs](x, n)
    assert kernel.best_config is kernel.configs[1]
    assert compiled.options.num_warps == 8
    slow, fast, slower = (trial.milliseconds for trial in kernel.trials)
    assert 0 < 5 * fast < slow < slower
    found = x.to_host()
    assert (found == 6).all() if restore else (found > 8).all()
    again = slow_and_fast(use_cuda_graph=graph, restore_value=["x"] if restore else None)
    again[programs](x, n)
    assert again.trials == []
    assert again.best_config is again.configs[1]


def test_reset_to_zero() -> None:
    x = device_array(np.full(1000, 5, np.float32))
    slow_and_fast(reset_to_zero=["x"])[programs](x, 1000)
    np.testing.assert_array_equal(x.to_host(), 1)


def test_a_process_that_begins_with_tuning() -> None:
    """The threads that compile configurations are the first to launch anything in it."""
    program = """
from tests.gpu.test_autotune_gpu import device_array, np, programs, slow_and_fast
x = device_array(np.full(1000, 5, np.float32))
kernel = slow_and_fast(reset_to_zero=["x"])
kernel[programs](x, 1000)
print(len(kernel.trials), x.to_host().sum())
"""
    run = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", program],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["3", "1000.0"]


def test_launches_after_tuning_take_the_native_path() -> None:
    kernel = slow_and_fast(restore_value=["x"])
    x = device_array(np.zeros(1000, np.float32))
    for launches in range(1, 6):
        kernel[programs](x, 1000)
        np.testing.assert_array_equal(x.to_host(), launches)


def test_what_the_gpu_cannot_hold_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    @blocklang.jit
    def total(x, y, BLOCK: bl.constexpr):
        bl.store(y, bl.sum(bl.load(x + bl.arange(0, BLOCK))))

    configs = [Config({"BLOCK": 0}), Config({"BLOCK": 256}), Config({"BLOCK": 512})]
    tune = blocklang.autotune(configs, [], warmup=1, rep=2, verbose=True)
    kernel = tune(total)
    kernel[(1,)](device_array(np.ones(512, np.float32)), device_array(np.ones(1, np.float32)))
    assert [bool(trial.reason) for trial in kernel.trials] == [True, False, False]
    printed = capsys.readouterr().err
    assert ("registers" in printed) == ("cubin" in kernel.trials[1].kernel.asm)
    assert "BL406" in printed


def test_a_launch_on_a_stream_of_torch() -> None:
    torch = pytest.importorskip("torch")
    x = torch.zeros(1 << 20, device="cuda")
    stream = torch.cuda.Stream()
    kernel = slow_and_fast(restore_value=["x"], use_cuda_graph=True)
    with torch.cuda.stream(stream):
        x += 4
        kernel[programs](x, 1 << 20)
        assert (x == 5).all()
    other = slow_and_fast(reset_to_zero=["x"])
    other[programs](x, 1 << 20, stream=stream)
    stream.synchronize()
    assert (x == 1).all()


def measured_rate(bench: Any) -> float:
    """The rate of a large copy in GB/s, which no way of measuring can get far wrong."""
    n = 1 << 27
    x = device_array(np.zeros(n, np.float32))
    milliseconds = bench(lambda stream=None: increment[programs](x, n, BLOCK=1024, stream=stream))
    return 2 * x.nbytes / milliseconds / 1e6


def soon(holds: Callable[[], bool]) -> bool:
    """Whether something that is measured holds at some time: others may use the GPU."""
    return any(holds() for _ in range(20))


def test_do_bench_agrees_with_graphs() -> None:
    def agree() -> bool:
        events = measured_rate(lambda run: testing.do_bench(run, return_mode="median"))
        graph = measured_rate(lambda run: testing.do_bench_cudagraph(run, return_mode="median"))
        # A pause before each run lets memory be somewhat faster than it is without.
        return 0.6 < events / graph < 1.6

    assert soon(agree)


def test_do_bench_flushes_the_cache() -> None:
    """An array that fits the second-level cache is read faster from there."""
    n = min(cuda.device(0).l2_bytes // 4, 32 << 20) // 4
    x = device_array(np.zeros(n, np.float32))

    def run(stream: Any = None) -> Any:
        return increment[programs](x, n, BLOCK=1024, stream=stream)

    def is_faster() -> bool:
        cold = testing.do_bench(run, return_mode="median")
        # By twice and more, where nobody else uses the GPU.
        return testing.do_bench_cudagraph(run, return_mode="median") < 0.8 * cold

    assert soon(is_faster)


def test_what_no_graph_can_hold_is_an_error() -> None:
    with pytest.raises(blocklang.LaunchError):
        testing.do_bench_cudagraph(lambda stream: cuda.synchronize(stream))


def test_torch_functions_are_measured() -> None:
    torch = pytest.importorskip("torch")
    x = torch.randn(1 << 24, device="cuda", requires_grad=True)
    forward = testing.do_bench(lambda: x.detach() * 2, return_mode="median")
    graph = testing.do_bench_cudagraph(lambda: x.detach() * 2, return_mode="median")
    assert 0.3 < forward / graph < 3
    y = (x * 2).sum()
    testing.do_bench(lambda: y.backward(retain_graph=True), rep=5, grad_to_none=[x])
    testing.assert_close(x.grad, torch.full_like(x, 2))
    testing.assert_close(x.detach().bfloat16(), device_array(x.detach().cpu().numpy()), atol=0.05)
