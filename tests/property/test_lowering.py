"""Random kernels: control flow means what Python means; anything lowers or is explained."""

from __future__ import annotations

from textwrap import indent
from typing import Any

import numpy
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from blocklang.frontend.lower import lower_kernel
from blocklang.frontend.text import load_text
from blocklang.ir.core import Module
from blocklang.ir.diagnostics import CompileError, UserError
from blocklang.ir.evaluate import evaluate
from blocklang.ir.parser import parse
from blocklang.ir.printer import print_module
from blocklang.signature import bind_signature

VARIABLES = ("a", "b", "c")
SIZE = 64
SETTINGS = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


def compiled(source: str) -> Module:
    """The verified module of the only kernel of a `.bl` text; its text can be read back."""
    (kernel,) = load_text(source).kernels.values()
    module = lower_kernel(kernel, bind_signature(kernel, {}, {}).types)
    assert print_module(parse(print_module(module))) == print_module(module)
    return module


# ---------------------------------------------------------------- control flow against Python


@st.composite
def conditions(draw: st.DrawFn) -> str:
    left, right = draw(st.sampled_from(VARIABLES)), draw(st.sampled_from((*VARIABLES, "3", "n")))
    test = f"{left} {draw(st.sampled_from(('<', '==', '>=')))} {right}"
    return draw(st.sampled_from((test, test, f"not {test}", f"{test} and n > 1", "MODE == 1")))


@st.composite
def assignments(draw: st.DrawFn) -> str:
    target = draw(st.sampled_from((*VARIABLES, "d")))
    x, y = (draw(st.sampled_from((*VARIABLES, "n", "2", "7"))) for _ in range(2))
    condition = draw(conditions())
    value = draw(
        st.sampled_from(
            (f"{x} + {y}", f"{x} * 3 - {y}", f"{x} if {condition} else {y}", f"mix({x}, {y})", x)
        )
    )
    if target == "d":
        return f"d = {value}\na = d & 255"
    return f"{target} = ({value}) & 255"


@st.composite
def statements(draw: st.DrawFn, depth: int, loop: str) -> str:
    """A few statements; `loop` says what is around: "", "runtime" or "static"."""
    lines = []
    for _ in range(draw(st.integers(1, 3))):
        kinds = ["assign", "assign", "store"]
        kinds += ["if", "if", "for", "while", "static"] if depth else []
        kinds += ["break", "continue"] if loop and depth < 3 else []
        kinds += ["return"] if loop != "runtime" and depth < 3 else []
        lines.append(draw(statement(draw(st.sampled_from(kinds)), depth, loop)))
    return "\n".join(lines)


@st.composite
def statement(draw: st.DrawFn, kind: str, depth: int, loop: str) -> str:
    def block(inner: str) -> str:
        return indent(draw(statements(depth - 1, inner)), "    ")

    if kind == "assign":
        return draw(assignments())
    if kind == "store":
        return f"store(p + ({draw(st.sampled_from(VARIABLES))} & {SIZE - 1}), a + b)"
    if kind == "return":
        return f"if {draw(conditions())}:\n    return"
    if kind in ("break", "continue"):
        return f"if {draw(conditions())}:\n    {kind}"
    if kind == "if":
        text = f"if {draw(conditions())}:\n{block(loop)}"
        return text + (f"\nelse:\n{block(loop)}" if draw(st.booleans()) else "")
    if kind == "while":
        # The bound keeps it finite, whatever the body does.
        counter = f"w{depth}"
        return (
            f"{counter} = 0\nwhile {counter} < 4 and ({draw(conditions())}):\n"
            f"    {counter} += 1\n{block('runtime')}"
        )
    header = draw(
        st.sampled_from(("range(3)", "range(n & 3)", "range(4, 0, -2)", "range(a, a + 4, 2)"))
    )
    header = "static_range(3)" if kind == "static" else header
    inner = loop if kind == "static" and loop == "runtime" else kind
    return f"for i{depth} in {header}:\n{block('static' if inner == 'static' else 'runtime')}"


KERNEL = """
function mix(x, y):
    if x > y:
        return x - y
    return y + 1

kernel k(p: *i32, n: i32, MODE: constexpr = 1):
    a = 1
    b = n
    c = 5
{body}
    store(p, a + b * 3 + c * 7)
"""


class Memory(numpy.ndarray):
    """An array whose additions are places, for running kernels in Python."""

    def __add__(self, offset: Any) -> Any:
        return self, offset


