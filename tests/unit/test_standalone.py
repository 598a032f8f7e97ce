"""The stage `bl`: the text of a compiled kernel, compiled again, gives the same block IR."""

from __future__ import annotations

import enum
import math
import re
import types

import numpy as np
import pytest

import blocklang
import blocklang.language as tl
from blocklang import language
from blocklang.frontend.lower import lower_kernel
from blocklang.frontend.text import load_text
from blocklang.ir.printer import print_module
from blocklang.ir.types import BlockType, PointerType, f32
from blocklang.kernel import JitFunction, load
from blocklang.language import load as fetch
from blocklang.signature import Bound, bind_signature
from blocklang.standalone import comparable, kernel_text
from examples import layernorm, resident, softmax, vector_add
from tests.suite import CASES
from tests.suite.ahead import signature

EXAMPLES = [
    (module, name)
    for module in (vector_add, softmax, layernorm)
    for name, kernel in vars(module).items()
    if isinstance(kernel, JitFunction)
]
SIZES = {"BLOCK": 128, "COLUMNS": 32, "PIECES": resident.pieces(300, 4, 4)}
"""Compile-time parameters of the examples; the others are counts, of which 4 is one."""
ONE_OF_EACH = {case.kernel: case for case in reversed(CASES.values())}.values()
"""A case for each kernel of the suite: the first."""
COMMENTED = {
    "exp-f16-257": "the value of FUNCTION is compiled in",
    "softmax-of-rows": "the kernel 'softmax' uses that name",
}
"""Those of which the text says that it is not the whole kernel."""


def lowered(tree, types=None, constexprs=None, debug=False):
    """The block IR of a kernel."""
    bound = bind_signature(tree, types or {}, constexprs or {})
    return lower_kernel(
        tree, bound.types, bound.facts, bound.constexprs, {"debug": debug}, say=lambda _: None
    )


def from_text(text, debug=False):
    """The block IR of the only kernel of a text, through the front end of the language."""
    (tree,) = load_text(text, "again.bl").kernels.values()
    return lowered(tree, debug=debug)


def both(kernel, types=None, constexprs=None):
    """The text of a kernel; the block IR of the kernel and of the text, with names."""
    text = kernel.compile(types, constexprs).asm["bl"]
    ours = print_module(lowered(kernel.__blocklang_function__, types, constexprs), False)
    return text, ours, print_module(from_text(text), False)


def comments(text):
    """The comments that the text starts with."""
    return re.findall(r"^# (.*)\n", text, re.M)


@pytest.mark.parametrize(
    ("module", "name"), [pytest.param(*e, id=f"{e[0].__name__}-{e[1]}") for e in EXAMPLES]
)
def test_examples(module, name):
    kernel = vars(module)[name]
    integers, floats = ("row_stride", "rows", "n", "parts"), ("eps",)
    parameters = [p.name for p in kernel.parameters if not p.constexpr]
    given = {
        p: "i32" if p in integers else "fp32" if p in floats else "*bf16:16" for p in parameters
    }
    chosen = {p.name: SIZES.get(p.name, 4) for p in kernel.parameters if p.constexpr}
    text, ours, again = both(kernel, given, chosen)
    assert comments(text) == []
    assert "bl." not in text
    assert ours == again


@pytest.mark.parametrize("case", ONE_OF_EACH, ids=lambda case: case.name)
def test_kernels_of_the_suite(case):
    compiled = case.kernel.compile(signature(case), case.constexprs, "cpu", **case.options)
    text, debug = compiled.asm["bl"], compiled.options.debug
    tree = case.kernel.__blocklang_function__
    ours = lowered(tree, signature(case), case.constexprs, debug)
    again = from_text(text, debug)
    said = comments(text)
    assert len(said) == (case.name in COMMENTED)
    assert all(comment.startswith(COMMENTED[case.name]) for comment in said)
    if again.kernel.name == ours.kernel.name:
        assert print_module(again, False) == print_module(ours, False)
    assert comparable(again) == comparable(ours)


