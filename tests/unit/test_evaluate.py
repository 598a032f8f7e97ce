"""The reference evaluator: memory, control flow, reductions, and what it refuses."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy
import pytest

from blocklang.ir.evaluate import EvaluationError, evaluate, evaluate_function, find_evaluator
from blocklang.ir.layout import shared_linear
from blocklang.ir.op import REGISTRY
from blocklang.ir.ops import async_copy, asynchronous, shared, shared_dot
from blocklang.ir.ops.shared import Barrier, SharedAlloc
from blocklang.ir.parser import parse
from blocklang.ir.types import DTYPES, DType, SharedType, dtype, f32
from blocklang.ir.verify import verify

PLACES = '@1 = "add.bl":7:3-7:20 in "add"\n'

VECTOR_ADD = """
kernel @add(%x: ptr<f32>, %y: ptr<f32>, %out: ptr<f32>, %n: i32) {
  %pid = program_id {axis = 0} : i32
  %size = constant {value = 8} : i32
  %base = mul %pid, %size : i32
  %bases = splat %base : block<8xi32>
  %range = arange {start = 0, end = 8} : block<8xi32>
  %i = add %bases, %range : block<8xi32>
  %limit = splat %n : block<8xi32>
  %mask = compare %i, %limit {predicate = "lt"} : block<8xi1>
  %xs = splat %x : block<8xptr<f32>>
  %px = add_pointer %xs, %i : block<8xptr<f32>>
  %a = load %px, mask = %mask : block<8xf32> @1
  %ys = splat %y : block<8xptr<f32>>
  %py = add_pointer %ys, %i : block<8xptr<f32>>
  %b = load %py, mask = %mask : block<8xf32>
  %c = add %a, %b : block<8xf32>
  %outs = splat %out : block<8xptr<f32>>
  %po = add_pointer %outs, %i : block<8xptr<f32>>
  store %po, mask = %mask, %c
  return
}
"""


def module_of(text: str) -> Any:
    module = parse(text + PLACES)
    verify(module)
    return module


def call(text: str, *arguments: Any) -> Any:
    """What @f of the text returns."""
    results = evaluate_function(module_of(text), "f", arguments)
    return results[0] if len(results) == 1 else results


def test_programs_of_a_grid_share_memory() -> None:
    x, y, out = (numpy.arange(21, dtype=numpy.float32) * k for k in (1, 10, 0))
    evaluate(module_of(VECTOR_ADD), [x, y, out, 20], grid=(3,))
    numpy.testing.assert_array_equal(out[:20], x[:20] * 11)
    assert out[20] == 0, "the mask must keep the last program inside"


def test_access_outside_an_array_names_op_place_and_offset() -> None:
    arrays = [numpy.zeros(20, numpy.float32) for _ in range(3)]
    with pytest.raises(EvaluationError) as caught:
        evaluate(module_of(VECTOR_ADD), [*arrays, 24], grid=(3,))
    assert str(caught.value) == "add.bl:7:3: load: 4 bytes at offset 80 of an array of 80 bytes"
    assert caught.value.location.line == 7


@pytest.mark.parametrize(("offset", "text"), [(-1, "offset -4 of"), (4, "offset 16 of")])
def test_access_around_an_array(offset: int, text: str) -> None:
    # Another buffer follows, which must not be hit instead.
    kernel = f"""
