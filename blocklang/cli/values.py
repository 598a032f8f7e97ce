"""Values as users write them on the command line: numbers, words, dtypes, NAME=VALUE, grids."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from blocklang.host import cdiv
from blocklang.ir.types import dtype, is_dtype_spelling

from .arguments import UsageError

_WORDS = {"true": True, "false": False, "none": None}
_NAME = re.compile(r"[^\W\d]\w*")


def split_assignment(text: str, option: str, example: str) -> tuple[str, str]:
    """The two sides of NAME=VALUE. UsageError, with the option and an example, if it is none."""
    name, equals, value = text.partition("=")
    if not equals or not value or not _NAME.fullmatch(name):
        raise UsageError(f"{option} {text}: expected NAME=VALUE", f"write for example {example}")
    return name, value


def constexpr_value(text: str) -> Any:
    """The compile-time value that a text stands for; what is nothing else is a string."""
    found = number_or_word(text)
    if found is not text:
        return found
    name = text.removeprefix("bl.")
    if is_dtype_spelling(name):
        return dtype(name)
    try:
        literal = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    if isinstance(literal, list):
        return tuple(literal)
    return literal if isinstance(literal, str | tuple) else text


def number_or_word(text: str) -> Any:
    """A number, True, False or None; the text itself where it is none of these."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for read in (lambda: int(text, 0), lambda: int(text), lambda: float(text)):
        try:
            return read()
        except ValueError:
            continue
    return text


def definitions(texts: Sequence[str]) -> dict[str, Any]:
    """The compile-time parameters of -D."""
    found: dict[str, Any] = {}
    for text in texts:
        name, value = split_assignment(text, "-D", f"-D {_name_in(text, 'BLOCK')}=1024")
        if name in found:
            raise UsageError(f"-D {name} is given twice")
        found[name] = constexpr_value(value)
    return found


def signature(texts: Sequence[str]) -> dict[str, Any]:
    """The types, and values to compile in, of --signature."""
    found: dict[str, Any] = {}
    for text in (part for whole in texts for part in _split(whole)):
        example = f"--signature {_name_in(text, 'x')}=*fp32:16"
        name, value = split_assignment(text.strip(), "--signature", example)
        if name in found:
            raise UsageError(f"--signature {name} is given twice")
        found[name] = number_or_word(value)
    return found


def _split(text: str) -> list[str]:
    """The parts between commas that stand in no brackets."""
    return re.split(r",(?![^<]*>)", text)


def _name_in(text: str, otherwise: str) -> str:
    return text if _NAME.fullmatch(text) else otherwise


# -- grids -----------------------------------------------------------------------------------

_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}


def grid(text: str, names: Mapping[str, Any]) -> tuple[int, ...]:
    """The sizes of a grid such as `cdiv(n, BLOCK), 8`. UsageError where it is not one."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise _grid_error(text, "it is not an expression") from None
    parts = tree.elts if isinstance(tree, ast.Tuple) else [tree]
    try:
        sizes = tuple(_size(part, names) for part in parts)
    except (ValueError, ZeroDivisionError, OverflowError, RecursionError) as problem:
        raise _grid_error(text, str(problem)) from None
    return sizes


def _grid_error(text: str, problem: str) -> UsageError:
    return UsageError(
        f"--grid {text}: {problem}",
        "a grid has one to three sizes: --grid 512, --grid 8,16 or --grid 'cdiv(n, BLOCK), 4'",
    )


def _size(node: ast.expr, names: Mapping[str, Any]) -> int:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.Name):
        value = names.get(node.id)
        if type(value) is not int:
            known = ", ".join(n for n, v in names.items() if type(v) is int) or "none"
            raise ValueError(f"{node.id!r} is not one of the integers given, which are: {known}")
        return value
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return int(_OPERATORS[type(node.op)](_size(node.left, names), _size(node.right, names)))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "cdiv":
        if len(node.args) == 2 and not node.keywords:
            return cdiv(_size(node.args[0], names), _size(node.args[1], names))
        raise ValueError("cdiv takes two arguments")
    raise ValueError(f"{ast.unparse(node)!r} cannot be part of it")