def test_the_suite_has_dozens_of_kernels():
    assert len(ONE_OF_EACH) > 50
    assert set(COMMENTED) <= {case.name for case in ONE_OF_EACH}


# -- what Python spells in its own way -----------------------------------------------------------


class Mode(enum.Enum):
    FAST = 1
    SLOW = 2


SCALE = tl.constexpr(2.5)
BOUNDS = [4, (8, -1)]
WIDTH = np.int64(16)
NOTHING = -math.inf
i32 = 3.0
namespace = types.ModuleType("namespace")
namespace.FACTOR = 0.125


@tl.constexpr_function
def log2(n):
    return n.bit_length() - 1


@blocklang.jit
def add(a, b):
    return a + b


@blocklang.jit
def scaled(x, slope: tl.constexpr = 0.5, sum=SCALE, combine: tl.constexpr = add):
    """Scale."""
    inf = tl.where(x > 0, x, x * slope)
    return combine(max(inf, 0.0), tl.sum(inf, axis=0) * sum)


@blocklang.jit
def captures(x, y, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + language.arange(0, BLOCK)
    v = fetch(x + offsets, mask=offsets < n, other=NOTHING)
    v = v.to(tl.float16).to(language.float32) * math.pi + BOUNDS[1][1] ** 2 + WIDTH + SCALE
    tl.store(y + offsets, tl.math.exp(v) * i32 * namespace.FACTOR, mask=offsets < n)


@blocklang.jit
def calls(x, y, ACT: tl.constexpr, N: tl.constexpr):
    i = tl.arange(0, N)
    v: tl.tensor = scaled(fetch(x + i), sum=3.0)
    v += ACT(v, slope=0.25, sum=1.0)
    tl.store(y + i, max(v, min(v, 4.0)) + max(N, 3) + min(tl.program_id(0), 7))


@blocklang.jit
def hidden(load, where, arange, N: tl.constexpr):
    store = tl.arange(0, N)
    mask = tl.where(store < arange, 1, 0) != 0
    tl.store(where + store, tl.load(load + store, mask=mask), mask=mask)


@blocklang.jit
def specialised(x, stride, rows, extra, negative, N: tl.constexpr, KIND: tl.constexpr):
    i = tl.arange(0, N) * stride + negative
    if extra is not None:
        i += tl.load(extra)
    if KIND[0] == "whole":
        tl.store(x + i, rows)
    else:
        raise ValueError(f"no {KIND}")


@blocklang.jit
def unspeakable(x, mode: tl.constexpr, combine: tl.constexpr, N: tl.constexpr):
    i = tl.arange(0, N)
    bits: tl.constexpr = log2(N)
    v = combine(tl.load(x + i), bits)
    if mode == Mode.FAST:
        v += 1
    tl.store(x + i, v)


@blocklang.jit
def reshaped(x, N: tl.constexpr):
    address = tl.load(x).to(tl.pointer_type(tl.float32))
    tl.store(address, 1.0)


@blocklang.jit
def add_to(x, v, N: tl.constexpr):
    tl.store(x + tl.arange(0, N), v)


COUNT = 5


@blocklang.jit
def assigned_late(x):
    before = COUNT  # noqa: F823
    COUNT = before + 1
    namespace = COUNT
    WIDTH += namespace  # noqa: F823
    tl.store(x, WIDTH)


POINTERS = {"x": "*fp32:16", "y": "*fp32"}


def test_captured_values():
    text, ours, again = both(captures, {**POINTERS, "n": "i64:16"}, {"BLOCK": 64})
    assert ours == again
    assert text == (
        "kernel captures(x: *f32 divisible 16, y: *f32, n: i64 divisible 16, "
        "BLOCK: constexpr = 64):\n"
        "    offsets = program_id(0) * BLOCK + arange(0, BLOCK)\n"
        "    v = load(x + offsets, mask=offsets < n, other=-inf)\n"
        "    v = v.to(f16).to(f32) * 3.141592653589793 + (4, (8, -1))[1][1] ** 2 + 16 + 2.5\n"
        "    store(y + offsets, exp(v) * 3.0 * 0.125, mask=offsets < n)\n"
    )


def test_functions_stand_in_the_text():
    text, ours, again = both(calls, POINTERS, {"ACT": scaled, "N": 32})
    assert ours.replace("%inf", "%inf_") == again
    assert re.findall(r"^(?:kernel|function) .*", text, re.M) == [
        "function add(a, b):",
        "function scaled(x, slope: constexpr = 0.5, sum_=2.5, combine: constexpr = add):",
        "kernel calls(x: *f32 divisible 16, y: *f32, ACT: constexpr = scaled, N: constexpr = 32):",
    ]
    assert "combine(maximum(inf_, 0.0), sum(inf_, axis=0) * sum_)" in text
    # `max` and `min` of blocks are reductions in the language; of scalars they are Python's.
    assert "maximum(v, minimum(v, 4.0)) + max(N, 3) + min(program_id(0), 7)" in text
    # A parameter with another name is called by it.
    assert "scaled(load(x + i), sum_=3.0)" in text
    assert "ACT(v, slope=0.25, sum_=1.0)" in text


def test_names_that_hide_functions_of_the_language():
    kinds = {"load": "*i8", "where": "*i8", "arange": "i32"}
    text = hidden.compile(kinds, {"N": 16}).asm["bl"]
    ours = lowered(hidden.__blocklang_function__, kinds, {"N": 16})
    assert comparable(from_text(text)) == comparable(ours)
    assert comments(text) == [
        f"the parameter '{name}' has a name that the language uses; here: '{name}_'"
        for name in kinds
    ]


def test_globals_with_the_names_of_variables():
    text, ours, again = both(assigned_late, {"x": "*i64"})
    assert ours == again
    assert text == (
        "kernel assigned_late(x: *i64):\n"
        "    before = 5\n    COUNT = before + 1\n    namespace = COUNT\n"
        "    WIDTH = 16 + namespace\n    store(x, WIDTH)\n"
    )


def test_launches_have_the_text_of_their_arguments():
    x = np.zeros(64, np.float32)[:32]
    compiled = captures[(1,)](x, x, 1, BLOCK=32)
    aligned = " divisible 16" * (x.ctypes.data % 16 == 0)
    assert compiled.asm["bl"].startswith(
        f"kernel captures(x: *f32{aligned}, y: *f32{aligned}, n: i32 is 1, BLOCK: constexpr = 32)"
    )


def test_machine_code_is_the_same(tmp_path):
    given = {"x": "*fp32:16", "y": "*fp32:16", "stride": "i32:16", "n": "i32"}
    names = [p.name for p in softmax.softmax.parameters if not p.constexpr]
    types = dict(zip(names, given.values(), strict=True))
    options = {"target": "sm_90a", "num_warps": 2, "line_info": False}
    ours = softmax.softmax.compile(types, {"BLOCK": 256}, **options)
    path = tmp_path / "softmax.bl"
    path.write_text(ours.asm["bl"])
    assert load(path).softmax.compile(**options).asm["ptx"] == ours.asm["ptx"]


def test_specialised_parameters():
    values = {"x": "*i32", "stride": 1, "rows": 2**40, "extra": None, "negative": -2}
    text, ours, again = both(specialised, values, {"N": 16, "KIND": ("whole", 0.5)})
    assert ours == again
    head = text[: text.index(":\n    i")].split("(", 1)[1]
    assert [part.strip() for part in head.removesuffix(",\n)").split(",\n")] == [
        "x: *i32",
        "stride: i32 is 1",
        f"rows: i64 is {2**40}",
        "extra: constexpr = None",
        "negative: constexpr = -2",
        "N: constexpr = 16",
        'KIND: constexpr = ("whole", 0.5)',
    ]
    assert comments(text) == []


def test_what_has_no_spelling_is_said():
    chosen = {"mode": Mode.FAST, "combine": tl.maximum, "N": 32}
    text, ours, again = both(unspeakable, {"x": "*i32"}, chosen)
    assert ours == again
    line = unspeakable.__blocklang_function__.location.line
    assert comments(text) == [
        "the value of mode is compiled in: a parameter cannot have it in .bl",
        "the value of combine is compiled in: a parameter cannot have it in .bl",
        f"in unspeakable, line {line + 2}: log2(N) is written as its value here, 5",
        f"in unspeakable, line {line + 4}: mode == Mode.FAST is written as its value here, True",
    ]


def test_what_cannot_be_written_is_said():
    text = reshaped.compile({"x": "*i64"}, {"N": 1}).asm["bl"]
    first, second = comments(text)
    assert first.endswith("tl.pointer_type cannot be written in .bl")
    assert second.startswith("this text does not compile: ")


def test_types_that_no_signature_can_state_are_said():
    tree = add_to.__blocklang_function__
    bound = Bound({"x": PointerType(f32), "v": BlockType((16,), f32)}, {}, {"N": 16})
    module = lower_kernel(tree, bound.types, bound.facts, bound.constexprs)
    first, second = comments(kernel_text(tree, bound, False, print_module(module)))
    assert first == "the type of the parameter v cannot be written in .bl"
    assert second.startswith("this text does not compile: ")


def test_globals_that_changed_are_said():
    compiled = captures.compile({**POINTERS, "n": "i32"}, {"BLOCK": 64})
    assert comments(compiled.asm["bl"]) == []
    namespace.FACTOR = 0.25
    try:
        said = comments(compiled.asm["bl"])
        namespace.FACTOR = object()
        broken = comments(compiled.asm["bl"])
    finally:
        namespace.FACTOR = 0.125
    assert said == ["this text compiles to other code than the kernel"]
    assert broken[0].startswith("Python's globals have changed since the kernel was compiled: ")
    assert broken[-1].startswith("this text does not compile: ")


def test_text_kernels_take_their_functions_and_constants_along(tmp_path):
    (tmp_path / "common.bl").write_text("const HALF = 0.5\nfunction half(x): return x * HALF\n")
    path = tmp_path / "k.bl"
    path.write_text(
        'from "common.bl" import half as divided\nconst N = 2 * 8\n'
        "kernel k(x: *T, T: constexpr = f16):\n"
        "    p = x + arange(0, N)\n    store(p, divided(max(load(p), 1, keep_dims=True)))\n"
        .replace("max(load(p), 1, keep_dims=True)", "max(load(p), axis=0) + load(p)")
    )  # fmt: skip
    text, ours, again = both(load(path).k)
    assert ours == again
    assert text == (
        "function half(x):\n    return x * 0.5\n\n\n"
        "kernel k(x: *f16, T: constexpr = f16):\n"
        "    p = x + arange(0, 16)\n    store(p, half(max(load(p), axis=0) + load(p)))\n"
    )


def test_messages_are_printed_once(capsys):
    @blocklang.jit
    def talk(x):
        tl.static_print("here")
        tl.store(x, 1.0)

    compiled = talk.compile({"x": "*fp32"})
    assert 'static_print("here")' in compiled.asm["bl"]
    assert capsys.readouterr().out == "here\n"


def test_the_comparison_finds_differences():
    kernel = "kernel k(x: *f32):\n    store(x, {})\n"
    one, two = (from_text(kernel.format(value)) for value in ("1.0", "2.0"))
    assert comparable(one) != comparable(two)
    renamed = from_text("kernel other(y: *f32):\n    store(y, 1.0)\n")
    assert comparable(renamed) == comparable(from_text(kernel.format("1.0")))


def test_other_code_is_said():
    tree = captures.__blocklang_function__
    bound = bind_signature(tree, {**POINTERS, "n": "i32"}, {"BLOCK": 64})
    other = bind_signature(tree, {**POINTERS, "n": "i32"}, {"BLOCK": 32})
    module = lower_kernel(tree, other.types, other.facts, other.constexprs)
    text = kernel_text(tree, bound, False, print_module(module))
    assert comments(text) == ["this text compiles to other code than the kernel"]