kernel @f(%p: ptr<i32>, %q: ptr<i32>) {{
  %n = constant {{value = {offset}}} : i32
  %a = add_pointer %p, %n : ptr<i32>
  %v = load %a : i32
  return
}}
"""
    with pytest.raises(EvaluationError, match=text):
        evaluate(module_of(kernel), [numpy.zeros(4, numpy.int32)] * 2)


def test_a_number_is_no_pointer() -> None:
    kernel = "kernel @f(%p: ptr<i32>) {\n  %v = load %p : i32\n  return\n}\n"
    with pytest.raises(EvaluationError, match="0x10 is not a pointer"):
        evaluate(module_of(kernel), [16])


MASKED = """
function @f(%p: ptr<{0}>) -> (block<4x{0}>, block<4x{0}>) {{
  %i = arange {{start = 0, end = 4}} : block<4xi32>
  %two = constant {{value = 2}} : block<4xi32>
  %mask = compare %i, %two {{predicate = "lt"}} : block<4xi1>
  %ps = splat %p : block<4xptr<{0}>>
  %a = add_pointer %ps, %i : block<4xptr<{0}>>
  %poison = load %a, mask = %mask : block<4x{0}>
  %zero = constant {{value = {1}}} : block<4x{0}>
  %other = load %a, mask = %mask, other = %zero : block<4x{0}>
  return values = [%poison, %other]
}}
"""


@pytest.mark.parametrize("name", ["f32", "bf16", "f8e4m3", "i16", "u64"])
def test_masked_elements_are_poison_or_other(name: str) -> None:
    kind = dtype(name)
    memory = numpy.array([3, 5], kind.numpy)
    poison, other = call(MASKED.format(name, "0.0" if kind.is_float else 0), memory)
    assert poison.dtype == other.dtype == kind.numpy
    assert other.tolist() == [3, 5, 0, 0]
    assert poison[:2].tolist() == [3, 5]
    assert (poison[2:].view(numpy.uint8) == 255).all()
    if kind.is_float:
        assert numpy.isnan(poison[2:].astype(numpy.float32)).all()


def test_bools_take_a_byte() -> None:
    text = """
kernel @f(%p: ptr<i1>, %q: ptr<i1>) {
  %i = arange {start = 0, end = 2} : block<2xi32>
  %ps = splat %p : block<2xptr<i1>>
  %a = add_pointer %ps, %i : block<2xptr<i1>>
  %v = load %a : block<2xi1>
  %w = not %v : block<2xi1>
  %qs = splat %q : block<2xptr<i1>>
  %b = add_pointer %qs, %i : block<2xptr<i1>>
  store %b, %w
  return
}
"""
    result = numpy.zeros(2, bool)
    evaluate(module_of(text), [numpy.array([True, False]), result])
    assert result.tolist() == [False, True]


ATOMIC = """
kernel @f(%p: ptr<{0}>, %old: ptr<{0}>) {{
  %zero = constant {{value = 0}} : block<4xi32>
  %i = arange {{start = 0, end = 4}} : block<4xi32>
  %three = constant {{value = 3}} : block<4xi32>
  %mask = compare %i, %three {{predicate = "lt"}} : block<4xi1>
  %v = cast %i : block<4x{0}>
  %ps = splat %p : block<4xptr<{0}>>
  %a = add_pointer %ps, %zero : block<4xptr<{0}>>
  %before = atomic_rmw %a, mask = %mask, %v {{kind = "add"}} : block<4x{0}>
  %os = splat %old : block<4xptr<{0}>>
  %b = add_pointer %os, %i : block<4xptr<{0}>>
  store %b, %before
  return
}}
"""


@pytest.mark.parametrize("kind", [numpy.int32, numpy.float16, ml_dtypes.bfloat16])
def test_atomics_act_one_after_the_other(kind: Any) -> None:
    name = {"int32": "i32", "float16": "f16", "bfloat16": "bf16"}[numpy.dtype(kind).name]
    total, old = numpy.array([10], kind), numpy.zeros(4, kind)
    evaluate(module_of(ATOMIC.format(name)), [total, old], grid=(2,))
    assert total[0] == 16
    assert old[:3].tolist() == [13, 13, 14]
    assert (old[3:].view(numpy.uint8) == 255).all()


def test_loops_and_branches() -> None:
    collatz = """
