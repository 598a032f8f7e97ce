"""The Python parser: positions in the original file, globals, defaults, annotations, refusals."""

from __future__ import annotations

import linecache
import math
import pickle
from typing import Any

import pytest

from blocklang.frontend import syntax
from blocklang.frontend.errors.syntax import (
    ChainedComparison,
    InvalidArguments,
    LoopElse,
    NestedTooDeeply,
    NotAFunction,
    SourceDoesNotParse,
    SourceUnavailable,
    SyntaxFamily,
    UnsupportedExpression,
    UnsupportedLiteral,
    UnsupportedParameter,
    UnsupportedStatement,
    UnsupportedTarget,
)
from blocklang.frontend.python import parse_python
from blocklang.ir.diagnostics import UserError, catalogue

MODULE_VALUE = 7


def define(source: str, name: str, **scope: Any) -> Any:
    """The function that `source` defines, with its text where notebooks keep theirs."""
    file = f"<cell {abs(hash(source))}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    exec(compile(source, file, "exec"), scope)
    return scope[name]


def parse_source(source: str, name: str, **scope: Any) -> syntax.Function:
    return parse_python(define(source, name, **scope))


def decorator(function: Any) -> Any:
    return function


# fmt: off
class Holder:
    @decorator
    @staticmethod
    def kernel(x, n: int):
        """Adds.

        Twice.
        """
        é = "ü" + x  # a comment
# a comment in the first column
        text = """
text in the first column"""
        return (é,
                text)
# fmt: on


def place(node: syntax.Node) -> tuple[int, int, int, int]:
    p = node.location
    return (p.line, p.column, p.end_line, p.end_column)


def test_positions_of_an_indented_function() -> None:
    tree = parse_python(Holder.kernel)
    first = Holder.kernel.__code__.co_firstlineno
    assert tree.location.file == __file__
    assert tree.location.line == first + 2, "decorators do not belong to it"
    assert tree.location.column == 5
    assert tree.documentation == "Adds.\n\nTwice."
    assign, text, result = tree.body
    assert place(assign) == (first + 7, 9, first + 7, 20)
    assert place(assign.value.right) == (first + 7, 19, first + 7, 20)
    assert place(text) == (first + 9, 9, first + 10, 28)
    assert text.value.value == "\ntext in the first column"
    assert place(result) == (first + 11, 9, first + 12, 22)
    assert {n.location.function for n, _ in syntax.walk(tree)} == {"kernel"}
    assert tree.source.splitlines()[0].strip() == "@decorator"


def test_globals_resolve_closure_module_builtins() -> None:
    captured, later = 3, None

    def kernel():
        return captured, later, MODULE_VALUE, missing, len  # noqa: F821

    scope = parse_python(kernel).globals
    assert scope["captured"] == 3
    later = 5
    assert scope["later"] == 5, "looked up when asked for"
    assert scope["MODULE_VALUE"] == 7
    assert scope["len"] is len
    assert "missing" not in scope
    assert "captured" in set(scope)
    assert len(scope) == len(list(scope))


def test_empty_closure_cell_is_absent() -> None:
    def outer():
        def kernel():
            return unset  # noqa: F821

        tree = parse_python(kernel)
        unset = 1
        del unset
        return tree

    with pytest.raises(KeyError):
        outer().globals["unset"]


def test_parameters() -> None:
    source = """
def f(a, b: "bl.constexpr", /, c: bl.constexpr = -1, d: 'int | None' = None, *,
      e: constexpr[int] = VALUE, g: {1: 2} = 1.5, h: None = (1, 2), i: "x y" = "s"):
    pass
"""
    bl = type("bl", (), {"constexpr": int})
    tree = parse_source(source, "f", bl=bl, constexpr=list, VALUE=[9])
    a, b, c, d, e, g, h, i = tree.parameters
    assert a.annotation is None
    assert [p.is_constexpr for p in tree.parameters] == [False, True, True, False, True] + 3 * [
        False
    ]
    assert b.annotation.name == "constexpr"
    assert c.default == syntax.Unary(
        "-", syntax.Literal(1, location=c.location), location=c.location
    )
    assert (d.default.value, i.default.value) == (None, "s")
    assert isinstance(d.annotation, syntax.Binary)
    assert e.default == syntax.Captured([9], location=e.location)
    assert g.annotation is None
    assert g.default.value == 1.5
    assert h.annotation.value is None
    assert h.default.value == (1, 2)
    assert i.annotation.value == "x y"


def test_defaults_keep_their_value_of_the_definition() -> None:
    kernels = []
    for size in (16, 32):

        def kernel(BLOCK=size):
            return BLOCK

        kernels.append(kernel)
    defaults = [parse_python(kernel).parameters[0].default.value for kernel in kernels]
    assert defaults == [16, 32]


def test_wrapped_function() -> None:
    import functools

    @functools.wraps(Holder.kernel)
    def wrapper(*args):
        return args

    assert parse_python(wrapper).name == "kernel"


