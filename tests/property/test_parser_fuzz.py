"""Any text gives a tree or an error of the catalogue, and trees survive printing."""

from __future__ import annotations

import inspect
import keyword
import linecache
import re
import warnings
from functools import partial

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from blocklang.frontend import syntax
from blocklang.frontend.python import parse_python
from blocklang.frontend.text import parse_text
from blocklang.frontend.unparse import RESERVED_NAMES, unparse
from blocklang.ir.diagnostics import UserError, render
from blocklang.ir.location import SYNTHETIC

PROGRAM = '''"""Text."""
from "a.bl" import (f as g, h,)
const A = 1.5e-3 * -2

function f(x, y=2.0):
    """Text
       more."""
    return x[:, None, 1:2:3], f"a{x + 1}{{}}\\n", "s" 'd'

kernel k(x: *f32 divisible 16, n: i32 is 1, B: constexpr = 0xff):
    for i, (j, k) in range(0, n, -1):
        if i is not None and not j or x not in (k, [n]): a, b = b, a
        elif n: x += ~y ** 2
        else:
            # comment
            N: constexpr = (a if b
                            else c)
            while True:
                break
    assert n, "message"
    store(x, *y, mask=x < y, other=-inf)
    pass
'''
ODD = """lambda def with yield @ $ { } ' \\ && 1.0f 0x ... := é ² ; 1_ f'{ b'' 12j \"\"\" async"""
WHITE = ["\n", "    ", "\t", "\0", "\f", "\r", "\u2028"]
TOKENS = [*re.findall(r"\w+|\"\w*\"|\s+|[^\w\s]", PROGRAM), *ODD.split(), *WHITE]
BOUNDED = settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def parses_or_explains(text: str) -> syntax.File | None:
    """The tree of `text`; None after an error whose place lies in the text."""
    try:
        return parse_text(text)
    except UserError as caught:
        error = caught
    message = render(error)
    assert error.location is not None, message
    lines = re.split(r"\r\n|\r|\n", text.removeprefix("\ufeff"))
    assert 1 <= error.location.line <= len(lines), message
    assert 1 <= error.location.column <= len(lines[error.location.line - 1]) + 1, message
    assert "{" not in type(error).message.format_map(dict.fromkeys(error.fields(), ""))
    return None


@BOUNDED
@given(st.text())
@example("x" * 100_000)
@example("(" * 100_000)
@example("[\n" * 1000)
@example("    x")
@example('"""')
@example("function f():\n  return '\\ud800'")
@example("const a = " + "9" * 5000)
def test_any_text(text: str) -> None:
    parses_or_explains(text)


@BOUNDED
@given(st.lists(st.sampled_from(TOKENS), max_size=40), st.sampled_from(["", "kernel k():\n    "]))
def test_any_tokens(tokens: list[str], start: str) -> None:
    parses_or_explains(start + "".join(tokens))


@BOUNDED
@given(
    st.lists(
        st.tuples(st.integers(0, len(PROGRAM)), st.integers(0, 12), st.sampled_from([*TOKENS, ""])),
        min_size=1,
        max_size=3,
    )
)
def test_edited_programs(edits: list[tuple[int, int, str]]) -> None:
    text = PROGRAM
    for start, length, token in edits:
        text = text[:start] + token + text[start + length :]
    tree = parses_or_explains(text)
    if tree is not None:
        assert parse_text(unparse(tree)) == tree


def test_the_program_itself() -> None:
    tree = parse_text(PROGRAM)
    assert parse_text(unparse(tree)) == tree
    assert unparse(parse_text(unparse(tree))) == unparse(tree)


@BOUNDED
@given(
    st.lists(
        st.tuples(
            st.integers(0, 60), st.sampled_from([*TOKENS, "walrus := 1", "lambda: 0", "async"])
        ),
        min_size=1,
        max_size=4,
    )
)
def test_edited_python_functions(edits: list[tuple[int, str]]) -> None:
    body = PROGRAM[PROGRAM.index("    for i") :].replace("inf", "x").replace("constexpr", "int")
    words = re.findall(r"\w+|\s+|[^\w\s]", body)
    for index, token in edits:
        words[index % len(words)] = token
    text = "def f(x, n):\n" + "".join(words)
    linecache.cache["<fuzz>"] = (len(text), None, text.splitlines(keepends=True), "<fuzz>")
    scope: dict[str, object] = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(compile(text.partition("\nraise")[0], "<fuzz>", "exec"), scope)
    except Exception:
        assume(False)
    try:
        tree = parse_python(scope["f"])
    except UserError as error:
        render(error)
        return
    again = unparse(tree)
    if not RESERVED_NAMES & set(re.findall(r"\w+", text)):
        assert parse_text(again).functions[0].body == tree.body


# -- random trees ----------------------------------------------------------------------------

at = partial(st.builds, location=st.just(SYNTHETIC))
names = st.one_of(
    st.sampled_from(
        ["x", "y", "kernel", "function", "const", "divisible", "ä", "iffy", "f", "r", "e1"]
    ),
    st.from_regex(r"[a-z_][a-z0-9_]{0,4}", fullmatch=True),
).filter(lambda n: n not in RESERVED_NAMES and not keyword.iskeyword(n))
strings = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
literals = at(
    syntax.Literal,
    st.one_of(
        st.integers(0, 2**70),
        st.floats(min_value=0.0) | st.just(float("nan")),
        st.booleans(),
        st.none(),
        strings,
    ).filter(lambda value: not repr(value).startswith("-")),
)


