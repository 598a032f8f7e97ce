"""`blocklang.testing` on the CPU: measuring, reports, comparison."""

import csv
import subprocess
import sys
import time
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

import blocklang
from blocklang import testing
from blocklang.runtime.arrays import HOST
from blocklang.runtime.errors import NoDriverError, StreamError
from blocklang.runtime.memory import DeviceArray
from blocklang.testing import measure
from tests.unit.sample_gpu import NoLibrary, sample_machine

MODES = {"mean": 3.0, "median": 2.0, "min": 1.0, "max": 6.0, "all": [1.0, 2.0, 6.0]}


@pytest.fixture
def three_samples(monkeypatch):
    monkeypatch.setattr(measure, "samples", lambda *_, **__: [1.0, 2.0, 6.0])


def test_do_bench_measures_milliseconds():
    calls = []

    def sleep():
        calls.append(time.perf_counter())
        time.sleep(0.002)

    found = testing.do_bench(sleep, warmup=10, rep=40, return_mode="all", device=HOST)
    assert all(time >= 2 for time in found)
    assert 1 <= len(found) <= 20
    # One to begin with, up to five to estimate, up to five to warm up.
    assert len(found) + 1 <= len(calls) <= len(found) + 11


@pytest.mark.parametrize(("mode", "expected"), MODES.items())
def test_return_modes(three_samples, mode, expected):
    assert testing.do_bench(lambda: None, return_mode=mode, device=HOST) == expected


def test_quantiles(three_samples):
    def bench(*quantiles):
        return testing.do_bench(lambda: None, quantiles=quantiles, device=HOST)

    assert bench(0.5) == 2
    assert bench(0.5, 0.0, 1.0) == [2, 1, 6]
    assert bench(0.75) == 4


def test_an_unknown_return_mode_is_told_before_anything_runs():
    with pytest.raises(ValueError, match="expected mean, median, min, max, all"):
        testing.do_bench(lambda: pytest.fail("was run"), return_mode="average")


def test_a_slow_function_runs_twice():
    calls = []

    def slow():
        calls.append(1)
        time.sleep(0.02)

    found = testing.do_bench(slow, warmup=1, rep=2, return_mode="all", device=HOST)
    assert len(calls) == 2
    assert len(found) == 1


def test_gradients_are_forgotten_before_each_run():
    tensor = SimpleNamespace(grad=None)
    seen = []

    def run():
        seen.append(tensor.grad)
        tensor.grad = 1

    testing.do_bench(run, warmup=0.1, rep=0.5, grad_to_none=[tensor], device=HOST)
    assert set(seen) == {None}
    assert len(seen) > 2


def test_the_place_is_that_of_what_is_returned(monkeypatch):
    places = []
    monkeypatch.setattr(
        measure, "samples", lambda run, place, *_, **__: places.append(place) or [1.0]
    )
    monkeypatch.setattr(measure.cuda, "available", lambda: True)
    monkeypatch.setattr(measure.cuda, "current_device", lambda: 3)
    on_gpu = object.__new__(DeviceArray)
    on_gpu.dtype, on_gpu._device, on_gpu._address = np.dtype("f4"), 5, 16
    for result in (np.zeros(3), SimpleNamespace(device=HOST), SimpleNamespace(device=2), on_gpu):
        testing.do_bench(lambda result=result: result)
    for result in (None, 7, "text"):
        testing.do_bench(lambda result=result: result)
    testing.do_bench(lambda: None, device=1)
    assert places == [HOST, HOST, 2, 5, 3, 3, 3, 1]


def test_graphs_need_a_gpu():
    with sample_machine(NoLibrary()), pytest.raises(NoDriverError, match="no NVIDIA driver"):
        testing.do_bench_cudagraph(lambda stream: None)


def test_graphs_need_a_stream():
    with (
        sample_machine(NoLibrary()),
        pytest.raises(StreamError, match="give it a parameter stream"),
    ):
        testing.do_bench_cudagraph(lambda: None)


def benchmark(**changes):
    return testing.Benchmark(
        **{
            "x_names": ["rows", "columns"],
            "x_vals": [8, (16, 4)],
            "line_arg": "provider",
            "line_vals": ["ours", "theirs"],
            "line_names": ["blocklang", "NumPy"],
            "plot_name": "sample",
            "args": {"scale": 10},
            "ylabel": "GB/s",
            **changes,
        }
    )


def rate(rows, columns, provider, scale, offset=0):
    value = rows * columns * scale + offset + (0.25 if provider == "theirs" else 0)
    return value if provider == "theirs" else (value, value - 1, value + 1)


def test_reports_are_tables():
    table = testing.perf_report(benchmark())(rate).run(return_df=True, offset=3)
    assert table.dtype.names == ("rows", "columns", "blocklang", "NumPy")
    assert table.tolist() == [(8, 8, 643.0, 643.25), (16, 4, 643.0, 643.25)]


def test_several_benchmarks_give_several_tables():
    report = testing.perf_report([benchmark(), benchmark(x_vals=[1])])(rate)
    assert [len(table) for table in report.run(return_df=True)] == [2, 1]
    assert report.run() is None


def test_values_that_are_no_numbers_and_measures_that_are_missing():
    report = testing.perf_report(benchmark(x_names=["dtype"], x_vals=["f16", "f32"], args={}))
    table = report(lambda dtype, provider: 2 if dtype == "f16" else None).run(return_df=True)
    assert table["dtype"].tolist() == ["f16", "f32"]
    np.testing.assert_array_equal(table["NumPy"], [2, np.nan])