function @f(%n: i32) -> (i32) {
  %zero = constant {value = 0} : i32
  %steps, %last = while initial = [%zero, %n] : i32, i32 before(%s: i32, %x: i32) {
    %one = constant {value = 1} : i32
    %more = compare %x, %one {predicate = "ne"} : i1
    condition %more, values = [%s, %x]
  } body(%s2: i32, %y: i32) {
    %one2 = constant {value = 1} : i32
    %two = constant {value = 2} : i32
    %three = constant {value = 3} : i32
    %low = rem %y, %two : i32
    %odd = compare %low, %one2 {predicate = "eq"} : i1
    %z = if %odd : i32 then() {
      %a = mul %y, %three : i32
      %b = add %a, %one2 : i32
      yield values = [%b]
    } otherwise() {
      %c = div %y, %two : i32
      yield values = [%c]
    }
    %t = add %s2, %one2 : i32
    yield values = [%t, %z]
  }
  return values = [%steps]
}
"""
    assert call(collatz, 27) == 111
    assert call(collatz, 1) == 0


LOOP = """
function @f(%a: i32, %b: i32, %c: i32) -> (i32) {
  %zero = constant {value = 0} : i32
  %r = for %a, %b, %c, initial = [%zero] : i32 @1 body(%i: i32, %s: i32) {
    %t = add %s, %i : i32
    yield values = [%t]
  }
  return values = [%r]
}
"""


def test_for_counts_like_range() -> None:
    for arguments in ((0, 10, 1), (3, 20, 4), (5, 5, 1), (-7, 3, 3), (9, 2, 1)):
        assert call(LOOP, *arguments) == sum(range(*arguments))
    with pytest.raises(EvaluationError, match="step 0 is not positive"):
        call(LOOP, 0, 10, 0)


def test_calls() -> None:
    text = """
function @g(%x: i32, %y: i32) -> (i32, i32) {
  return values = [%y, %x]
}
function @f(%x: i32, %y: i32) -> (i32, i32) {
  %a, %b = call arguments = [%x, %y] {callee = "g"} : i32, i32
  %c, %d = call arguments = [%a, %a] {callee = "g"} : i32, i32
  return values = [%b, %d]
}
"""
    assert [int(v) for v in call(text, 1, 2)] == [1, 2]


ARGMAX = """
function @f(%v: block<3x4xf32>, %i: block<3x4xi32>) -> (block<{1}xf32>, block<{1}xi32>) {{
  %m, %j = reduce inputs = [%v, %i] {{axis = {0}}} : block<{1}xf32>, block<{1}xi32>
  combine(%a: f32, %k: i32, %b: f32, %l: i32) {{
    %left = compare %a, %b {{predicate = "ge"}} : i1
    {2}
    yield values = [%x, %y]
  }}
  return values = [%m, %j]
}}
"""
SELECTS = "%x = select %left, %a, %b : f32\n%y = select %left, %k, %l : i32"
BRANCHES = """%x, %y = if %left : f32, i32 then() {
  yield values = [%a, %k]
} otherwise() {
  yield values = [%b, %l]
}"""


@pytest.mark.parametrize("choice", [SELECTS, BRANCHES], ids=["select", "if"])
@pytest.mark.parametrize(("axis", "length"), [(0, 4), (1, 3)])
def test_reductions_of_several_blocks(axis: int, length: int, choice: str) -> None:
    values = numpy.array([[3, 1, 4, 1], [5, 9, 2, 6], [5, 3, 5, 8]], numpy.float32)
    index = numpy.broadcast_to(numpy.arange(12, dtype=numpy.int32).reshape(3, 4), (3, 4))
    maximum, place = call(ARGMAX.format(axis, length, choice), values, index)
    numpy.testing.assert_array_equal(maximum, values.max(axis))
    numpy.testing.assert_array_equal(values.reshape(-1)[place], maximum)


def test_a_reduction_of_rank_one_is_a_scalar() -> None:
    text = """
