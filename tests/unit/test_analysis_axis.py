"""What the axis analysis finds in the index arithmetic of real kernels, and what it must not."""

from __future__ import annotations

import pytest

from blocklang.ir.analysis.axis import AxisAnalysis, analyze_axes
from blocklang.ir.core import Function, Value
from blocklang.ir.ops.memory import Load
from blocklang.ir.parser import parse


def analyze(body: str, arguments: str = "") -> tuple[Function, AxisAnalysis]:
    function = parse(f"kernel @k({arguments}) {{\n{body}\nreturn\n}}").kernel
    return function, analyze_axes(function)


def value(function: Function, name: str) -> Value:
    found = [r for op in function.walk() for r in op.results if r.name == name]
    found += [a for op in function.walk() for r in op.regions for a in r.block.arguments]
    return next(v for v in found if v.name == name)


SOFTMAX = """
    %pid = program_id {axis = 0} : i32
    %start = mul %pid, %stride : i32
    %cols = arange {start = 0, end = 1024} : block<1024xi32>
    %row = add_pointer %x, %start : ptr<f32>
    %rows = splat %row : block<1024xptr<f32>>
    %p = add_pointer %rows, %cols : block<1024xptr<f32>>
    %ns = splat %n : block<1024xi32>
    %mask = compare %cols, %ns {predicate = "lt"} : block<1024xi1>
    %v = load %p, mask = %mask : block<1024xf32>
"""


@pytest.mark.parametrize(
    ("alignment", "stride", "bytes", "width"),
    [(16, 16, 4, 4), (16, 16, 2, 8), (16, 2, 4, 2), (16, 1, 4, 1), (4, 16, 4, 1), (8, 16, 4, 2)],
)
def test_rows_are_read_as_wide_as_pointer_and_stride_allow(
    alignment: int, stride: int, bytes: int, width: int
) -> None:
    text = f"""%x: ptr<f32> {{divisible = {alignment}}},
               %stride: i32 {{divisible = {stride}}}, %n: i32"""
    body = SOFTMAX
    if bytes == 2:
        text, body = text.replace("f32", "f16"), body.replace("f32", "f16")
    function, axes = analyze(body, text)
    (load,) = (op for op in function.walk() if isinstance(op, Load))
    assert axes.vector_width(load.pointer, 0, bytes) == width


@pytest.mark.parametrize(("divisible", "constancy"), [(16, 16), (64, 64), (1, 1)])
def test_a_mask_is_constant_where_the_bound_is_divisible(divisible: int, constancy: int) -> None:
    function, axes = analyze(
        SOFTMAX, f"%x: ptr<f32>, %stride: i32, %n: i32 {{divisible = {divisible}}}"
    )
    assert axes.mask_constancy(value(function, "mask"), 0) == constancy


def mask_constancy(predicate: str, bound: int, swapped: bool = False) -> int:
    operands = "%b, %x" if swapped else "%x, %b"
    function, axes = analyze(f"""
        %x = arange {{start = 0, end = 64}} : block<64xi32>
        %b = constant {{value = {bound}}} : block<64xi32>
        %mask = compare {operands} {{predicate = "{predicate}"}} : block<64xi1>""")
    return axes.mask_constancy(value(function, "mask"), 0)


@pytest.mark.parametrize(
    ("predicate", "bound", "constancy"),
    [("lt", 16, 16), ("ge", 16, 16), ("le", 16, 1), ("gt", 16, 1), ("le", 15, 16), ("gt", 15, 16),
     ("lt", 15, 1), ("ge", 24, 8), ("eq", 16, 1), ("ne", 16, 1), ("lt", 0, 64)],
)  # fmt: skip
def test_each_predicate_changes_at_its_own_place(
    predicate: str, bound: int, constancy: int
) -> None:
    assert mask_constancy(predicate, bound) == constancy
    swapped = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le"}.get(predicate, predicate)
    assert mask_constancy(swapped, bound, swapped=True) == constancy


GEMM_OFFSETS = """
    %pid = program_id {axis = 0} : i32
    %size = constant {value = 64} : i32
    %first = OP %pid, %size : i32
    %firsts = splat %first : block<64xi32>
    %lanes = arange {start = 0, end = 64} : block<64xi32>
    %sum = add %firsts, %lanes : block<64xi32>
    %ns = splat %n : block<64xi32>
    %offs = rem %sum, %ns : block<64xi32>
    %blocks = div %sum, %ns : block<64xi32>
"""


def test_a_remainder_keeps_runs_of_what_is_not_negative() -> None:
    function, axes = analyze(GEMM_OFFSETS.replace("OP", "mul"), "%n: i32 {divisible = 16}")
    assert axes.info[value(function, "sum")].contiguity == (64,)
    assert axes.info[value(function, "offs")].contiguity == (16,)
    assert axes.info[value(function, "offs")].divisibility == (16,)
    assert axes.info[value(function, "blocks")].constancy == (16,)


