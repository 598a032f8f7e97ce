"""Random programs, run on NumPy arrays: every fact of the axis analysis holds of every value."""

from __future__ import annotations

from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocklang.ir.analysis.axis import AxisInfo, analyze_axes
from blocklang.ir.builder import normalize
from blocklang.ir.core import Value
from blocklang.ir.ops.control import Return
from blocklang.ir.ops.elementwise import (
    Add,
    Cast,
    Compare,
    Divide,
    Remainder,
    Select,
    ShiftLeft,
    ShiftRight,
)
from blocklang.ir.ops.program import Arange
from blocklang.ir.ops.shape import Broadcast, ExpandDims, Reshape
from blocklang.ir.types import (
    BlockType,
    DType,
    element_type,
    i8,
    i32,
    i64,
    u8,
    u32,
    with_element,
)
from tests.property.random_programs import AT, BINARY, CONSTANTS, Generator, run


def check(info: AxisInfo, array: Any, value: Value) -> None:
    """Every claim of `info` holds of `array`."""
    array = array.reshape(array.shape or (1,)).astype(numpy.int64)
    kind = element_type(value.type)
    modulus = 1 << kind.bits if kind.bits < 64 else 0
    assert info.constant is None or (array == info.constant).all(), (value, info)
    for axis in range(array.ndim):
        lines = numpy.moveaxis(array, axis, -1)
        contiguity, constancy = info.contiguity[axis], info.constancy[axis]
        starts = lines[..., ::contiguity]
        assert not (starts % info.divisibility[axis]).any(), (value, axis, info, array)
        index = numpy.arange(lines.shape[-1])
        steps = (numpy.diff(lines) - info.unit)[..., index[1:] % contiguity != 0]
        assert not (steps % modulus if modulus else steps).any(), (value, axis, info, array)
        first = lines[..., index // constancy * constancy]
        assert (lines == first).all(), (value, axis, info, array)


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 40))
def test_facts_hold_of_every_value(seed: int, steps: int) -> None:
    generator = Generator(seed)
    generator.steps(steps)
    run_and_check(generator)


def run_and_check(generator: Generator) -> None:
    """Analyse and run a program."""
    generator.builder.insert(Return((), **AT))
    info = analyze_axes(generator.function).info
    run(generator, lambda value, array: check(info[value], array, value), strict=True)


@pytest.mark.parametrize("kind", [i8, u8, i32, u32], ids=str)
@pytest.mark.parametrize("start", [-32, -16, -1, 0, 4, 8, 112, 120, 248])
def test_every_op_on_a_run_and_a_constant(kind: DType, start: int) -> None:
    generator = Generator(0)
    # Long enough once for 8 bits to wrap around within a run.
    size = 512 if start == 0 else 32
    builder, row = generator.builder, BlockType((size,), i32)
    arange = builder.insert(Arange(start, start + size, **AT, result_types=[row])).result
    type = with_element(row, kind)
    run = builder.insert(Cast(arange, **AT, result_types=[type])).result
    for number in CONSTANTS:
        constant = builder.constant(normalize(number, kind), type)
        for binary in BINARY:
            if binary in (Divide, Remainder) and number == 0:
                continue
            builder.insert(binary(run, constant, **AT))
            if binary not in (Divide, Remainder):
                builder.insert(binary(constant, run, **AT))
        for predicate in ("eq", "ne", "lt", "le", "gt", "ge"):
            less = builder.insert(Compare(run, constant, predicate, **AT)).result
            builder.insert(Select(less, run, builder.insert(Add(run, run, **AT)).result, **AT))
            builder.insert(Select(less, run, builder.insert(Add(run, constant, **AT)).result, **AT))
            builder.insert(Compare(constant, run, predicate, **AT))
        if 0 <= number < 8:
            builder.insert(ShiftLeft(run, constant, **AT))
            builder.insert(ShiftRight(run, constant, **AT))
    builder.insert(Cast(run, **AT, result_types=[with_element(row, i64)]))
    run_and_check(generator)


@pytest.mark.parametrize(
    ("source", "target"),
    [((32,), (4, 8)), ((4, 8), (32,)), ((3, 8), (24,)), ((3, 8), (8, 3)), ((4, 6), (3, 8)),
     ((4, 6), (8, 3)), ((2, 4, 4), (8, 4)), ((8, 4), (2, 4, 4)),
     ((6, 4), (2, 3, 4)), ((4, 8), (1, 4, 1, 8))],
)  # fmt: skip
def test_every_run_reshaped(source: tuple[int, ...], target: tuple[int, ...]) -> None:
    generator = Generator(0)
    builder = generator.builder
    for axis, size in enumerate(source):
        row = BlockType((size,), i32)
        arange = builder.insert(Arange(0, size, **AT, result_types=[row])).result
        for divisor in (1, 2, 4):
            x = builder.insert(Divide(arange, builder.constant(divisor, row), **AT)).result
            for other in range(len(source)):
                if other != axis:
                    x = builder.insert(ExpandDims(x, other, **AT)).result
            x = builder.insert(Broadcast(x, **AT, result_types=[BlockType(source, i32)])).result
            builder.insert(Reshape(x, **AT, result_types=[BlockType(target, i32)]))
    run_and_check(generator)