function @f(%v: block<5xi32>) -> (i32) {
  %s = reduce inputs = [%v] {axis = 0} : i32 combine(%a: i32, %b: i32) {
    %c = add %a, %b : i32
    yield values = [%c]
  }
  return values = [%s]
}
"""
    assert call(text, numpy.arange(5)) == 10


def test_shapes() -> None:
    text = """
function @f(%x: block<2x3xi32>) -> (block<3x1x2xi32>, block<6xi32>, block<3x4x2xi32>) {
  %t = permute %x {order = [1, 0]} : block<3x2xi32>
  %e = expand_dims %t {axis = 1} : block<3x1x2xi32>
  %r = reshape %t : block<6xi32>
  %b = broadcast %e : block<3x4x2xi32>
  return values = [%e, %r, %b]
}
"""
    x = numpy.arange(6).reshape(2, 3)
    expanded, flat, wide = call(text, x)
    numpy.testing.assert_array_equal(expanded, x.T[:, None, :])
    numpy.testing.assert_array_equal(flat, x.T.reshape(-1))
    numpy.testing.assert_array_equal(wide, numpy.broadcast_to(x.T[:, None, :], (3, 4, 2)))


def test_program_indices_cover_the_grid() -> None:
    text = """
kernel @f(%p: ptr<i32>) {
  %x = program_id {axis = 0} : i32
  %y = program_id {axis = 1} : i32
  %z = program_id {axis = 2} : i32
  %nx = num_programs {axis = 0} : i32
  %ny = num_programs {axis = 1} : i32
  %a = mul %z, %ny : i32
  %b = add %a, %y : i32
  %c = mul %b, %nx : i32
  %d = add %c, %x : i32
  %q = add_pointer %p, %d : ptr<i32>
  store %q, %d
  return
}
"""
    out = numpy.full(24, -1, numpy.int32)
    evaluate(module_of(text), [out], grid=(2, 3, 4))
    assert out.tolist() == list(range(24))


def test_prints_one_line_an_element() -> None:
    text = """
kernel @f(%x: f32) {
  %pid = program_id {axis = 0} : i32
  %i = arange {start = -1, end = 1} : block<2xi32>
  device_print values = [%i, %x] {prefix = "v: "}
  device_print values = [%i] {prefix = "", hex = true}
  device_print {prefix = "here"}
  return
}
"""
    lines: list[str] = []
    evaluate(module_of(text), [0.5], output=lines.append)
    assert lines == [
        "pid (0, 0, 0) idx (0) v: -1",
        "pid (0, 0, 0) idx (1) v: 0",
        "pid (0, 0, 0) v: 0.500000",
        "pid (0, 0, 0) idx (0) ffffffffffffffff",
        "pid (0, 0, 0) idx (1) 0",
        "here",
    ]


def test_assertions_and_promises() -> None:
    text = """
kernel @f(%n: i32) {{
  %i = arange {{start = 0, end = 4}} : block<4xi32>
  %m = splat %n : block<4xi32>
  %c = compare %i, %m {{predicate = "lt"}} : block<4xi1>
  %z = constant {{value = 0}} : i32
  %d = compare %n, %z {{predicate = "gt"}} : i1
  {0}
  return
}}
"""
    asserting = module_of(text.format('device_assert %c {message = "too far"} @1'))
    evaluate(asserting, [4])
    with pytest.raises(EvaluationError, match=r"add.bl:7:3: .*\(0, 0, 0\) at \(2,\): too far"):
        evaluate(asserting, [2])
    assuming = module_of(text.format("assume %d"))
    evaluate(assuming, [1])
    with pytest.raises(EvaluationError, match="the promise is false"):
        evaluate(assuming, [0])


def test_pointers_are_numbers() -> None:
    text = """
