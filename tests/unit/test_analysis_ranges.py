"""What the range analysis finds, with loops and conditions, and where it must give up."""

from __future__ import annotations

import operator
from itertools import product

import pytest

from blocklang.ir.analysis import intervals
from blocklang.ir.analysis.intervals import Range
from blocklang.ir.analysis.ranges import RangeAnalysis, analyze_ranges
from blocklang.ir.core import Function, Operation, Value
from blocklang.ir.parser import parse

LARGEST = (1 << 31) - 1


def analyze(body: str, arguments: str = "", wraps: bool = True) -> tuple[Function, RangeAnalysis]:
    function = parse(f"kernel @k({arguments}) {{\n{body}\nreturn\n}}").kernel
    return function, analyze_ranges(function, wraps)


def value(function: Function, name: str) -> Value:
    values = [r for op in function.walk() for r in op.results]
    values += [a for op in function.walk() for r in op.regions for a in r.block.arguments]
    return next(v for v in values + list(function.arguments) if v.name == name)


def op(function: Function, name: str) -> Operation:
    return next(o for o in function.walk() for r in o.results if r.name == name)


@pytest.mark.parametrize(
    "name", ["add", "subtract", "multiply", "divide", "remainder", "minimum", "maximum", "bit_and",
             "bit_or", "bit_xor"],
)  # fmt: skip
def test_interval_arithmetic_covers_every_pair(name: str) -> None:
    exact = {
        "add": lambda a, b: a + b,
        "subtract": lambda a, b: a - b,
        "multiply": lambda a, b: a * b,
        "divide": lambda a, b: int(a / b),
        "remainder": lambda a, b: a - int(a / b) * b,
        "minimum": min,
        "maximum": max,
        "bit_and": lambda a, b: a & b,
        "bit_or": lambda a, b: a | b,
        "bit_xor": lambda a, b: a ^ b,
    }[name]
    ranges = [Range(low, high) for low in range(-5, 6) for high in range(low, 6)]
    for x, y in product(ranges, ranges):
        found = getattr(intervals, name)(x, y)
        numbers = [
            exact(a, b)
            for a in range(x.low, x.high + 1)
            for b in range(y.low, y.high + 1)
            if b or name not in ("divide", "remainder")
        ]
        if found is None:
            assert not numbers or name.startswith("bit")
        else:
            assert all(n in found for n in numbers), (x, y, found)
            if name in ("add", "subtract", "multiply", "divide", "minimum", "maximum"):
                assert {found.low, found.high} <= set(numbers), (x, y, found)


@pytest.mark.parametrize("predicate", ["lt", "le", "gt", "ge", "eq", "ne"])
def test_comparisons_decide_and_refine(predicate: str) -> None:
    holds = getattr(operator, predicate)
    ranges = [Range(low, high) for low in range(4) for high in range(low, 4)]
    for x, y in product(ranges, ranges):
        pairs = list(product(range(x.low, x.high + 1), range(y.low, y.high + 1)))
        true = [pair for pair in pairs if holds(*pair)]
        expected = True if len(true) == len(pairs) else False if not true else None
        assert intervals.compare(predicate, x, y) is expected
        refined = intervals.refine(predicate, x, y)
        if not true:
            assert refined is None
        else:
            assert refined == tuple(intervals.hull(side) for side in zip(*true, strict=True))


def test_indices_of_a_program() -> None:
    function, ranges = analyze(
        """
        %pid = program_id {axis = 0} : i32
        %count = num_programs {axis = 0} : i32
        %lanes = arange {start = 4, end = 68} : block<64xi32>
        %size = constant {value = 64} : i32
        %sum = add %pid, %size : i32
        %wide = cast %pid : i64
        %widesize = constant {value = 64} : i64
        %safe = mul %wide, %widesize : i64
        %few = rem %pid, %size : i32
        %most = minimum %pid, %size : i32"""
    )
    found = {
        name: ranges[value(function, name)]
        for name in ("pid", "count", "lanes", "safe", "few", "most")
    }
    assert found == {
        "pid": Range(0, LARGEST - 1),
        "count": Range(1, LARGEST),
        "lanes": Range(4, 67),
        "safe": Range(0, (LARGEST - 1) * 64),
        "few": Range(0, 63),
        "most": Range(0, 64),
    }
    assert ranges[value(function, "sum")] == Range(-LARGEST - 1, LARGEST)
    assert not ranges.never_overflows(op(function, "sum"))
    assert ranges.never_overflows(op(function, "safe"))


def test_signed_overflow_may_be_assumed_away() -> None:
    body = """
        %pid = program_id {axis = 0} : i32
        %size = constant {value = 64} : i32
        %start = mul %pid, %size : i32"""
    function, ranges = analyze(body, wraps=False)
    assert ranges[value(function, "start")] == Range(0, LARGEST)
    unsigned = "%start = mul %x, %y : u32"
    function, ranges = analyze(unsigned, "%x: u32, %y: u32", wraps=False)
    assert ranges[value(function, "start")] == Range(0, 2**32 - 1)