def format_strings(
    inner: st.SearchStrategy[syntax.Expression],
) -> st.SearchStrategy[syntax.Expression]:
    texts = at(syntax.Literal, strings.filter(bool))
    # The parsers join adjacent texts, and a string in braces is not one of the texts.
    values = inner.filter(lambda e: not (isinstance(e, syntax.Literal) and type(e.value) is str))
    pairs = st.lists(st.tuples(st.lists(texts, max_size=1), values), max_size=3)
    parts = pairs.map(lambda found: tuple(e for text, value in found for e in (*text, value)))
    return at(syntax.FormatString, parts)


def compound(inner: st.SearchStrategy[syntax.Expression]) -> st.SearchStrategy[syntax.Expression]:
    several = st.lists(inner, max_size=3).map(tuple)
    binary = ["+", "-", "*", "/", "//", "%", "**", "<<", ">>", "&", "|", "^"]
    compare = ["==", "!=", "<", "<=", ">", ">=", "is", "is_not", "in", "not_in"]
    maybe = st.none() | inner
    keywords = st.lists(inner, max_size=2).map(
        lambda values: tuple(
            syntax.Keyword(name, value, location=SYNTHETIC)
            for name, value in zip(("mask", "other"), values, strict=False)
        )
    )
    index = inner | at(syntax.Slice, maybe, maybe, maybe)
    return st.one_of(
        at(syntax.Attribute, inner, names),
        at(syntax.Subscript, inner, st.lists(index, max_size=3).map(tuple)),
        at(syntax.Tuple, several),
        at(
            syntax.Call,
            inner,
            st.lists(inner | at(syntax.Starred, inner), max_size=3).map(tuple),
            keywords,
        ),
        at(syntax.Unary, st.sampled_from(["-", "+", "~", "not"]), inner),
        at(syntax.Binary, st.sampled_from(binary), inner, inner),
        at(syntax.Compare, st.sampled_from(compare), inner, inner),
        at(
            syntax.Boolean,
            st.sampled_from(["and", "or"]),
            st.lists(inner, min_size=2, max_size=3).map(tuple),
        ),
        at(syntax.Conditional, inner, inner, inner),
        format_strings(inner),
    )


variables = at(syntax.Name, names)
expressions = st.recursive(literals | variables, compound, max_leaves=8)
targets = st.recursive(
    variables,
    lambda t: at(syntax.Tuple, st.lists(t, min_size=1, max_size=3).map(tuple)),
    max_leaves=4,
)
simple = st.one_of(
    at(syntax.Assign, st.lists(targets, min_size=1, max_size=2).map(tuple), expressions),
    at(
        syntax.AugmentedAssign,
        variables,
        st.sampled_from(["+", "//", "**", ">>", "^"]),
        expressions,
    ),
    at(syntax.AnnotatedAssign, variables, expressions, st.none() | expressions),
    at(syntax.ExpressionStatement, expressions),
    at(syntax.Return, st.none() | expressions),
    at(syntax.Assert, expressions, st.none() | expressions),
    at(syntax.Raise, st.none() | expressions),
    at(syntax.Pass),
)


def blocks(inner: st.SearchStrategy[syntax.Statement]) -> st.SearchStrategy[syntax.Statement]:
    body = st.lists(inner, min_size=1, max_size=3).map(tuple)
    loop_body = st.lists(inner | at(syntax.Break) | at(syntax.Continue), min_size=1, max_size=2)
    return st.one_of(
        at(syntax.If, expressions, body, st.just(()) | body),
        at(syntax.For, targets, expressions, loop_body.map(tuple)),
        at(syntax.While, expressions, loop_body.map(tuple)),
    )


bodies = st.lists(st.recursive(simple, blocks, max_leaves=4), min_size=1, max_size=3).map(tuple)
types = st.recursive(
    variables | at(syntax.Attribute, variables, names),
    lambda t: at(syntax.Unary, st.just("*"), t),
    max_leaves=3,
)
facts = st.lists(
    st.tuples(st.just("divisible"), st.integers(1, 99))
    | st.tuples(st.just("value"), st.integers(0, 9)),
    max_size=2,
    unique_by=lambda fact: fact[0],
).map(tuple)


@st.composite
def functions(draw: st.DrawFn) -> syntax.Function:
    is_kernel = draw(st.booleans())
    parameters = []
    for name in draw(st.lists(names, max_size=4, unique=True)):
        annotation = draw(types if is_kernel else st.none() | types)
        parameters.append(
            syntax.Parameter(
                name,
                annotation,
                draw(st.none() | expressions),
                syntax.is_constexpr(annotation),
                draw(facts) if is_kernel else (),
                location=SYNTHETIC,
            )
        )
    documentation = inspect.cleandoc(draw(st.just("") | strings))
    return syntax.Function(
        draw(names), tuple(parameters), draw(bodies), is_kernel, documentation, location=SYNTHETIC
    )


@BOUNDED
@given(functions())
def test_trees_survive_printing(tree: syntax.Function) -> None:
    text = unparse(tree)
    (again,) = parse_text(text).functions
    assert again == tree, text


@BOUNDED
@given(expressions)
def test_expressions_survive_printing(tree: syntax.Expression) -> None:
    text = unparse(tree)
    again = parse_text(f"const result = {text}").constants[0].value
    # A subscript by one tuple is a subscript by its items, in Python too.
    assert again == tree, text


@pytest.mark.parametrize(
    "source",
    [
        "(a, b)[(c, d)]",
        "-(2 ** 3) ** -x",
        "not (not a) == b",
        "(1).real",
        "(a if b else c) if d else e",
    ],
)
def test_parentheses_stay_where_they_matter(source: str) -> None:
    tree = parse_text(f"const a_ = {source}").constants[0].value
    again = parse_text(f"const a_ = {unparse(tree)}").constants[0].value
    assert again == tree
