"""The `.bl` parser: trees, positions, imports, strings; it agrees with the Python parser."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from blocklang.frontend import syntax, text
from blocklang.frontend.errors.syntax import (
    DuplicateName,
    FileNotReadable,
    ImportCycle,
    NestedTooDeeply,
    SyntaxFamily,
    UnexpectedSyntax,
    UnknownImport,
)
from blocklang.frontend.text import load_file, load_text, parse_text
from blocklang.frontend.unparse import unparse
from blocklang.ir.location import Location

from .test_python_parser import parse_source

BODY = '''
    """What it does.

    In detail."""
    row = bl.program_id(0)
    a = b = c, (d, [e, f]) = g
    a, b = b, a,
    x += (y + z) * 2 ** -w // v % u
    N: bl.constexpr = 4
    if x is not None and y or not z and (q in r):
        pass
    elif x not in y:
        return
    else:
        while x <= y:
            if x: break
            else: continue
    for i, (j, k) in bl.static_range(0, N, -1):
        x[:, None] = 1
    t = a if b else (c if d else e)
    u = -a ** ~b << c >> d & e | f ^ (g)
    v = x[1:2, ::3, :, 4:, :5, i][(a, b)][()][[c, d]][e,].T.to(bl.f32)
    w = f(*a, b, mask=(x < y), other=-1.5e-3,)()
    s = "a" 'b\\n\\x41é' r"\\d"
    n = (1,), (), [], [2], 0xff, 1_000, 1., .5, 1e5, True, None
    m = x == y, x != y, x >= y, x > y, x is y
    assert a < b, "message"
    raise ValueError("no")
    (a + b) * (c)
    return (a,
            b)
'''.replace("        x[:, None] = 1\n", "        x[:, None]\n")


def parse_body(lines: str, header: str = "function f():") -> tuple[syntax.Statement, ...]:
    return parse_text(f"{header}\n    {lines}\n").functions[0].body


def expression(source: str) -> syntax.Expression:
    (statement,) = parse_body(source)
    assert isinstance(statement, syntax.ExpressionStatement)
    return statement.value


def ranges(function: syntax.Function) -> list[tuple[str, int, int, int, int]]:
    nodes = [n for statement in function.body for n, _ in syntax.walk(statement)]
    return [
        (type(n).__name__, p.line, p.column, p.end_line, p.end_column)
        for n in nodes
        for p in [n.location]
    ]


def test_both_languages_give_the_same_tree_and_positions() -> None:
    python = parse_source(f"def f(x, y=1.5):{BODY}", "f")
    (bl,) = parse_text(f"function f(x, y=1.5):{BODY}").functions
    assert bl.parameters == python.parameters
    assert bl.body == python.body
    assert bl.documentation == python.documentation == "What it does.\n\nIn detail."
    assert ranges(bl) == ranges(python)
    kinds = {name for name, *_ in ranges(bl)}
    leaves = {
        kind.__name__
        for base in (syntax.Expression, syntax.Statement)
        for kind in base.__subclasses__()
        if kind.__module__ == syntax.__name__
    }
    elsewhere = {"FormatString", "Captured", "TensorDescriptor"}
    assert leaves <= kinds | elsewhere, "the program above should have every kind of node"


def test_format_strings_are_those_of_python() -> None:
    body = """
    print(f"a{x}{{b}} {f('}')}\\n" "c{" f'{y!=z}', f"", rf"\\d{x}", f"{'q' + \\"r\\"}")
"""
    (bl,) = parse_text(f"function f():{body}").functions
    call = bl.body[0].value
    x, c = (syntax.Name("x", location=call.location), syntax.Literal("c{", location=call.location))
    first = call.arguments[0].parts
    assert [type(p).__name__ for p in first] == [
        "Literal",
        "Name",
        "Literal",
        "Call",
        "Literal",
        "Compare",
    ]
    assert first[0].value == "a"
    assert first[1] == x
    assert first[2].value == "{b} "
    assert first[4].value == "\n" + c.value
    assert call.arguments[1].parts == ()
    assert call.arguments[2].parts[0].value == "\\d"
    python = parse_source("def f():\n    print(f\"a{x}{{b}} {f('}')}\\n\" 'c{' f'{y!=z}')\n", "f")
    assert python.body[0].value.arguments[0] == call.arguments[0]


def test_signature() -> None:
    source = """