function @f(%p: ptr<f32>) -> (i64, i64) {
  %one = constant {value = 3} : u8
  %q = add_pointer %p, %one : ptr<f32>
  %a = bitcast %p : i64
  %b = bitcast %q : i64
  return values = [%a, %b]
}
"""
    first, second = call(text, numpy.zeros(4, numpy.float32))
    assert second - first == 12
    assert first % 256 == 0


def test_arithmetic_of_conditions_is_modulo_two() -> None:
    text = """
function @f(%a: i1, %b: i1) -> (i1, i1, i1, i1, i1) {
  %add = add %a, %b : i1
  %sub = sub %a, %b : i1
  %neg = neg %a : i1
  %not = not %a : i1
  %min = minimum %a, %b : i1
  return values = [%add, %sub, %neg, %not, %min]
}
"""
    for a in (False, True):
        for b in (False, True):
            found = [bool(v) for v in call(text, a, b)]
            assert found == [a ^ b, a ^ b, a, not a, a & b]


@pytest.mark.parametrize("propagate", [False, True])
def test_nan_in_minimum_and_maximum(propagate: bool) -> None:
    text = f"""
function @f(%a: bf16, %b: bf16) -> (bf16, bf16) {{
  %x = minimum %a, %b {{propagate_nan = {str(propagate).lower()}}} : bf16
  %y = maximum %a, %b {{propagate_nan = {str(propagate).lower()}}} : bf16
  return values = [%x, %y]
}}
"""
    found = [float(v) for v in call(text, numpy.nan, 2.0)]
    numpy.testing.assert_array_equal(found, [numpy.nan if propagate else 2.0] * 2)


def test_float8_saturates_and_has_no_infinity() -> None:
    text = """
function @f(%x: block<4xf32>) -> (block<4xf8e4m3>, block<4xf8e5m2>) {
  %a = cast %x : block<4xf8e4m3>
  %b = cast %x : block<4xf8e5m2>
  return values = [%a, %b]
}
"""
    x = numpy.array([500, -numpy.inf, 1e6, numpy.nan], numpy.float32)
    a, b = (v.astype(numpy.float32) for v in call(text, x))
    numpy.testing.assert_array_equal(a, [448, -448, 448, numpy.nan])
    numpy.testing.assert_array_equal(b, [512, -numpy.inf, numpy.inf, numpy.nan])


def test_arrays_must_be_contiguous() -> None:
    text = "kernel @f(%p: ptr<f32>) {\n  return\n}\n"
    with pytest.raises(ValueError, match="contiguous"):
        evaluate(module_of(text), [numpy.zeros((4, 4), numpy.float32)[:, 1]])


def test_every_op_of_block_ir_has_an_evaluator() -> None:
    later = (shared, asynchronous, async_copy, shared_dot)
    for op in REGISTRY.values():
        # Barriers have a meaning at every stage: none that is seen here.
        if not op.is_terminator and op is not Barrier:
            is_later = op.__module__ in {module.__name__ for module in later}
            assert (find_evaluator(op) is None) == is_later, op.mnemonic


def test_what_belongs_to_a_later_stage_is_refused() -> None:
    module = module_of("kernel @f() {\n  return\n}\n")
    kind = SharedType((2,), f32, shared_linear((2,), (0,)))
    buffer = SharedAlloc(loc=module.kernel.loc, result_types=[kind])
    module.kernel.block.insert(0, buffer)
    with pytest.raises(EvaluationError, match="shared_alloc: the reference evaluator cannot do"):
        evaluate(module, [])


def test_every_dtype_is_carried_through_memory() -> None:
    for kind in DTYPES.values():
        check_copy(kind)


def check_copy(kind: DType) -> None:
    text = f"""
kernel @f(%p: ptr<{kind}>, %q: ptr<{kind}>) {{
  %v = load %p : {kind}
  store %q, %v
  return
}}
"""
    source, target = numpy.array([1], kind.numpy), numpy.zeros(1, kind.numpy)
    evaluate(module_of(text), [source, target])
    assert target[0] == source[0] == 1
