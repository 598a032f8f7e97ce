"""The autotuner on the CPU: which configuration is chosen, when, and what happens around it."""

import threading

import numpy as np
import pytest

import blocklang
import blocklang.language as bl
from blocklang import Config
from blocklang.errors import ChosenTwice, NoConfigWorks, NothingLeft, UnknownParameter
from blocklang.ir.diagnostics import CompileError
from blocklang.options import DEFAULTS
from blocklang.runtime.errors import (
    ArgumentTypeError,
    GridError,
    MissingArgumentError,
    UnexpectedArgumentError,
)
from blocklang.tuning import session
from blocklang.tuning.trial import Launch
from tests.unit.tuning_samples import Measure, blocks, increment, programs, repeat, zeros


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BLOCKLANG_CACHE_DIR", str(tmp_path / "cache"))


def tuned(kernel=increment, configs=None, key=("n",), **settings):
    """A tuner whose choice is the last configuration that works, unless told otherwise."""
    settings.setdefault("do_bench", Measure())
    return blocklang.autotune(configs or blocks(32, 64, 128), key, **settings)(kernel)


def test_the_fastest_is_chosen_and_launched():
    configs = [Config({"TIMES": times}) for times in (20000, 3, 10000)]
    kernel = tuned(repeat, configs, do_bench=None, restore_value=["x"], warmup=0, rep=1)
    x = np.full(1000, 2, np.float32)
    launched = kernel[(1,)](x, 1000)
    assert kernel.best_config is configs[1]
    assert launched.constants == {"TIMES": 3}
    expected = np.float32(2)
    for _ in range(3):
        expected = np.sqrt(expected + np.float32(1.5))
    np.testing.assert_allclose(x, expected, rtol=1e-6)
    times = [trial.milliseconds for trial in kernel.trials]
    assert min(times) == times[1] > 0


def test_each_key_is_tuned_once():
    kernel = tuned()
    measure = kernel.settings.do_bench

    def runs_for(*arguments, **keywords):
        before = measure.runs
        kernel[programs](*arguments, **keywords)
        return measure.runs - before

    x = zeros(100)
    assert runs_for(x, 100) == 3
    assert runs_for(zeros(100), 100) == 0
    assert runs_for(n=100, x=x) == 0
    assert runs_for(x, 99) == 3
    assert runs_for(x, True) == 3
    assert runs_for(zeros(100, np.float64), 100) == 3
    assert runs_for(x, 99) == 0
    assert len(kernel.cache) == 4


def test_without_a_key_one_choice_serves_all_sizes():
    kernel = tuned(key=[])
    for n in (100, 10, 64):
        x = zeros(100)
        kernel[programs](x, n)
        assert kernel.settings.do_bench.runs == 3
    np.testing.assert_array_equal(x[:64], x[0])


def test_the_grid_sees_the_configuration_and_the_defaults_of_options():
    seen = []

    def grid(meta):
        seen.append((meta["BLOCK"], meta["num_warps"], meta["n"]))
        return programs(meta)

    kernel = tuned(configs=[Config({"BLOCK": 32}, num_warps=8), Config({"BLOCK": 64})])
    kernel[grid](zeros(), 100)
    assert {(32, 8, 100), (64, 4, 100)} == set(seen)
    assert seen[-1] == (64, 4, 100)


def test_options_of_the_best_configuration_are_launched_with():
    kernel = tuned(configs=[Config({"BLOCK": 32}, num_warps=w, fp_fusion=False) for w in (2, 8)])
    options = kernel[programs](zeros(), 100).options
    assert (options.num_warps, options.fp_fusion, options.num_stages) == (8, False, 3)


def test_a_single_configuration_is_not_measured():
    kernel = tuned(configs=blocks(32))
    x = zeros()
    kernel[programs](x, 100)
    assert kernel.settings.do_bench.runs == 0
    np.testing.assert_array_equal(x, 1)


def test_no_configurations_are_the_defaults():
    kernel = blocklang.autotune([], key=[])(
        blocklang.heuristics({"BLOCK": lambda _: 32})(increment)
    )
    x = zeros()
    kernel[(4,)](x, 100)
    np.testing.assert_array_equal(x, 1)
    assert kernel.best_config.kwargs == {}


