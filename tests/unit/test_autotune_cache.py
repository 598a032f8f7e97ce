"""What the autotuner keeps on disk: everything that the choice depends on is part of the key."""

import importlib.util
import json
import sys

import numpy as np
import pytest

import blocklang
from blocklang import Config, cache
from blocklang import compile as pipeline
from blocklang.codegen import llvm
from blocklang.codegen.cpu import host
from blocklang.tuning import session
from tests.unit.tuning_samples import blocks, increment, programs, zeros

SOURCE = """
import blocklang
import blocklang.language as bl

FACTOR = bl.constexpr(2)

@blocklang.jit
def helper(v):
    return v * FACTOR

@blocklang.jit
def kernel(x, n, m, BLOCK: bl.constexpr, WIDE: bl.constexpr = False):
    i = bl.program_id(0) * BLOCK + bl.arange(0, BLOCK)
    if WIDE:
        bl.store(x + i, 0)
    bl.store(x + i, helper(bl.load(x + i, mask=i < n)), mask=i < n)
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BLOCKLANG_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """A function that tunes as a new process would, and says whether anything was measured."""
    # Python takes old bytecode for a file of the same size that was written in the same second.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def measured(
        source=SOURCE, configs=None, key=("n",), n=100, x=None, more=(48,), options=None, **settings
    ):
        path = tmp_path / "kernels.py"
        path.write_text(source)
        specification = importlib.util.spec_from_file_location("kernels", path)
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        settings = {"warmup": 0, "rep": 0.05, **settings}
        kernel = blocklang.autotune(configs or blocks(32, 64), list(key), **settings)(module.kernel)
        kernel[programs](aligned() if x is None else x, n, *more, **(options or {}))
        return bool(kernel.trials)

    assert measured()
    return measured


def aligned(dtype=np.float32, offset=0):
    """An array at an address that is `offset` elements behind a multiple of 64 bytes."""
    memory = np.zeros(4096, np.uint8)
    start = -memory.ctypes.data % 64 + offset * np.dtype(dtype).itemsize
    return memory[start : start + 1000 * np.dtype(dtype).itemsize].view(dtype)


def test_a_later_process_measures_nothing(measured):
    assert not measured()
    assert not measured(warmup=1, rep=0.1)
    assert not measured(verbose=False)


def changed(old, new):
    assert old in SOURCE
    return SOURCE.replace(old, new)


CHANGES = {
    "kernel": {"source": changed("bl.store(x + i, helper(", "bl.store(x + i, 1 + helper(")},
    "helper": {"source": changed("return v * FACTOR", "return v + FACTOR")},
    "captured constant": {"source": changed("constexpr(2)", "constexpr(3)")},
    "a configuration": {"configs": blocks(32, 128)},
    "an option of a configuration": {
        "configs": [Config({"BLOCK": 32}), Config({"BLOCK": 64}, fp_fusion=False)]
    },
    "fewer configurations": {"configs": blocks(32, 64, 128)},
    "their order": {"configs": blocks(64, 32)},
    "value of the key": {"n": 101},
    "names of the key": {"key": ("n", "m")},
    "dtype": {"x": aligned(np.float64)},
    "alignment": {"x": aligned(offset=1)},
    "divisibility": {"more": (49,)},
    "equal to 1": {"more": (1,)},
    "type of an integer": {"more": (2**40,)},
    "an option of the launch": {"options": {"line_info": False}},
    "a compile-time value": {"options": {"WIDE": True}},
    "reset arrays": {"reset_to_zero": ["x"]},
    "restored arrays": {"restore_value": ["x"]},
    "way of measuring": {"use_cuda_graph": True},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_makes_another_key(measured, change):
    assert measured(**change)
    assert not measured(**change)
    assert not measured()


MACHINES = {
    "target": (host, "host_target", lambda found: lambda: _without_last_feature(found())),
    "threads of the CPU": (session.cpu, "thread_count", lambda found: lambda: found() + 1),
    "compiler": (pipeline, "_compiler", lambda found: lambda: found() + "changed"),
    "LLVM": (llvm, "version", lambda found: lambda: found() + ".1"),
}


def _without_last_feature(target):
    features = target.features.rpartition(",")[0]
    return host.cpu_target(target.triple, target.name, features)


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_another_machine_or_compiler_makes_another_key(measured, machine, monkeypatch):
    module, name, change = machine
    with monkeypatch.context() as patch:
        patch.setattr(module, name, change(getattr(module, name)))
        assert measured()
        assert not measured()
    assert not measured()


def test_another_gpu_makes_another_key(monkeypatch):
    found = {}
    for device, name in enumerate(("NVIDIA A100", "NVIDIA H200")):
        facts = type("Facts", (), {"name": name, "multiprocessors": 108, "driver_version": 12000})
        monkeypatch.setattr(session.cuda, "device", lambda _, facts=facts: facts)
        found[session._place(device)] = name
    assert len(found) == 2
    assert all(name in place for place, name in found.items())


def test_results_may_be_kept_in_memory_only(measured):
    assert measured(cache_results=False, n=7)
    assert measured(cache_results=False, n=7)


def ignore(*_, **__):
    """A hook."""


@pytest.mark.parametrize(
    "hooks",
    [
        {"pre_hook": ignore},
        {"post_hook": ignore},
        {"do_bench": lambda run, quantiles: [1.0]},
        {"configs": [Config({"BLOCK": 32}, pre_hook=ignore), Config({"BLOCK": 64})]},
    ],
    ids=["pre_hook", "post_hook", "do_bench", "config"],
)
def test_what_hooks_do_is_not_known_so_nothing_is_stored(measured, hooks):
    assert measured(**hooks)
    assert measured(**hooks)


def test_the_stored_choice_is_used():
    tuner = blocklang.autotune(blocks(32, 64, 128), ["n"], warmup=0, rep=0.05)
    kernel = tuner(increment)
    kernel[programs](zeros(), 100)
    chosen = kernel.best_config
    (path,) = cache.Cache().directory.glob("*/*.tuning")
    stored = json.loads(cache.Cache().get(path.parent.name + path.stem, "tuning"))
    assert kernel.configs[stored["best"]] is chosen
    assert set(stored["milliseconds"]) == {"BLOCK=32", "BLOCK=64", "BLOCK=128"}
    other = 0 if stored["best"] else 1
    key = path.parent.name + path.stem
    cache.Cache().put(key, {"tuning": json.dumps({**stored, "best": other}).encode()})
    again = tuner(increment)
    again[programs](zeros(), 100)
    assert again.best_config is again.configs[other]
    assert again.trials == []


def test_damage_is_a_miss():
    tuner = blocklang.autotune(blocks(32, 64), ["n"], warmup=0, rep=0.05)
    tuner(increment)[programs](zeros(), 100)
    (path,) = cache.Cache().directory.glob("*/*.tuning")
    path.write_bytes(path.read_bytes()[:-5] + b"12345")
    again = tuner(increment)
    again[programs](zeros(), 100)
    assert len(again.trials) == 2


def test_a_printed_choice_says_where_it_is_from(capsys):
    tuner = blocklang.autotune(blocks(32, 64), ["n"], warmup=0, rep=0.05, verbose=True)
    tuner(increment)[programs](zeros(), 100)
    capsys.readouterr()
    again = tuner(increment)
    again[programs](zeros(), 100)
    printed = capsys.readouterr().err
    assert printed == (
        f"autotuning of increment for n=100: {again.best_config} (from the disk cache)\n"
    )