def test_a_remainder_of_what_may_be_negative_has_no_runs() -> None:
    text = GEMM_OFFSETS.replace("OP", "mul").replace("%pid, %size", "%m, %size")
    function, axes = analyze(text, "%n: i32 {divisible = 16}, %m: i32")
    assert axes.info[value(function, "offs")].contiguity == (1,)
    assert axes.info[value(function, "blocks")].constancy == (1,)
    known = "%n: i32 {divisible = 16}, %m: i32 {minimum = 0}"
    function, axes = analyze(text, known)
    assert axes.info[value(function, "offs")].contiguity == (16,)


TILE = """
    %i = arange {start = 0, end = 32} : block<32xi32>
    %j = arange {start = 0, end = 64} : block<64xi32>
    %strides = splat %stride : block<32xi32>
    %down = mul %i, %strides : block<32xi32>
    %rows = expand_dims %down {axis = 1} : block<32x1xi32>
    %columns = expand_dims %j {axis = 0} : block<1x64xi32>
    %wide = broadcast %rows : block<32x64xi32>
    %tall = broadcast %columns : block<32x64xi32>
    %offs = add %wide, %tall : block<32x64xi32>
    %turned = permute %offs {order = [1, 0]} : block<64x32xi32>
    %base = splat %x : block<32x64xptr<f16>>
    %p = add_pointer %base, %offs : block<32x64xptr<f16>>
"""


def test_a_tile_is_contiguous_along_its_rows() -> None:
    function, axes = analyze(TILE, "%x: ptr<f16> {divisible = 16}, %stride: i32 {divisible = 16}")
    assert axes.info[value(function, "offs")].contiguity == (1, 64)
    assert axes.info[value(function, "offs")].divisibility == (1, 16)
    assert axes.info[value(function, "turned")].contiguity == (64, 1)
    assert axes.info[value(function, "p")].divisibility == (2, 16)
    assert axes.vector_width(value(function, "p"), 1, 2) == 8
    assert axes.vector_width(value(function, "p"), 0, 2) == 1
    assert axes.info[value(function, "wide")].constancy == (1, 64)


LOOP = """
    %zero = constant {value = 0} : i32
    %step = constant {value = STEP} : i32
    %lanes = arange {start = 0, end = 64} : block<64xi32>
    %steps = constant {value = STEP} : block<64xi32>
    %last = for %zero, %n, %step, initial = [%lanes] : block<64xi32>
    body(%k: i32, %offs: block<64xi32>) {
      %ks = splat %k : block<64xi32>
      %here = add %ks, %lanes : block<64xi32>
      %next = add %offs, %steps : block<64xi32>
      yield values = [%next]
    }
"""


@pytest.mark.parametrize(("step", "divisor"), [(64, 64), (24, 8), (1, 1)])
def test_loop_indices_and_advanced_offsets(step: int, divisor: int) -> None:
    function, axes = analyze(LOOP.replace("STEP", str(step)), "%n: i32")
    for name in ("here", "offs", "last"):
        info = axes.info[value(function, name)]
        assert (info.contiguity, info.divisibility) == ((64,), (divisor,)), name


def test_a_loop_that_shifts_converges_by_widening() -> None:
    function, axes = analyze(
        """
        %zero = constant {value = 0} : i32
        %one = constant {value = 1} : i32
        %big = constant {value = 1048576} : i32
        %last = for %zero, %n, %one, initial = [%big] : i32 body(%k: i32, %x: i32) {
          %half = shr %x, %one : i32
          yield values = [%half]
        }""",
        "%n: i32",
    )
    assert axes.info[value(function, "last")].divisibility == (1,)


def test_hints_are_believed() -> None:
    function, axes = analyze(
        """
        %many = splat %n : block<64xi32>
        %lanes = arange {start = 0, end = 64} : block<64xi32>
        %sum = mul %many, %lanes : block<64xi32>
        %multiple = hint %sum {divisibility = [16]} : block<64xi32>
        %hinted = hint %multiple {contiguity = [64]} : block<64xi32>
        %ones = hint %sum {constancy = [4]} : block<64xi32>""",
        "%n: i32",
    )
    info = axes.info[value(function, "hinted")]
    assert (info.contiguity, info.divisibility) == ((64,), (16,))
    assert axes.info[value(function, "ones")].constancy == (4,)


def test_reductions_keep_what_all_elements_share() -> None:
    function, axes = analyze(
        TILE
        + """
        %sixteen = constant {value = 16} : block<32x64xi32>
        %scaled = mul %tall, %sixteen : block<32x64xi32>
        %sum = reduce inputs = [%scaled] {axis = 1} : block<32xi32> combine(%a: i32, %b: i32) {
          %c = add %a, %b : i32
          yield values = [%c]
        }""",
        "%x: ptr<f16>, %stride: i32",
    )
    info = axes.info[value(function, "sum")]
    assert (info.contiguity, info.divisibility, info.constancy) == ((1,), (16,), (32,))


def test_blocks_of_odd_sizes_are_not_read_across_their_end() -> None:
    body = SOFTMAX.replace("1024", "12").replace("%start = mul %pid, %stride : i32",
                                                 "%start = constant {value = 0} : i32")  # fmt: skip
    function, axes = analyze(body.replace("f32", "f16"), "%x: ptr<f16> {divisible = 16}, %n: i32")
    assert axes.info[value(function, "p")].contiguity == (16,)
    assert axes.vector_width(value(function, "p"), 0, 2) == 4
