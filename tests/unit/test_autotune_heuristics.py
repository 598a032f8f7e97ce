"""Heuristics: alone, above and below the autotuner."""

import numpy as np
import pytest

import blocklang
import blocklang.language as bl
from blocklang import Config
from blocklang.errors import ChosenTwice, UnknownParameter
from tests.unit.tuning_samples import Measure, blocks, increment, programs, zeros


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BLOCKLANG_CACHE_DIR", str(tmp_path / "cache"))


@blocklang.jit
def fill(x, n, value=3.0, BLOCK: bl.constexpr = 16, EVEN: bl.constexpr = False):
    i = bl.program_id(0) * BLOCK + bl.arange(0, BLOCK)
    if EVEN:
        bl.store(x + i, value)
    else:
        bl.store(x + i, value, mask=i < n)


def is_even(arguments):
    return arguments["n"] % arguments["BLOCK"] == 0


def test_rules_see_arguments_defaults_and_earlier_rules():
    seen = []

    def block(arguments):
        seen.append(dict(arguments))
        return blocklang.next_power_of_2(arguments["n"])

    kernel = blocklang.heuristics({"BLOCK": block, "EVEN": is_even})(fill)
    for n, even in [(64, True), (50, False)]:
        x = zeros(100)
        compiled = kernel[(1,)](x, n=n)
        assert compiled.constants == {"BLOCK": 64, "EVEN": even}
        np.testing.assert_array_equal(x, [3] * n + [0] * (100 - n))
    assert set(seen[0]) == {"x", "n", "value", "BLOCK", "EVEN"}
    assert (seen[0]["value"], seen[0]["BLOCK"]) == (3.0, 16)


def test_what_a_rule_does_to_its_dict_does_not_matter():
    kernel = blocklang.heuristics({"BLOCK": lambda arguments: arguments.pop("BLOCK") * 2})(fill)
    assert kernel[(1,)](zeros(), 10).constants["BLOCK"] == 32


@pytest.mark.parametrize("above", [True, False])
def test_with_the_autotuner(above):
    measure = Measure()
    autotune = blocklang.autotune(blocks(16, 32), key=["n"], do_bench=measure)
    if above:
        heuristics = blocklang.heuristics({"value": lambda arguments: arguments["n"] / 2})
        kernel = heuristics(autotune(fill))
    else:
        heuristics = blocklang.heuristics({"EVEN": is_even})
        kernel = autotune(heuristics(fill))
    x = zeros()
    compiled = kernel[programs](x, 48)
    assert measure.runs == 2
    assert compiled.constants["BLOCK"] == 32
    np.testing.assert_array_equal(x[:48], 24.0 if above else 3.0)
    kernel[programs](x, 48)
    assert measure.runs == 2
    assert [each.constants["BLOCK"] for each in kernel.warmup(x, 48)] == [16, 32]


def test_rules_are_part_of_what_the_disk_cache_knows():
    def trials(divisor):
        rule = {"value": lambda arguments: 1.0, "EVEN": lambda a: a["n"] % divisor == 0}
        autotune = blocklang.autotune(blocks(16, 32), key=["n"], warmup=0, rep=0.1)
        kernel = autotune(blocklang.heuristics(rule)(fill))
        kernel[programs](zeros(), 48)
        return len(kernel.trials)

    assert [trials(16), trials(16), trials(7), trials(8)] == [2, 0, 2, 0]


def test_mistakes():
    kernel = blocklang.heuristics({"BLOCK": lambda _: 32})(increment)
    for arguments, keywords in [((zeros(), 10, 64), {}), ((zeros(), 10), {"BLOCK": 64})]:
        for launch in (kernel[(1,)], kernel.warmup):
            with pytest.raises(ChosenTwice, match="chosen by heuristics"):
                launch(*arguments, **keywords)
    with pytest.raises(UnknownParameter, match="no parameter 'BLOK'"):
        blocklang.heuristics({"BLOK": lambda _: 32})(increment)[(1,)](zeros(), 10)


def test_compile_takes_what_is_given():
    kernel = blocklang.heuristics({"BLOCK": lambda _: 32})(increment)
    compiled = kernel.compile({"x": "*fp32", "n": "i32"}, {"BLOCK": 64})
    assert compiled.constants == {"BLOCK": 64}
    assert Config({"BLOCK": 64}).kwargs == compiled.constants