STATEMENTS = {
    "with x: pass": (UnsupportedStatement, "with"),
    "try: pass\n    finally: pass": (UnsupportedStatement, "try"),
    "try: pass\n    except* E: pass": (UnsupportedStatement, "try"),
    "del x": (UnsupportedStatement, "del x"),
    "global q; q = 1": (UnsupportedStatement, "global q"),
    "import math": (UnsupportedStatement, "import math"),
    "from math import pi": (UnsupportedStatement, "from math import pi"),
    "def g(): pass": (UnsupportedStatement, "def"),
    "async def g(): pass": (UnsupportedStatement, "async"),
    "class A: pass": (UnsupportedStatement, "class"),
    "match x:\n        case 1: pass": (UnsupportedStatement, "match"),
    "raise A from B": (UnsupportedStatement, "raise A from B"),
    "for i in x: pass\n    else: y = 'else:'": (LoopElse, "else"),
    "while x: pass  # else:\n    else :\n        y": (LoopElse, "else"),
    "y = lambda: x": (UnsupportedExpression, "lambda: x"),
    "y = [i for i in x]": (UnsupportedExpression, "[i for i in x]"),
    "y = {i for i in x}": (UnsupportedExpression, "{i for i in x}"),
    "y = {i: i for i in x}": (UnsupportedExpression, "{i: i for i in x}"),
    "y = sum(i for i in x)": (UnsupportedExpression, "(i for i in x)"),
    "y = (yield)": (UnsupportedExpression, "yield"),
    "yield from x": (UnsupportedExpression, "yield from x"),
    "f((y := 3))": (UnsupportedExpression, "y := 3"),
    "y = {1: 2}": (UnsupportedExpression, "{1: 2}"),
    "y = {1, 2}": (UnsupportedExpression, "{1, 2}"),
    "y = (*x, 1)": (UnsupportedExpression, "*x"),
    "y = 1j + 1": (UnsupportedLiteral, "1j"),
    "y = b'a'": (UnsupportedLiteral, "b'a'"),
    "y = x[..., 0]": (UnsupportedLiteral, "..."),
    "y = 1 < x < 2": (ChainedComparison, "1 < x < 2"),
    "x[0] = 1": (UnsupportedTarget, "x[0]"),
    "x.y = 1": (UnsupportedTarget, "x.y"),
    "x[0] += 1": (UnsupportedTarget, "x[0]"),
    "y, *z = x": (UnsupportedTarget, "*z"),
    "for x.y in z: pass": (UnsupportedTarget, "x.y"),
    "f(**x)": (InvalidArguments, "**x"),
}


@pytest.mark.parametrize("statement", STATEMENTS)
@pytest.mark.parametrize("prefix", ["", "α = 'é'; "], ids=["", "after wide characters"])
def test_refusals_point_at_the_construct(statement: str, prefix: str) -> None:
    error, marked = STATEMENTS[statement]
    compound = statement.split()[0].rstrip(":") in (
        "with",
        "try",
        "def",
        "async",
        "class",
        "match",
        "for",
        "while",
    )
    if prefix and compound:
        prefix = ""
    source = f"def f(x):\n    {prefix}{statement}\n"
    with pytest.raises(error) as caught:
        parse_source(source, "f")
    place = caught.value.location
    assert place is not None
    line = source.splitlines()[place.line - 1]
    assert line[place.column - 1 : place.end_column - 1] == marked
    assert place.line == place.end_line
    assert caught.value.help


def test_chained_comparison_shows_the_replacement() -> None:
    with pytest.raises(ChainedComparison) as caught:
        parse_source("def f(a, n):\n    return 0 <= a + 1 < n\n", "f")
    assert caught.value.help == "write '(0 <= a + 1) & (a + 1 < n)'"


def test_variadic_parameters() -> None:
    for parameter in ("*rest", "**rest"):
        with pytest.raises(UnsupportedParameter, match=parameter.replace("*", r"\*")):
            parse_source(f"def f(x, {parameter}):\n    pass\n", "f")


@pytest.mark.parametrize("thing", [int, print, math, 3, Holder(), lambda x: x, None, "text"])
def test_only_functions(thing: object) -> None:
    with pytest.raises(NotAFunction):
        parse_python(thing)


def test_async_function() -> None:
    with pytest.raises(UnsupportedStatement, match="async"):
        parse_source("async def f(x):\n    pass\n", "f")


def test_source_must_be_at_hand() -> None:
    scope: dict[str, Any] = {}
    exec("def f(x): pass", scope)
    with pytest.raises(SourceUnavailable, match="linecache"):
        parse_python(scope["f"])


@pytest.mark.parametrize("changed", ["def g(x):\n    pass\n", "def f(x:\n", "x = 1\n", "\n"])
def test_changed_source(changed: str) -> None:
    function = define("\ndef f(x):\n    return x\n", "f")
    file = function.__code__.co_filename
    linecache.cache[file] = (1, None, ["\n", *changed.splitlines(keepends=True)], file)
    with pytest.raises((SourceDoesNotParse, SourceUnavailable)):
        parse_python(function)


@pytest.mark.parametrize("depth", [150, 190, 250, 900])
def test_depth(depth: int) -> None:
    source = "def f(x):\n    return x" + " + x" * depth + "\n"
    if depth < 196:
        assert parse_source(source, "f").body
        return
    with pytest.raises(NestedTooDeeply) as caught:
        parse_source(source, "f")
    assert caught.value.location is not None


def test_catalogue() -> None:
    classes = [error for error in catalogue() if issubclass(error, SyntaxFamily)]
    assert len(classes) > 30
    assert [error.code for error in classes] == sorted(error.code for error in classes)
    for error in classes:
        assert error.explanation()
        assert str(error(**dict.fromkeys(error.fields(), "x"))).startswith(f"error[{error.code}]: ")


def test_errors_survive_pickling() -> None:
    error = UnsupportedParameter(None, (("note", None),), parameter="*x")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is UnsupportedParameter
    assert str(again) == str(error)
    assert again.code == "BL106"


def test_catalogue_refuses_incomplete_classes() -> None:
    with pytest.raises(TypeError, match="BL106 is both"):

        class Again(UserError, code="BL106"):
            """Text."""

            message, example = "m", "e"

    with pytest.raises(TypeError, match="needs a docstring"):

        class Bare(UserError, code="BL999"):
            message = "m"