def test_reports_are_printed(capsys):
    testing.perf_report(benchmark())(rate).run(print_data=True)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["sample", "(GB/s):"]
    assert lines[1] == ["rows", "columns", "blocklang", "NumPy"]
    assert lines[3:] == [["8", "8", "640", "640.25"], ["16", "4", "640", "640.25"]]


def test_reports_are_saved(tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    folder = tmp_path / "new" / "folder"
    style = {"styles": [("blue", "-"), ("green", "--")], "x_log": True, "y_log": True}
    testing.perf_report(benchmark(**style))(rate).run(save_path=folder, save_precision=2)
    with (folder / "sample.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["rows", "columns", "blocklang", "NumPy"],
            ["8", "8", "640.00", "640.25"],
            ["16", "4", "640.00", "640.25"],
        ]
    assert (folder / "sample.png").read_bytes().startswith(b"\x89PNG")


def test_plots_have_the_lines_and_their_ranges(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    report = testing.perf_report(benchmark(x_log=True, xlabel="rows"))(rate)
    figure = report._measure(report.benchmarks[0], {}).figure()
    (axes,) = figure.axes
    assert [line.get_label() for line in axes.lines] == ["blocklang", "NumPy"]
    assert axes.lines[0].get_xydata().tolist() == [[8, 640], [16, 640]]
    assert len(axes.collections) == 1
    assert (axes.get_xscale(), axes.get_yscale(), axes.get_xlabel()) == ("log", "linear", "rows")
    sys.modules["matplotlib.pyplot"].close(figure)


def test_plots_are_shown(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    from matplotlib import pyplot

    shown = []
    monkeypatch.setattr(pyplot, "show", lambda: shown.append(pyplot.get_fignums()))
    testing.perf_report(benchmark())(rate).run(show_plots=True)
    assert len(shown) == len(shown[0]) == 1
    assert pyplot.get_fignums() == []


def test_without_matplotlib_plots_say_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        testing.perf_report(benchmark())(rate).run(save_path=tmp_path)
    assert (tmp_path / "sample.csv").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"line_names": ["one"]}, "2 line_vals, but 1 line_names"),
        ({"x_vals": [(1, 2, 3)]}, "has 3 values; expected one for each of x_names: rows, columns"),
    ],
)
def test_benchmarks_that_do_not_fit_together(changes, message):
    with pytest.raises(ValueError, match=message):
        benchmark(**changes)


class Tensor:
    """What torch's tensors have that `assert_close` asks for."""

    def __init__(self, array, size=4):
        self.array, self.size, self.dtype = array, size, "torch.sample"

    def detach(self):
        return Tensor(self.array, self.size)

    cpu = detach

    def is_floating_point(self):
        return True

    def element_size(self):
        return self.size

    def float(self):
        return Tensor(self.array.astype(np.float32))

    def numpy(self):
        assert self.size >= 4, "torch cannot convert bfloat16"
        return self.array


class GpuArray:
    """What CuPy's arrays have that `assert_close` asks for; NumPy cannot read it."""

    __cuda_array_interface__ = None

    def __init__(self, array):
        self.get = lambda: array


def test_equal_arrays_of_all_kinds():
    x = np.array([1, 2.5, -np.inf, np.nan], np.float32)
    for y in (
        x,
        x.tolist(),
        x.astype(np.float16),
        x.astype(ml_dtypes.bfloat16),
        Tensor(x),
        GpuArray(x),
        Tensor(x.astype(ml_dtypes.bfloat16), 2),
    ):
        testing.assert_close(x, y, atol=0, rtol=0)
        testing.assert_close(y, x, atol=0, rtol=0)
    testing.assert_close(np.arange(3), np.arange(3))
    testing.assert_close(2.0, 2)
    testing.assert_close(np.full((2, 2), 2), 2)


@pytest.mark.parametrize(
    ("x", "y", "tolerances", "message"),
    [
        ([1.0, 2.0], [1.0, 2.1], {}, "Mismatched elements: 1 / 2"),
        ([1.0, 2.0], [1.0, 2.1], {"atol": 0.05}, "Max absolute difference"),
        ([1.0, 200.0], [1.0, 202.0], {"rtol": 0.005}, "Mismatched elements: 1 / 2"),
        ([1.0], [float("nan")], {}, "nan location mismatch"),
        ([1.0, 2.0], [1.0, 2.0, 3.0], {}, r"shapes differ: \(2,\) and \(3,\)"),
        ([1.0, 2.0], [[1.0], [2.0]], {}, r"shapes differ: \(2,\) and \(2, 1\)"),
        (np.float16([1]), np.float16([2]), {"err_msg": "of the sample"}, "of the sample"),
    ],
)
def test_differences_are_told(x, y, tolerances, message):
    with pytest.raises(AssertionError, match=message):
        testing.assert_close(np.asarray(x), np.asarray(y), **tolerances)


def test_tolerances():
    testing.assert_close([1.0, 2.0], [1.0, 2.009])
    testing.assert_close([1.0, 200.0], [1.0, 200.9], rtol=0.005)
    x, y = np.float16([1, 2]), np.float16([1, 2.1])
    testing.assert_close(x, y, atol=lambda dtype: {np.dtype(np.float16): 0.2}[dtype])
    with pytest.raises(AssertionError):
        testing.assert_close(x, y, rtol=lambda dtype: 1e-4)


def test_importing_loads_no_plotting_and_no_gpu_library():
    program = "import blocklang.testing, sys; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert not {"matplotlib", "rich", "torch", "cuda", "llvmlite"} & set(run.stdout.split())
    assert blocklang.testing is testing
