"""Random programs, run on NumPy arrays: every value lies in its range, overflow or not."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from blocklang.ir.analysis.ranges import analyze_ranges
from blocklang.ir.core import Result, Value
from blocklang.ir.op import Op
from blocklang.ir.ops.control import Return
from tests.property.random_programs import AT, Generator, run


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 40))
def test_every_value_lies_in_its_range(seed: int, steps: int) -> None:
    generator = Generator(seed)
    for argument, number in generator.inputs.items():
        argument.facts.update(minimum=number - seed % 3, maximum=number + seed % 5)
    generator.steps(steps)
    generator.builder.insert(Return((), **AT))
    ranges = analyze_ranges(generator.function)

    def check(value: Value, array: Any) -> None:
        known = ranges[value]
        if known is not None:
            assert int(array.min()) in known, (value, known, array)
            assert int(array.max()) in known, (value, known, array)

    interpreter = run(generator, check, strict=False)
    for value in interpreter.wrapped_here:
        assert isinstance(value, Result)
        assert isinstance(value.op, Op)
        assert not ranges.never_overflows(value.op), value