const N = 2 * 8
kernel k(x: *f32 divisible 16, y: **T, s: i32 is 1 divisible 4, T: constexpr = f32,
         B: bl.constexpr = N,):
    pass
"""
    tree = parse_text(source)
    (kernel,) = tree.functions
    assert kernel.is_kernel is True
    x, y, s, t, b = kernel.parameters
    assert x.facts == (("divisible", 16),)
    assert s.facts == (("value", 1), ("divisible", 4))
    assert isinstance(x.annotation, syntax.Unary)
    assert x.annotation.operator == "*"
    assert unparse(y.annotation) == "**T"
    assert (t.is_constexpr, b.is_constexpr, s.is_constexpr) == (True, True, False)
    assert unparse(t.default) == "f32"
    assert kernel.location.line == 3
    assert kernel.source.startswith("kernel k(")
    assert kernel.globals["N"].value == tree.constants[0].value
    assert kernel.globals is tree.scope
    assert kernel.body[0].location == Location("<text>", 5, 5, 5, 9, "k")


def test_words_of_the_grammar_are_names_elsewhere() -> None:
    body = parse_body("kernel = function + const.kernel(divisible=is_)")
    assert unparse(body[0]) == "kernel = function + const.kernel(divisible=is_)"


@pytest.mark.parametrize("word", ["if", "lambda", "def", "None", "inf", "in"])
def test_reserved_words_are_no_names(word: str) -> None:
    with pytest.raises(SyntaxFamily):
        parse_body(f"x = 1 + {word}.y.z = 2")
    with pytest.raises(SyntaxFamily):
        parse_text(f"function {word}():\n    pass\n")


def test_literals() -> None:
    items = expression("(inf, nan, true, True, false, None, 1, 1.0, 'x')").items
    values = [item.value for item in items]
    assert values[0] == float("inf")
    assert values[1] != values[1]
    assert values[2:] == [True, True, False, None, 1, 1.0, "x"]
    assert items[1] == expression("nan")
    assert items[6] != items[7]
    assert items[2] != items[6]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends(end: str) -> None:
    lines = ["\ufefffunction f():", "    x = (1,", "  2) # c", "", "  # d", "    return x"]
    body = parse_text(end.join(lines)).functions[0].body
    assert [s.location.line for s in body] == [2, 6]


def test_layout_free_inside_brackets_and_after_backslash() -> None:
    one = parse_body("x = f(a,\n# c\nb)\n    y = 1 + \\\n2")
    assert one == parse_body("x = f(a, b)\n    y = 1 + 2")


def test_empty_files() -> None:
    for source in ("", "\n\n", "# only a comment", '"""Only text."""'):
        tree = parse_text(source)
        assert (tree.imports, tree.constants, tree.functions) == ((), (), ())
    assert parse_text('"""Only text."""').documentation == "Only text."


@pytest.mark.parametrize(
    "source", ["-" * 5000 + "1", "(" * 5000 + "1" + ")" * 5000, "x" + "+x" * 5000, "f(" * 3000]
)
def test_depth_ends_in_an_error_or_a_tree(source: str) -> None:
    if source.startswith("((("):
        # Parentheses are not in the tree, and the parser does not recur.
        assert expression(source).value == 1
        return
    with pytest.raises(
        NestedTooDeeply if not source.startswith("f") else UnexpectedSyntax.__base__
    ):
        parse_body(source)


def test_deep_blocks() -> None:
    deep = "\n".join("    " * (i + 1) + "if x:" for i in range(300))
    with pytest.raises(NestedTooDeeply):
        parse_text(f"function f():\n{deep}\n{'    ' * 301}pass\n")


def test_friendly_expectation() -> None:
    with pytest.raises(UnexpectedSyntax) as caught:
        parse_body("x = 1 +")
    assert caught.value.message == "expected an expression, found the end of the line"
    assert caught.value.location == Location("<text>", 2, 12, 2, 13, "f")


def test_programs_in_the_reference_parse() -> None:
    reference = Path(__file__).parents[2].joinpath("docs", "bl.md").read_text(encoding="utf-8")
    programs = re.findall(r"```\n(.*?)```", reference, re.DOTALL)
    kernels = [program for program in programs if re.search(r"^kernel ", program, re.MULTILINE)]
    assert len(kernels) >= 4
    for program in kernels:
        assert parse_text(program).functions


# -- files -----------------------------------------------------------------------------------


def write(folder: Path, **files: str) -> Path:
    for name, source in files.items():
        (folder / f"{name}.bl").write_text(source)
    return folder / "main.bl"


def test_imports(tmp_path: Path) -> None:
    main = write(
        tmp_path,
        main='from "a.bl" import f, N as M\nfrom "b.bl" import (g,)\nkernel k(n: i32):\n    f(n)\n',
        a='from "b.bl" import g\nconst N = 3\nfunction f(x):\n    return g(x)\n',
        b="function g(x):\n    return x\n",
    )
    scope = load_file(main)
    assert list(scope.kernels) == ["k"]
    assert sorted(scope) == ["M", "f", "g", "k"]
    assert scope["M"].name == "N"
    assert scope["k"].globals["f"] is scope["f"]
    assert scope["f"].globals["g"] is scope["g"], "each file is parsed once"
    assert [Path(f).name for f in scope.files] == ["b.bl", "a.bl", "main.bl"]
    assert load_text(main.read_text(), str(main))["M"] == scope["M"]


def test_import_errors(tmp_path: Path) -> None:
    main = write(
        tmp_path,
        main='from "a.bl" import f',
        a='from "main.bl" import k\nfunction f():\n    pass\n',
        own='from "own.bl" import x',
    )
    with pytest.raises(ImportCycle, match=r"main.bl -> a.bl -> main.bl"):
        load_file(main)
    with pytest.raises(ImportCycle):
        load_file(tmp_path / "own.bl")
    with pytest.raises(FileNotReadable) as caught:
        load_file(tmp_path / "none.bl")
    assert caught.value.location is None
    with pytest.raises(FileNotReadable):
        load_file(tmp_path)
    write(tmp_path, a="const g = 1")
    with pytest.raises(UnknownImport, match="it defines g"):
        load_file(main)
    with pytest.raises(DuplicateName):
        load_text('from "a.bl" import g\nconst g = 2\n', str(main))


def test_saved_parser() -> None:
    program = (
        "import sys, blocklang.frontend.text as t\n"
        "t.restore_parser(sys.stdin.buffer.read())\n"
        "f = t.parse_text('function f(x):\\n    return f\"{x}\" + 1\\n').functions[0]\n"
        "print(f.body)"
    )
    tables = text.save_parser()
    done = subprocess.run([sys.executable, "-c", program], input=tables, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    expected = parse_text('function f(x):\n    return f"{x}" + 1\n').functions[0].body
    assert done.stdout.decode().strip() == repr(expected)


def test_threads_do_not_share_state() -> None:
    sources = [f"function f{i}(x):\n" + f"    x = x + {i}\n" * 60 for i in range(8)]
    trees: dict[int, syntax.File] = {}

    def parse(i: int) -> None:
        trees[i] = parse_text(sources[i], f"{i}.bl")

    threads = [threading.Thread(target=parse, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(8):
        assert trees[i] == parse_text(sources[i])
        assert {n.location.file for n, _ in syntax.walk(trees[i])} == {f"{i}.bl"}


def test_types_of_tensor_descriptors() -> None:
    text = "kernel k(x: tensordesc<bl.f16[64, N], nan> divisible 16, y: tensordesc<i8[4], zero>):"
    (kernel,) = parse_text(f"{text}\n    pass\n").functions
    x, y = (parameter.annotation for parameter in kernel.parameters)
    assert isinstance(x, syntax.TensorDescriptor)
    assert isinstance(y, syntax.TensorDescriptor)
    assert isinstance(x.element, syntax.Attribute)
    assert [type(size) for size in x.block_shape] == [syntax.Literal, syntax.Name]
    assert (x.padding, y.padding) == ("nan", "zero")
    assert kernel.parameters[0].facts == (("divisible", 16),)
    assert (x.location.column, x.location.end_column) == (13, 43)
    assert unparse(kernel).startswith(text.replace(", zero", ""))