def test_loop_indices_and_carried_values() -> None:
    function, ranges = analyze(
        """
        %zero = constant {value = 0} : i32
        %one = constant {value = 1} : i32
        %hundred = constant {value = 100} : i32
        %low, %capped = for %zero, %n, %one, initial = [%zero, %zero] : i32, i32
        body(%k: i32, %sum: i32, %x: i32) {
          %more = add %sum, %k : i32
          %first = compare %k, %one {predicate = "lt"} : i1
          %z = select %first, %x, %hundred : i32
          yield values = [%more, %z]
        }""",
        "%n: i32",
    )
    assert ranges[value(function, "k")] == Range(0, LARGEST - 1)
    assert ranges[value(function, "low")] == Range(-LARGEST - 1, LARGEST)
    assert ranges[value(function, "capped")] == Range(0, 100)


def test_a_while_loop_is_bounded_by_its_condition() -> None:
    function, ranges = analyze(
        """
        %zero = constant {value = 0} : i32
        %one = constant {value = 1} : i32
        %last = while initial = [%zero] : i32 before(%i: i32) {
          %go = compare %i, %n {predicate = "lt"} : i1
          condition %go, values = [%i]
        } body(%j: i32) {
          %next = add %j, %one : i32
          yield values = [%next]
        }""",
        "%n: i32",
    )
    assert ranges[value(function, "j")] == Range(0, LARGEST - 1)
    assert ranges[value(function, "last")] == Range(0, LARGEST)
    assert ranges.never_overflows(op(function, "next"))


BRANCHES = """
    %zero = constant {value = 0} : i32
    %ten = constant {value = 10} : i32
    %low = compare %n, %zero {predicate = "ge"} : i1
    %high = compare %n, %ten {predicate = "lt"} : i1
    %both = and %low, %high : i1
    %clamped = if %both : i32 then() {
      %inside = add %n, %zero : i32
      yield values = [%n]
    } otherwise() {
      %outside = add %n, %zero : i32
      yield values = [%zero]
    }
    %behind = add %n, %zero : i32
"""


def test_conditions_hold_in_their_branches_only() -> None:
    function, ranges = analyze(BRANCHES, "%n: i32")
    everything = Range(-LARGEST - 1, LARGEST)
    assert ranges[value(function, "inside")] == Range(0, 9)
    assert ranges[value(function, "outside")] == everything
    assert ranges[value(function, "behind")] == everything
    assert ranges[value(function, "n")] == everything
    assert ranges[value(function, "clamped")] == Range(0, 9)


def test_a_negated_disjunction_holds_in_the_other_branch() -> None:
    body = BRANCHES.replace('"ge"', '"lt"').replace('%ten {predicate = "lt"}',
                                                    '%ten {predicate = "gt"}')  # fmt: skip
    function, ranges = analyze(body.replace("and %low", "or %low"), "%n: i32")
    assert ranges[value(function, "outside")] == Range(0, 10)


def test_assumptions_hold_to_the_end_of_their_region() -> None:
    body = """
        %zero = constant {value = 0} : i32
        %fine = compare %n, %zero {predicate = "ge"} : i1
        assume %fine
        %behind = add %n, %zero : i32"""
    function, ranges = analyze(body, "%n: i32")
    assert ranges[value(function, "behind")] == Range(0, LARGEST)
    assert ranges[value(function, "n")] == Range(0, LARGEST)
    nested = f"if %c then() {{ {body}\nyield }} otherwise() {{ yield }}\n%m = neg %n : i32"
    function, ranges = analyze(nested, "%n: i32, %c: i1")
    assert ranges[value(function, "behind")] == Range(0, LARGEST)
    assert ranges[value(function, "m")] == Range(-LARGEST - 1, LARGEST)


def test_masks_that_always_hold() -> None:
    function, ranges = analyze(
        """
        %lanes = arange {start = 0, end = 64} : block<64xi32>
        %bound = constant {value = 64} : block<64xi32>
        %always = compare %lanes, %bound {predicate = "lt"} : block<64xi1>
        %never = compare %lanes, %bound {predicate = "eq"} : block<64xi1>
        %not = not %always : block<64xi1>"""
    )
    assert ranges[value(function, "always")] == Range(1, 1)
    assert ranges[value(function, "never")] == Range(0, 0)
    assert ranges[value(function, "not")] == Range(0, 0)


def test_conversions_keep_what_fits() -> None:
    function, ranges = analyze(
        """
        %few = rem %n, %ten : i32
        %narrow = cast %few : i8
        %unsigned = cast %few : u32
        %any = cast %few : i1
        %zero = constant {value = 0} : i32
        %none = cast %zero : i1
        %all = cast %ten : i1
        %number = cast %f : i32""",
        "%n: i32, %ten: i32 {minimum = 1, maximum = 10}, %f: f32",
    )
    assert ranges[value(function, "narrow")] == Range(-9, 9)
    assert ranges[value(function, "unsigned")] == Range(0, 2**32 - 1)
    assert ranges[value(function, "any")] == Range(0, 1)
    assert ranges[value(function, "none")] == Range(0, 0)
    assert ranges[value(function, "all")] == Range(1, 1)
    assert ranges[value(function, "number")] == Range(-LARGEST - 1, LARGEST)


def test_floats_and_pointers_have_no_range() -> None:
    function, ranges = analyze("%y = add %x, %x : f32", "%x: f32, %p: ptr<f32>")
    assert ranges[value(function, "y")] is None
    assert ranges[value(function, "p")] is None
