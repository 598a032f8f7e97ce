"""The Python front end: a live function, through its source and Python's `ast`, to the syntax tree.

Positions are those of the original file, in characters, however deep the function is indented.
Decorators are skipped: they belong to the host. Nothing of the function is executed and no name is
resolved; `PythonGlobals` looks names up when the compiler asks for them. Needs no compiled module
other than Python's own.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import linecache
import tokenize
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType
from typing import Any

from blocklang.ir.location import Location

from . import syntax
from .errors.syntax import NotAFunction, SourceDoesNotParse, SourceUnavailable
from .python_tree import NestingError, SourceText, TreeBuilder


class PythonGlobals(Mapping[str, Any]):
    """The names that a function sees around it: closure, then module, then Python's builtins.

    Values are looked up at each access, as Python does; an empty closure cell counts as absent.
    """

    def __init__(self, function: FunctionType) -> None:
        self._cells = dict(
            zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        )
        self._scopes = (function.__globals__, vars(builtins))

    def __getitem__(self, name: str) -> Any:
        if name in self._cells:
            try:
                return self._cells[name].cell_contents
            except ValueError:
                raise KeyError(name) from None
        for scope in self._scopes:
            if name in scope:
                return scope[name]
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        names = dict.fromkeys((*self._cells, *self._scopes[0], *self._scopes[1]))
        return (name for name in names if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def parse_python(function: Any) -> syntax.Function:
    """The tree of a Python function.

    Raises an error of the catalogue if it is not a plain `def`, its source is not at hand, or it
    uses what the kernel language has not.
    """
    function = _plain_function(function)
    text = _source_of(function)
    definition = _definition(text, function.__code__)
    builder = TreeBuilder(text, function.__name__)
    try:
        tree = builder.function(definition, function, PythonGlobals(function))
    except RecursionError:
        raise NestingError(builder.locate(definition)) from None
    return builder.checked(tree)


def _plain_function(function: Any) -> FunctionType:
    function = inspect.unwrap(function) if callable(function) else function
    if isinstance(function, FunctionType) and function.__code__.co_name != "<lambda>":
        return function
    if isinstance(function, FunctionType):
        code = function.__code__
        line = linecache.getline(code.co_filename, code.co_firstlineno).rstrip()
        start, end = len(line) - len(line.lstrip()) + 1, len(line) + 1
        place = Location(code.co_filename, code.co_firstlineno, start, code.co_firstlineno, end)
        raise NotAFunction(place, what="a lambda")
    if inspect.isclass(function):
        what = f"the class '{function.__name__}'"
    else:
        what = f"a value of type '{type(function).__name__}'"
    raise NotAFunction(what=what)


def _source_of(function: FunctionType) -> SourceText:
    code = function.__code__
    try:
        lines, first = inspect.getsourcelines(code)
    except (OSError, TypeError):
        reason = f"Python has no text for {code.co_filename}"
        raise SourceUnavailable(name=function.__name__, reason=reason) from None
    except (SyntaxError, tokenize.TokenError) as error:
        raise SourceDoesNotParse(name=function.__name__, reason=str(error)) from None
    return SourceText(code.co_filename, tuple(line.rstrip("\r\n") for line in lines), first)


def _definition(text: SourceText, code: CodeType) -> ast.FunctionDef | ast.AsyncFunctionDef:
    """The first definition in `text`, which must be that of `code`."""
    try:
        module = ast.parse(text.parsable())
    except (RecursionError, MemoryError):
        raise NestingError(text.first_location(code.co_name)) from None
    except (SyntaxError, ValueError) as error:
        raise SourceDoesNotParse(
            text.first_location(code.co_name), name=code.co_name, reason=str(error)
        ) from None
    branch = module.body[0] if module.body else None
    for node in branch.body if isinstance(branch, ast.If) else module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == code.co_name:
            return node
    raise SourceDoesNotParse(
        text.first_location(code.co_name),
        name=code.co_name,
        reason="another definition is there",
    )