def run_python(source: str, memory: Any, n: int) -> None:
    """What the kernel does when Python runs it."""
    python = source.replace("function", "def").replace("kernel k", "def k")
    python = python.replace("p: *i32, n: i32, MODE: constexpr = 1", "p, n, MODE=1")
    python = python.replace("static_range", "range")

    def store(place: Any, value: int) -> None:
        array, offset = place if isinstance(place, tuple) else (place, 0)
        array[offset] = value

    space: dict[str, Any] = {"store": store}
    exec(python, space)
    space["k"](memory.view(Memory), n)


@SETTINGS
@given(statements(3, ""), st.integers(0, 9))
@example("for i in range(3):\n    if a < n:\n        break\n    a = (a + 3) & 255", 2)
@example("for i in static_range(3):\n    if a < n:\n        continue\n    b = (b + i) & 255", 2)
def test_control_flow_means_what_python_means(body: str, n: int) -> None:
    source = KERNEL.format(body=indent(body, "    "))
    expected = numpy.full(SIZE, -1, numpy.int32)
    try:
        run_python(source, expected, n)
    except UnboundLocalError:
        # Python finds at run time what the compiler refuses in any case.
        return
    try:
        module = compiled(source)
    except UserError as error:
        # A name that is not assigned on all ways, or more exits than the compiler takes.
        if error.code not in ("BL203", "BL201", "BL418"):
            raise AssertionError(source) from error
        return
    actual = numpy.full(SIZE, -1, numpy.int32)
    evaluate(module, [actual, n])
    numpy.testing.assert_array_equal(actual, expected, err_msg=source)


# ---------------------------------------------------------------- well- and ill-typed expressions

ATOMS = ("x", "n", "s", "p", "v", "w", "m", "t", "None", "1", "-3", "2.5", "True", '"a"', "f16")
OPERATORS = ("+", "-", "*", "/", "//", "%", "&", "|", "^", "<<", ">>", "<", "==", "and", "or", "is")
CALLS = (
    "exp({})", "load({})", "load({}, mask={})", "where({}, {}, {})", "sum({})", "max({}, 0)",
    "{}.to({})", "maximum({}, {})", "arange(0, {})", "zeros({}, {})", "{}[:, None]", "{}[None]",
    "{}[0]", "reshape({}, 2, 4)", "trans({})", "argmax({}, {})", "({}, {})", "-({})", "~({})",
    "not ({})", "{} if {} else {}", "cdiv({}, {})", "helper({}, {})", "reduce({}, 0, helper)",
    "{}.dtype", "{}.shape", "softmax({})", "multiple_of({}, {})", "full((4, 2), {}, {})",
    "fma({}, {}, {})", "min({}, {})", "len({})", "float({})", "broadcast_to({}, 8, 8)",
)  # fmt: skip


def combined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Expressions that contain expressions."""

    def fill(template: str) -> st.SearchStrategy[str]:
        parts = st.tuples(*[inner] * template.count("{}"))
        return parts.map(lambda values: template.format(*values))

    binary = st.tuples(inner, st.sampled_from(OPERATORS), inner).map(" ".join).map("({})".format)
    return binary | st.sampled_from(CALLS).flatmap(fill)


TYPED = """
function helper(a, b):
    if b is None:
        return a
    return a + b

kernel k(p: *f32, n: i32, s: u8, x: bf16):
    v = arange(0, 8)
    w = load(p + v)
    m = v < n
    t = w[:, None] * w[None, :]
    {target} = {value}
    for i in range(n):
        {target} = {loop}
    if {condition}:
        {target} = {value}
    store({pointer}, {target})
"""

EXPRESSIONS = st.recursive(st.sampled_from(ATOMS), combined, max_leaves=5)


@settings(SETTINGS, max_examples=400)
@given(st.sampled_from(("y", "w", "n")), st.lists(EXPRESSIONS, min_size=4, max_size=4))
def test_anything_lowers_or_is_explained(target: str, parts: list[str]) -> None:
    value, loop, condition, pointer = parts
    source = TYPED.format(
        target=target, value=value, loop=loop, condition=condition, pointer=pointer
    )
    caught: CompileError | None = None
    try:
        compiled(source)
    except CompileError as error:
        caught = error
    if caught is not None:
        assert isinstance(caught, UserError), source
        assert caught.location is not None, source
        assert "{" not in caught.message, source
        assert str(caught).startswith("<text>:")
