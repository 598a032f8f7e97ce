"""IR text: every op has a round-trip sample, and what is read back equals what was printed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from blocklang.ir.core import Block, Function, Module, Operation, Value
from blocklang.ir.location import Location
from blocklang.ir.op import REGISTRY, Op
from blocklang.ir.ops.program import Constant
from blocklang.ir.parser import parse
from blocklang.ir.passes.inline import Inline
from blocklang.ir.printer import print_module, print_op, quote
from blocklang.ir.types import f64, i32
from tests.ir_modules import PLACE, module_of

FOLDER = Path(__file__).parents[1] / "filetests" / "roundtrip"
SAMPLES = [
    part for path in sorted(FOLDER.glob("*.blir")) for part in path.read_text().split("// -----\n")
]


def assert_equal_modules(first: Module, second: Module) -> None:
    assert_equal_attributes(first.attributes, second.attributes)
    assert list(first.functions) == list(second.functions)
    for one, other in zip(first.functions.values(), second.functions.values(), strict=True):
        assert_equal_functions(one, other)


def assert_equal_functions(one: Function, other: Function) -> None:
    assert (one.is_kernel, one.result_types, one.loc) == (
        other.is_kernel,
        other.result_types,
        other.loc,
    )
    assert_equal_attributes(one.attributes, other.attributes)
    assert_equal_blocks(one.block, other.block, {})


def assert_equal_blocks(one: Block, other: Block, same: dict[Value, Value]) -> None:
    for x, y in zip(one.arguments, other.arguments, strict=True):
        assert (x.type, x.loc, x.facts) == (y.type, y.loc, y.facts)
        same[x] = y
    for x, y in zip(one.ops, other.ops, strict=True):
        assert_equal_ops(x, y, same)


def assert_equal_ops(one: Operation, other: Operation, same: dict[Value, Value]) -> None:
    assert type(one) is type(other)
    assert isinstance(one, Op)
    assert isinstance(other, Op)
    assert (one.loc, one.segments) == (other.loc, other.segments)
    assert [same[v] for v in one.operands] == list(other.operands)
    assert_equal_attributes(one.attributes, other.attributes)
    for x, y in zip(one.results, other.results, strict=True):
        assert x.type == y.type
        same[x] = y
    for left, right in zip(one.regions, other.regions, strict=True):
        assert_equal_blocks(left.block, right.block, same)


def assert_equal_attributes(one: dict[str, Any], other: dict[str, Any]) -> None:
    # repr tells 1 from 1.0 and True, and 0.0 from -0.0, and a NaN equals itself.
    assert {k: repr(v) for k, v in one.items()} == {k: repr(v) for k, v in other.items()}


@pytest.mark.parametrize("number", range(len(SAMPLES)))
def test_samples_read_back_as_equal_modules(number: int) -> None:
    module = parse(SAMPLES[number])
    assert_equal_modules(module, parse(print_module(module)))


def test_every_op_has_a_sample() -> None:
    used = {type(op) for sample in SAMPLES for op in parse(sample).walk()}
    missing = [name for name, op in REGISTRY.items() if op not in used]
    assert not missing, "write a sample in tests/filetests/roundtrip"


def test_every_attribute_is_printed_in_some_sample() -> None:
    """With a value that is not its default, so that it has to be read back."""
    changed = {
        (type(op), name)
        for sample in SAMPLES
        for op in parse(sample).walk()
        for name, value in op.attributes.items()
        if isinstance(op, Op) and value != op.fields[name].default
    }
    declared = {(op, field.name) for op in REGISTRY.values() for field in op.fields_of("attribute")}
    assert not {f"{op.mnemonic}.{name}" for op, name in declared - changed}


@pytest.mark.parametrize(
    "number", [0.1, -0.0, 1e300, 5e-324, math.inf, -math.inf, math.nan, 1e16, 123456789.0]
)
def test_floats_read_back_exactly(number: float) -> None:
    module = module_of(
        [], lambda b: b.insert(Constant(number, loc=b.loc, result_types=[f64])).result
    )
    (read, _) = parse(print_module(module)).walk()
    assert repr(read.attributes["value"]) == repr(number)


@pytest.mark.parametrize(
    "text",
    ["", "a b", 'say "x"', "\\", '\\"', "line\nbreak\ttab", "ü€😀", "// no comment", "%d @1 {"],
)
def test_strings_read_back_exactly(text: str) -> None:
    module = module_of([i32], lambda b, x: x)
    module.attributes = {"text": text}
    assert parse(print_module(module)).attributes == {"text": text}
    assert "\n" not in quote(text)


def test_locations_read_back_with_callers() -> None:
    outer = Location("m.bl", 9, 1, 9, 5, "main")
    inner = Location('we"ird name.py', 2, 3, 4, 5, "helper", outer)
    module = module_of([i32], lambda b, x: x)
    (op,) = module.walk()
    op.loc = inner
    (read,) = parse(print_module(module)).walk()
    assert read.loc == inner
    assert read.loc.frames == (outer, inner)


def test_inlining_keeps_the_chain_of_calls() -> None:
    text = """
kernel @k(%x: i32) {
  %a = call arguments = [%x] {callee = "outer"} : i32 @1
  return @2
}
function @outer(%x: i32) -> (i32) {
  %a = call arguments = [%x] {callee = "inner"} : i32 @3
  return values = [%a] @3
}
function @inner(%x: i32) -> (i32) {
  %a = neg %x : i32 @4
  return values = [%a] @4
}
@1 = "k.bl":1:1-1:2 in "k"
@2 = "k.bl":2:1-2:2 in "k"
@3 = "k.bl":3:1-3:2 in "outer"
@4 = "k.bl":4:1-4:2 in "inner"
"""
    module = parse(text)
    Inline()(module)
    negate = module.kernel.block.ops[0]
    assert [frame.line for frame in negate.loc.frames] == [1, 3, 4]


def test_broken_ops_are_printed_too() -> None:
    module = module_of([i32], lambda b, x: x)
    (op,) = module.walk()
    op.attributes["surprise"] = object
    text = print_op(op)
    assert text.startswith("return values = [%<undefined x0>] {surprise = <class 'object'>}")


def test_text_without_locations_is_shorter() -> None:
    module = module_of([i32], lambda b, x: x)
    assert "@1" not in print_module(module, locations=False)
    assert f'@0 = "{PLACE.file}":3:5-3:9 in "sample"' in print_module(module)
