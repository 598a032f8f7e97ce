"""Rewrite rules and passes keep the meaning of random functions, as the evaluator sees it.

Each rule also runs alone, and must fire.
"""

from __future__ import annotations

from typing import Any

import numpy
import pytest

from blocklang.codegen.targets import CpuTarget, gpu_target
from blocklang.compile import simplify
from blocklang.ir.core import Module
from blocklang.ir.evaluate import evaluate_function
from blocklang.ir.ops.elementwise import Maximum, Minimum
from blocklang.ir.parser import parse
from blocklang.ir.passes.canonicalize import CANONICALIZATIONS, Canonicalize
from blocklang.ir.passes.expand_descriptors import ExpandDescriptors
from blocklang.ir.passes.inline import Inline
from blocklang.ir.passes.manager import Pass
from blocklang.ir.passes.strength_reduction import StrengthReduction
from blocklang.ir.printer import print_module
from blocklang.ir.rewrite import Rule, rewrite
from blocklang.ir.verify import verify

from .random_kernels import Author, inputs

OLD_TARGETS = gpu_target("sm_75"), CpuTarget("", "x86_64", "", vector_bits=128)
"""Those that lack the most, so that `expand-math` has much to do."""

PASSES: list[Pass] = list(
    dict.fromkeys(
        [
            *(each for target in OLD_TARGETS for each in simplify(target)),
            # It comes last in the pipeline, but needs no layouts.
            StrengthReduction(),
        ]
    )
)


def results(module: Module, seed: int) -> list[Any]:
    """What the function returns, and the memory after it."""
    arguments = inputs(seed)
    return [*evaluate_function(module, "sample", arguments), arguments[-1]]


def assert_same(found: list[Any], expected: list[Any], with_signs: bool) -> None:
    for x, y in zip(found, expected, strict=True):
        assert x.dtype == y.dtype
        assert x.shape == y.shape
        x, y = (v.astype(numpy.float64) if v.dtype.kind not in "biu" else v for v in (x, y))
        numpy.testing.assert_array_equal(x, y)
        if with_signs and x.dtype.kind == "f":
            is_number = ~numpy.isnan(x)
            numpy.testing.assert_array_equal(
                numpy.signbit(x)[is_number], numpy.signbit(y)[is_number]
            )


def has_signs(module: Module) -> bool:
    """Which zero a minimum of two zeros is, is open."""
    return not any(isinstance(op, Minimum | Maximum) for op in module.walk())


@pytest.mark.parametrize("rule", CANONICALIZATIONS, ids=lambda rule: rule.name)
def test_each_rule_keeps_meaning(rule: Rule) -> None:
    before = rule.hits
    for seed in range(60):
        module = Author(seed).module()
        expected, with_signs = results(module, seed), has_signs(module)
        text = print_module(module)
        rewrite(module.functions["sample"], [rule])
        verify(module)
        try:
            assert_same(results(module, seed), expected, with_signs)
        except AssertionError as problem:
            raise AssertionError(f"seed {seed}:\n{text}\n{module}") from problem
    assert rule.hits > before, "no random function has what the rule looks for"


@pytest.mark.parametrize("one", PASSES, ids=lambda one: one.name)
def test_each_pass_keeps_meaning_and_locations(one: Pass) -> None:
    changed = 0
    for seed in range(1000, 1060):
        module = Author(seed).module()
        expected, with_signs = results(module, seed), has_signs(module)
        text, places = print_module(module), {op.loc for op in module.walk()}
        one(module)
        changed += print_module(module) != text
        assert {op.loc for op in module.walk()} <= places
        try:
            assert_same(results(module, seed), expected, with_signs)
        except AssertionError as problem:
            raise AssertionError(f"seed {seed}:\n{text}\n{module}") from problem
    # Random functions call nothing and have no descriptors.
    assert changed or isinstance(one, Inline | ExpandDescriptors)


def test_passes_after_each_other() -> None:
    for seed in range(2000, 2030):
        module = Author(seed, steps=25).module()
        expected, with_signs = results(module, seed), has_signs(module)
        for one in (*PASSES, *PASSES):
            one(module)
        assert_same(results(module, seed), expected, with_signs)


def test_canonical_form_is_a_fixpoint() -> None:
    for seed in range(3000, 3030):
        module = Author(seed).module()
        Canonicalize()(module)
        once = print_module(module)
        Canonicalize()(module)
        assert print_module(module) == once


def test_text_of_random_functions_reads_back() -> None:
    for seed in range(4000, 4030):
        text = print_module(Author(seed).module())
        assert print_module(parse(text)) == text
