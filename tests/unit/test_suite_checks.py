"""The op suite's comparison: it accepts what is right, and finds each kind of mistake."""

from __future__ import annotations

import numpy as np
import pytest

from blocklang.ir.types import DTYPES
from tests.suite import CASES
from tests.suite.bounds import rounded_sum, ulp
from tests.suite.case import GUARD, Array, Expected, Launch, agrees, check, guarded, output
from tests.suite.casts import round_to


def after_writing(before: Array, values: np.ndarray, at: int = 0) -> np.ndarray:
    buffer, first = guarded(before)
    buffer[first + at : first + at + values.size] = values
    return buffer


def test_right_results_are_counted() -> None:
    before, values = output(5, np.float32), np.arange(5, dtype=np.float32)
    assert check("out", before, after_writing(before, values), Expected(values), False) == 5
    stored = np.arange(5) < 2
    expected = Expected(values, stored=stored)
    assert check("out", before, after_writing(before, values[:2]), expected, False) == 2


@pytest.mark.parametrize("at", [-1, 1, 64])
def test_writes_elsewhere_are_found(at: int) -> None:
    before, values = output(5, np.int32), np.arange(5, dtype=np.int32)
    buffer = after_writing(before, values)
    buffer[GUARD + at + (at > 0) * 4] = 7
    with pytest.raises(AssertionError, match="written where nothing is to be written"):
        check("out", before, buffer, Expected(values), False)


def test_elements_that_are_not_written_are_found() -> None:
    before, values = output(5, np.int32), np.arange(5, dtype=np.int32)
    with pytest.raises(AssertionError, match="1 of 5 elements are wrong"):
        check("out", before, after_writing(before, values[:4]), Expected(values), False)


def test_bounds() -> None:
    exact = np.array([1.0, -0.0, np.inf, np.nan])
    right = exact.astype(np.float32)
    off = right.copy()
    off[0] += np.float32(2.0**-22)
    assert agrees(right, exact, 0.0).all()
    assert agrees(off, exact, 2.0**-21).all()
    assert list(agrees(off, exact, 0.0)) == [False, True, True, True]
    assert not agrees(np.zeros(1, np.float32), np.array([-0.0]), 0.0).any()
    assert agrees(np.zeros(1, np.float32), np.array([-0.0]), 1e-30).all()
    infinite = np.array([np.inf, np.nan, 1.0], np.float32)
    assert not agrees(infinite, np.array([1.0, 1.0, np.nan]), 1.0).any()


def test_units_in_the_last_place() -> None:
    f16 = DTYPES["f16"]
    assert ulp(1.0, f16) == 2.0**-10
    assert ulp(0.75, f16) == 2.0**-11
    assert ulp(0.0, f16) == 2.0**-24
    assert ulp(np.inf, DTYPES["f32"]) == 2.0**-149
    assert rounded_sum(4.0, 9, DTYPES["f32"]) == 8 * 2.0**-21 / 2


def test_rounding_is_done_once() -> None:
    # Just above the middle of two bfloat16 numbers, which is what it would be rounded to first.
    x = np.array([1 + 2.0**-8 + 2.0**-40, 1 + 2.0**-8], np.float64)
    rounded = round_to(x, DTYPES["bf16"]).astype(np.float64)
    assert list(rounded) == [1 + 2.0**-7, 1.0]


def test_cases_can_fail() -> None:
    """No case expects what was in memory before, and each compares something."""
    assert len(CASES) > 500
    for case in CASES.values():
        launch: Launch = case.launch()
        assert launch.expected, case.name
        changed = 0
        for name, expected in launch.expected.items():
            before = launch.arguments[name]
            stored = np.ones(before.values.size, bool)
            if expected.stored is not None:
                stored = expected.stored.reshape(-1)
            same = agrees(before.values, np.asarray(expected.values).reshape(-1), 0.0)
            changed += int((stored & ~same).sum())
        assert changed > 0 or case.name == "histogram-nothing", case.name