@pytest.mark.parametrize(("restore", "expected"), [(["x"], 6), (None, 6 + 4)])
def test_restore_value(restore, expected):
    """Two configurations run twice each while they are measured."""

    def twice(run, quantiles):
        run()
        return [1.0] * len(quantiles)

    kernel = tuned(configs=blocks(32, 64), restore_value=restore, do_bench=twice)
    x = np.full(100, 5, np.float32)
    kernel[programs](x, 100)
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize(("reset", "expected"), [(["x"], 1), (None, 10)])
def test_reset_to_zero(reset, expected):
    def twice(run, quantiles):
        run()
        return [1.0] * len(quantiles)

    kernel = tuned(configs=blocks(32, 64), reset_to_zero=reset, do_bench=twice)
    x = np.full(100, 5, np.float32)
    kernel[programs](x, 100)
    np.testing.assert_array_equal(x, expected)
    kernel[programs](x, 100)
    np.testing.assert_array_equal(x, expected + 1)


def test_every_measured_run_finds_the_same_contents():
    found = []
    kernel = tuned(
        restore_value=["x"],
        pre_hook=lambda arguments, reset_only: found.append(float(arguments["x"][7])),
        do_bench=None,
        warmup=0,
        rep=0.5,
    )
    kernel[programs](np.full(100, 5, np.float32), 100)
    assert len(found) >= 3 * 2 + 1
    assert set(found) == {5.0}


def test_strided_arrays_are_restored_without_their_neighbours():
    kernel = tuned(configs=blocks(32, 64), reset_to_zero=["x"])
    memory = np.full((100, 2), 5, np.float32)
    kernel[(0,)](memory[:, 0], 100)
    np.testing.assert_array_equal(memory[:, 0], 0)
    np.testing.assert_array_equal(memory[:, 1], 5)


def test_hooks():
    events = []
    kernel = tuned(
        configs=[
            Config({"BLOCK": b}, pre_hook=lambda a: events.append(("config", a["BLOCK"])))
            for b in (32, 64)
        ],
        pre_hook=lambda a, reset_only: events.append(("pre", a.get("BLOCK"), reset_only)),
        post_hook=lambda a, exception: events.append(("post", a["num_warps"], exception)),
    )
    x = zeros()
    kernel[programs](x, 100)
    once = [("config", 32), ("pre", 32, False), ("post", 4, None)]
    other = [("config", 64), ("pre", 64, False), ("post", 4, None)]
    assert events == once * 2 + other * 2 + [("pre", None, True), ("config", 64)]
    del events[:]
    kernel[programs](x, 100)
    assert events == [("config", 64)]


def test_post_hook_sees_the_exception():
    seen = []
    kernel = tuned(post_hook=lambda arguments, exception: seen.append(exception))
    with pytest.raises(GridError):
        kernel[(1, 2, 3, 4)](zeros(), 100)
    assert [type(each) for each in seen] == [GridError] * 3


def test_early_pruning():
    given = []

    def prune(configs, arguments, **keywords):
        given.append((len(configs), arguments["n"], keywords))
        return [c for c in configs if c.kwargs["BLOCK"] <= arguments["n"] and c.num_warps == 4]

    kernel = tuned(
        configs=[*blocks(32, 64, 128), Config({"BLOCK": 16}, num_warps=8)],
        prune_configs_by={"early_config_prune": prune},
    )
    x = zeros()
    kernel[programs](x, n=100)
    assert given == [(4, 100, {"n": 100})]
    assert [trial.config.kwargs["BLOCK"] for trial in kernel.trials] == [32, 64]
    with pytest.raises(NothingLeft):
        kernel[programs](x, n=10)


@pytest.mark.parametrize(
    ("top_k", "tried", "chosen"),
    [(2, [128, 16], 16), (0.5, [128, 16], 16), (9, [32, 128, 64, 16], 16), (1, [], 16)],
)
def test_the_best_by_a_model_are_tried(top_k, tried, chosen):
    def model(n, BLOCK, num_warps, **others):
        assert (n, num_warps, others["num_stages"]) == (100, 4, 3)
        return {32: 3.0, 128: 2.0, 64: 4.0, 16: 1.0}[BLOCK]

    kernel = tuned(
        configs=blocks(32, 128, 64, 16), prune_configs_by={"perf_model": model, "top_k": top_k}
    )
    kernel[programs](zeros(), 100)
    # A single one is not tried.
    assert [trial.config.kwargs["BLOCK"] for trial in kernel.trials] == tried
    assert kernel.best_config.kwargs["BLOCK"] == chosen


@pytest.mark.parametrize("top_k", [0, -1, 1.5, 0.0, "all", True])
def test_bad_top_k(top_k):
    with pytest.raises(CompileError, match="top_k="):
        blocklang.autotune([], [], {"perf_model": len, "top_k": top_k})


def test_configurations_that_fail_are_left_out_with_the_reason(capsys):
    kernel = tuned(configs=blocks(32, -1, 64, 0), verbose=True)
    x = zeros()
    kernel[programs](x, 100)
    assert kernel.best_config.kwargs == {"BLOCK": 64}
    assert [trial.problem is None for trial in kernel.trials] == [True, False, True, False]
    printed = capsys.readouterr().err.splitlines()
    assert printed[0] == "autotuning of increment for n=100"
    assert printed[1].split() == ["configuration", "time"]
    assert [line.split() for line in printed[3:5]] == [
        ["BLOCK=64", "500.00", "us", "best"],
        ["BLOCK=32", "1.000", "ms"],
    ]
    assert "BLOCK=-1" in printed[5]
    assert "BL406: arange(0, -1): the end must be above the start" in printed[5]
    assert "BLOCK=0" in printed[6]


def test_a_grid_that_is_wrong_for_one_configuration_leaves_that_out():
    kernel = tuned()
    x = zeros()
    kernel[lambda meta: programs(meta) if meta["BLOCK"] == 32 else (-1,)](x, 100)
    assert kernel.best_config.kwargs == {"BLOCK": 32}
    assert [trial.reason.split(":")[0] for trial in kernel.trials] == ["", "BL510", "BL510"]


def test_when_all_fail_for_one_reason_that_is_the_error():
    @blocklang.jit
    def wrong(x, n, BLOCK: bl.constexpr):
        bl.store(x + bl.arange(0, BLOCK), undefined)  # noqa: F821

    with pytest.raises(CompileError, match="undefined") as caught:
        tuned(wrong)[programs](zeros(), 100)
    assert not isinstance(caught.value, NoConfigWorks)
    assert caught.value.location is not None


def test_when_all_fail_each_reason_is_told():
    kernel = tuned(configs=blocks(0, -1))
    for attempt in (lambda: kernel[programs](zeros(), 100), lambda: kernel.warmup(zeros(), 100)):
        with pytest.raises(NoConfigWorks) as caught:
            attempt()
        assert "BLOCK=0: BL406: arange(0, 0)" in str(caught.value)
        assert "BLOCK=-1: BL406: arange(0, -1)" in str(caught.value)
    assert kernel.cache == {}


@pytest.mark.parametrize(
    ("arguments", "keywords", "error"),
    [
        ((), {}, MissingArgumentError),
        ((zeros(),), {}, MissingArgumentError),
        ((zeros(), 100), {"m": 3}, UnexpectedArgumentError),
        ((zeros(), "text"), {}, ArgumentTypeError),
        ((zeros(), 100, 32), {}, ChosenTwice),
        ((zeros(), 100), {"BLOCK": 32}, ChosenTwice),
    ],
)
def test_mistakes_of_the_launch_are_told_as_without_tuning(arguments, keywords, error):
    with pytest.raises(error):
        tuned()[(1,)](*arguments, **keywords)


def test_an_option_that_no_configuration_sets_may_be_given():
    kernel = tuned()
    assert kernel[programs](zeros(), 100, num_warps=2).options.num_warps == 2
    with pytest.raises(ChosenTwice):
        tuned(configs=[Config({"BLOCK": 32}, num_warps=4)])[(1,)](zeros(), 100, num_warps=2)


@pytest.mark.parametrize("option", ["reset_to_zero", "restore_value"])
def test_unknown_names_are_told(option):
    with pytest.raises(UnknownParameter, match="'y'"):
        tuned(**{option: ["y"]})[(1,)](zeros(), 100)


@pytest.mark.parametrize("option", ["reset_to_zero", "restore_value"])
def test_what_is_read_only_cannot_be_reset(option):
    @blocklang.jit
    def read(x, y, BLOCK: bl.constexpr):
        bl.store(y, bl.sum(bl.load(x + bl.arange(0, BLOCK))))

    x = zeros()
    x.flags.writeable = False
    kernel = tuned(read, key=[], **{option: ["x"]})
    with pytest.raises(CompileError, match=f"{option} names 'x' of read, which is a read-only"):
        kernel[(1,)](x, zeros(1))


def test_configurations_are_compiled_at_the_same_time(monkeypatch):
    together = threading.Barrier(2, timeout=30)
    compile_one = Launch.compile

    def meet(launch, config):
        together.wait()
        return compile_one(launch, config)

    monkeypatch.setattr(Launch, "compile", meet)
    monkeypatch.setattr(session.os, "cpu_count", lambda: 2)
    tuned(configs=blocks(32, 64))[programs](zeros(), 100)


def test_threads_tune_once():
    kernel = tuned()
    arrays = [zeros() for _ in range(4)]
    threads = [threading.Thread(target=kernel[programs], args=(x, 100)) for x in arrays]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kernel.settings.do_bench.runs == 3
    # The one that tuned has run more often.
    assert sorted(float(x[0]) for x in arrays)[:3] == [1, 1, 1]


def test_warmup_compiles_all_and_runs_none():
    kernel = tuned()
    x = zeros()
    compiled = kernel.warmup(x, 100, grid=programs)
    assert [each.constants["BLOCK"] for each in compiled] == [32, 64, 128]
    assert kernel.settings.do_bench.runs == 0
    np.testing.assert_array_equal(x, 0)
    # A launch finds them compiled.
    assert kernel[programs](x, 100) is compiled[2]


def test_compile_ahead_of_time():
    kernel = tuned()
    compiled = kernel.compile({"x": "*fp32", "n": "i32"}, {"BLOCK": 64}, "sm_80", num_warps=2)
    assert compiled.options.num_warps == 2
    assert "ptx" in compiled.asm
    with pytest.raises(CompileError, match="'BLOCK' of increment has no value"):
        kernel.compile({"x": "*fp32", "n": "i32"})


def test_tuned_functions_can_be_called_by_kernels():
    @blocklang.jit
    def caller(x, n):
        inner(x, n, BLOCK=128)

    inner = tuned()
    x = zeros()
    caller[(1,)](x, 100)
    np.testing.assert_array_equal(x, 1)


def test_the_decorated_kernel_looks_like_the_kernel():
    kernel = tuned()
    assert (kernel.__name__, kernel.__module__) == (increment.__name__, increment.__module__)
    assert [p.name for p in kernel.parameters] == ["x", "n", "BLOCK"]
    assert repr(kernel) == "<autotune of <kernel increment>>"
    with pytest.raises(TypeError, match="launch it with"):
        kernel(zeros(), 100)


def test_printing_follows_the_environment(monkeypatch, capsys):
    tuned()[programs](zeros(), 100)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("BLOCKLANG_PRINT_AUTOTUNING", "1")
    tuned()[programs](zeros(), 100)
    assert "autotuning of increment for n=100" in capsys.readouterr().err
    tuned(verbose=False)[programs](zeros(), 100)
    assert capsys.readouterr().err == ""


def test_config():
    config = Config({"BLOCK": 64}, num_warps=8)
    assert (config.kwargs, config.num_warps, config.num_stages) == ({"BLOCK": 64}, 8, 3)
    assert str(config) == "BLOCK=64, num_warps=8"
    assert str(Config({})) == "defaults"
    assert config.all_kwargs() == {**DEFAULTS, "BLOCK": 64, "num_warps": 8}
    assert config == Config({"BLOCK": 64}, num_warps=8, num_stages=3)
    assert len({config, Config({"BLOCK": 64}, num_warps=8)}) == 1
    pair = Config({"BLOCK": 64}, num_warps=8, num_ctas=2)
    assert (pair.num_ctas, config.num_ctas) == (2, 1)
    assert str(pair) == "BLOCK=64, num_warps=8, num_ctas=2"
    assert config != pair
    assert config != Config({"BLOCK": 64})
    assert config != "BLOCK=64, num_warps=8"
    with pytest.raises(AttributeError, match="no attribute 'BLOCK'"):
        config.BLOCK  # noqa: B018
    with pytest.raises(CompileError, match="num_warps is 3"):
        Config({}, num_warps=3)


@pytest.mark.parametrize("option", DEFAULTS)
def test_every_option_of_the_compiler_is_one_of_configurations(option):
    kernel = tuned(configs=[Config({"BLOCK": b}, **{option: DEFAULTS[option]}) for b in (32, 64)])
    compiled = kernel[programs](zeros(), 100)
    assert getattr(compiled.options, option) == getattr(kernel.best_config, option)
