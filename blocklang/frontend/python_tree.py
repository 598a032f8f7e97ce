"""From Python's `ast` to the syntax tree, node by node; what has no counterpart becomes an error.

Each method is named after the class of `ast` that it translates; a class without a method is
refused with the texts of `foreign`. Knows nothing of live functions, except for their evaluated
defaults.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import FunctionType
from typing import Any

from blocklang.ir.diagnostics import CompileError
from blocklang.ir.location import Location

from . import foreign, syntax
from .errors.syntax import (
    ChainedComparison,
    FormatSpecification,
    InvalidArguments,
    LoopElse,
    NestedTooDeeply,
    UnsupportedExpression,
    UnsupportedLiteral,
    UnsupportedParameter,
    UnsupportedStatement,
    UnsupportedTarget,
)

NestingError = partial(NestedTooDeeply, limit=syntax.MAX_DEPTH)

BINARY: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.MatMult: "@",
    ast.Pow: "**",
    ast.LShift: "<<",
    ast.RShift: ">>",
    ast.BitAnd: "&",
    ast.BitOr: "|",
    ast.BitXor: "^",
}
UNARY: dict[type[ast.unaryop], str] = {
    ast.USub: "-",
    ast.UAdd: "+",
    ast.Invert: "~",
    ast.Not: "not",
}
COMPARE: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Is: "is",
    ast.IsNot: "is_not",
    ast.In: "in",
    ast.NotIn: "not_in",
}
# The keyword that starts each statement which the language does not have.
_STATEMENT_KEYWORDS = {
    "AsyncFor": "async",
    "AsyncFunctionDef": "async",
    "AsyncWith": "async",
    "ClassDef": "class",
    "Delete": "del",
    "FunctionDef": "def",
    "Global": "global",
    "Import": "import",
    "ImportFrom": "from",
    "Match": "match",
    "Nonlocal": "nonlocal",
    "Try": "try",
    "TryStar": "try",
    "TypeAlias": "type",
    "With": "with",
}


@dataclass(frozen=True)
class SourceText:
    """The lines of one function, of which the first is line `first` of `file`."""

    file: str
    lines: tuple[str, ...]
    first: int

    @property
    def indented(self) -> bool:
        """Whether the function stands in a class, function or branch."""
        return self.lines[0][:1].isspace()

    def parsable(self) -> str:
        """Text for `ast.parse` with the same columns: a branch around an indented function."""
        return "\n".join(("if 1:", *self.lines) if self.indented else self.lines) + "\n"

    def position(self, line: int, offset: int) -> tuple[int, int]:
        """Line and column in the file, from a line of `parsable()` and an offset in UTF-8 bytes."""
        index = line - (2 if self.indented else 1)
        text = self.lines[index]
        if not text.isascii():
            offset = len(text.encode()[:offset].decode())
        return self.first + index, offset + 1

    def first_location(self, function: str) -> Location:
        """The first line."""
        column = len(self.lines[0]) - len(self.lines[0].lstrip()) + 1
        end = max(len(self.lines[0].rstrip()), column) + 1
        return Location(self.file, self.first, column, self.first, end, function)


class TreeBuilder:
    """Translates the nodes of one function."""

    def __init__(self, text: SourceText, function: str) -> None:
        self._text = text
        self._function = function
        # Inside strings (annotations, f-strings) the location of the string serves for all.
        self._fixed: Location | None = None

    # -- locations and errors ----------------------------------------------------------------

    def locate(self, node: Any, end: Any = None) -> Location:
        """The range of an `ast` node, or from one to the end of another."""
        if self._fixed is not None:
            return self._fixed
        end = end or node
        line, column = self._text.position(node.lineno, node.col_offset)
        end_line, end_column = self._text.position(end.end_lineno, end.end_col_offset)
        return Location(self._text.file, line, column, end_line, end_column, self._function)

    def _word(self, node: Any, length: int) -> Location:
        """The first `length` characters of a node: the keyword of a statement."""
        start = self.locate(node)
        end = start.column + length
        return Location(start.file, start.line, start.column, start.line, end, self._function)

    def checked(self, tree: syntax.Function) -> syntax.Function:
        """The tree, or an error if it is too deep for those who walk it recursively."""
        for node, depth in syntax.walk(tree):
            if depth > syntax.MAX_DEPTH:
                raise NestingError(node.location)
        return tree

    def _refuse(self, node: ast.expr, kind: str) -> CompileError:
        construct, instead = foreign.EXPRESSIONS.get(
            kind, foreign.Foreign(f"Python's {kind}", "use assignments, operators and calls")
        )
        return UnsupportedExpression(self.locate(node), construct=construct, instead=instead)

    # -- functions ---------------------------------------------------------------------------

    def function(
        self,
        node: ast.FunctionDef | ast.AsyncFunctionDef,
        live: FunctionType,
        scope: Mapping[str, Any],
    ) -> syntax.Function:
        """The tree of a definition; `live` is the function that it defined, `scope` its globals."""
        if isinstance(node, ast.AsyncFunctionDef):
            raise UnsupportedStatement(self._word(node, 5), **foreign.KEYWORDS["async"]._asdict())
        documentation = ast.get_docstring(node) or ""
        has_docstring = ast.get_docstring(node, clean=False) is not None
        return syntax.Function(
            node.name,
            self._parameters(node.args, live),
            self._block(node.body[1:] if has_docstring else node.body),
            documentation=documentation,
            globals=scope,
            source="\n".join(self._text.lines),
            location=self.locate(node),
        )

    def _parameters(self, node: ast.arguments, live: FunctionType) -> tuple[syntax.Parameter, ...]:
        for star, argument in (("*", node.vararg), ("**", node.kwarg)):
            if argument is not None:
                place = self.locate(argument)
                raise UnsupportedParameter(place, parameter=star + argument.arg)
        positional = [*node.posonlyargs, *node.args]
        defaults = dict(
            zip(positional[-len(node.defaults) or len(positional) :], node.defaults, strict=True)
        )
        values = dict(zip(defaults, live.__defaults__ or (), strict=False))
        for argument, default in zip(node.kwonlyargs, node.kw_defaults, strict=True):
            if default is not None:
                defaults[argument] = default
                values[argument] = (live.__kwdefaults__ or {}).get(argument.arg)
        return tuple(
            self._parameter(argument, defaults.get(argument), values.get(argument))
            for argument in (*positional, *node.kwonlyargs)
        )

    def _parameter(self, node: ast.arg, default: ast.expr | None, value: Any) -> syntax.Parameter:
        annotation = self._annotation(node.annotation) if node.annotation else None
        return syntax.Parameter(
            node.arg,
            annotation,
            self._default(default, value) if default else None,
            syntax.is_constexpr(annotation),
            location=self.locate(node, default),
        )

    def _default(self, node: ast.expr, value: Any) -> syntax.Expression:
        """A literal as it is written; of anything else the value that it had at the definition."""
        inner = node.operand if isinstance(node, ast.UnaryOp) else node
        if isinstance(inner, ast.Constant) and type(inner.value) not in foreign.LITERALS:
            return self.expression(node)
        return syntax.Captured(value, location=self.locate(node))

    def _annotation(self, node: ast.expr) -> syntax.Expression | None:
        """An annotation, quoted or not; None for what only Python's type checkers understand."""
        try:
            return self._quoted(node)
        except CompileError:
            return None

    def _quoted(self, node: ast.expr) -> syntax.Expression:
        if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
            return self.expression(node)
        try:
            inner = ast.parse(node.value.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return self.expression(node)
        return self._at(node, inner)

    def _at(self, place: ast.expr, node: ast.expr) -> syntax.Expression:
        """`node`, translated with the location of `place` throughout."""
        outer, self._fixed = self._fixed, self.locate(place)
        try:
            return self.expression(node)
        finally:
            self._fixed = outer

    # -- statements --------------------------------------------------------------------------

    def _block(self, body: list[ast.stmt]) -> tuple[syntax.Statement, ...]:
        return tuple(self._statement(node) for node in body)

    def _statement(self, node: ast.stmt) -> syntax.Statement:
        kind = type(node).__name__
        translate = getattr(self, f"_statement_{kind}", None)
        if translate is not None:
            statement: syntax.Statement = translate(node)
            return statement
        keyword = _STATEMENT_KEYWORDS.get(kind, kind.lower())
        whole = kind in ("Import", "ImportFrom", "Delete", "Global", "Nonlocal", "TypeAlias")
        place = self.locate(node) if whole else self._word(node, len(keyword))
        text = foreign.KEYWORDS.get(keyword, foreign.Foreign(f"'{keyword}'", ""))
        raise UnsupportedStatement(place, **text._asdict())

    def _statement_Assign(self, node: ast.Assign) -> syntax.Statement:
        targets = tuple(self._target(target) for target in node.targets)
        return syntax.Assign(targets, self.expression(node.value), location=self.locate(node))

    def _statement_AugAssign(self, node: ast.AugAssign) -> syntax.Statement:
        return syntax.AugmentedAssign(
            self._name_target(node.target),
            BINARY[type(node.op)],
            self.expression(node.value),
            location=self.locate(node),
        )

    def _statement_AnnAssign(self, node: ast.AnnAssign) -> syntax.Statement:
        return syntax.AnnotatedAssign(
            self._name_target(node.target),
            self._quoted(node.annotation),
            self.expression(node.value) if node.value else None,
            location=self.locate(node),
        )

    def _statement_Expr(self, node: ast.Expr) -> syntax.Statement:
        return syntax.ExpressionStatement(self.expression(node.value), location=self.locate(node))

    def _statement_If(self, node: ast.If) -> syntax.Statement:
        return syntax.If(
            self.expression(node.test),
            self._block(node.body),
            self._block(node.orelse),
            location=self.locate(node),
        )

    def _statement_For(self, node: ast.For) -> syntax.Statement:
        self._no_else(node)
        return syntax.For(
            self._target(node.target),
            self.expression(node.iter),
            self._block(node.body),
            location=self.locate(node),
        )

    def _statement_While(self, node: ast.While) -> syntax.Statement:
        self._no_else(node)
        return syntax.While(
            self.expression(node.test), self._block(node.body), location=self.locate(node)
        )

    def _no_else(self, node: ast.For | ast.While) -> None:
        if not node.orelse:
            return
        # `ast` has no position for the word itself; between the two blocks it is the only one.
        after = self.locate(node.body[-1]).end_line
        before = self.locate(node.orelse[0]).line
        for line in range(after, before + 1):
            text = self._text.lines[line - self._text.first].partition("#")[0]
            if word := re.search(r"\belse\s*:", text):
                start = word.start() + 1
                place = Location(self._text.file, line, start, line, start + 4, self._function)
                raise LoopElse(place, loop=type(node).__name__.lower())
        raise LoopElse(self.locate(node.orelse[0]), loop=type(node).__name__.lower())

    def _statement_Return(self, node: ast.Return) -> syntax.Statement:
        value = self.expression(node.value) if node.value else None
        return syntax.Return(value, location=self.locate(node))

    def _statement_Assert(self, node: ast.Assert) -> syntax.Statement:
        message = self.expression(node.msg) if node.msg else None
        return syntax.Assert(self.expression(node.test), message, location=self.locate(node))

    def _statement_Raise(self, node: ast.Raise) -> syntax.Statement:
        if node.cause is not None:
            instead = "write 'raise' with one value; a kernel has no causes"
            raise UnsupportedStatement(
                self.locate(node), construct="'raise ... from'", instead=instead
            )
        value = self.expression(node.exc) if node.exc else None
        return syntax.Raise(value, location=self.locate(node))

    def _statement_Pass(self, node: ast.Pass) -> syntax.Statement:
        return syntax.Pass(location=self.locate(node))

    def _statement_Break(self, node: ast.Break) -> syntax.Statement:
        return syntax.Break(location=self.locate(node))

    def _statement_Continue(self, node: ast.Continue) -> syntax.Statement:
        return syntax.Continue(location=self.locate(node))

    def _target(self, node: ast.expr) -> syntax.Expression:
        if isinstance(node, ast.Tuple | ast.List):
            items = tuple(self._target(item) for item in node.elts)
            return syntax.Tuple(items, location=self.locate(node))
        return self._name_target(node)

    def _name_target(self, node: ast.expr) -> syntax.Name:
        if isinstance(node, ast.Name):
            return syntax.Name(node.id, location=self.locate(node))
        construct, instead = {
            ast.Subscript: ("an element", foreign.STORE_INSTEAD),
            ast.Attribute: ("an attribute", "assign to a variable"),
            ast.Starred: ("'*' in a tuple", "name every item"),
        }.get(type(node), ("this", "assign to a variable"))
        raise UnsupportedTarget(self.locate(node), construct=construct, instead=instead)

    # -- expressions -------------------------------------------------------------------------

    def expression(self, node: ast.expr) -> syntax.Expression:
        """The tree of an expression."""
        translate = getattr(self, f"_expression_{type(node).__name__}", None)
        if translate is None:
            raise self._refuse(node, type(node).__name__)
        expression: syntax.Expression = translate(node)
        return expression

    def _expressions(self, nodes: list[ast.expr]) -> tuple[syntax.Expression, ...]:
        return tuple(self.expression(node) for node in nodes)

    def _expression_Constant(self, node: ast.Constant) -> syntax.Expression:
        if type(node.value) in foreign.LITERALS:
            construct, instead = foreign.LITERALS[type(node.value)]
            raise UnsupportedLiteral(self.locate(node), construct=construct, instead=instead)
        value: Any = node.value
        return syntax.Literal(value, location=self.locate(node))

    def _expression_Name(self, node: ast.Name) -> syntax.Expression:
        return syntax.Name(node.id, location=self.locate(node))

    def _expression_Attribute(self, node: ast.Attribute) -> syntax.Expression:
        return syntax.Attribute(self.expression(node.value), node.attr, location=self.locate(node))

    def _expression_Slice(self, node: ast.Slice) -> syntax.Expression:
        parts = (self.expression(p) if p else None for p in (node.lower, node.upper, node.step))
        return syntax.Slice(*parts, location=self.locate(node))

    def _expression_Subscript(self, node: ast.Subscript) -> syntax.Expression:
        indices = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        value = self.expression(node.value)
        return syntax.Subscript(value, self._expressions(indices), location=self.locate(node))

    def _expression_Tuple(self, node: ast.Tuple) -> syntax.Expression:
        return syntax.Tuple(self._expressions(node.elts), location=self.locate(node))

    def _expression_List(self, node: ast.List) -> syntax.Expression:
        return syntax.Tuple(self._expressions(node.elts), location=self.locate(node))

    def _expression_Call(self, node: ast.Call) -> syntax.Expression:
        arguments = tuple(
            syntax.Starred(self.expression(a.value), location=self.locate(a))
            if isinstance(a, ast.Starred)
            else self.expression(a)
            for a in node.args
        )
        return syntax.Call(
            self.expression(node.func),
            arguments,
            tuple(self._keyword(keyword) for keyword in node.keywords),
            location=self.locate(node),
        )

    def _keyword(self, node: ast.keyword) -> syntax.Keyword:
        if node.arg is None:
            raise InvalidArguments(
                self.locate(node), problem="'**' in a call", instead="write each keyword argument"
            )
        return syntax.Keyword(node.arg, self.expression(node.value), location=self.locate(node))

    def _expression_UnaryOp(self, node: ast.UnaryOp) -> syntax.Expression:
        operand = self.expression(node.operand)
        return syntax.Unary(UNARY[type(node.op)], operand, location=self.locate(node))

    def _expression_BinOp(self, node: ast.BinOp) -> syntax.Expression:
        left, right = self.expression(node.left), self.expression(node.right)
        return syntax.Binary(BINARY[type(node.op)], left, right, location=self.locate(node))

    def _expression_Compare(self, node: ast.Compare) -> syntax.Expression:
        if len(node.ops) > 1:
            operands = [node.left, *node.comparators]
            pairs = [
                f"({ast.unparse(ast.Compare(a, [op], [b]))})"
                for a, op, b in zip(operands, node.ops, operands[1:], strict=False)
            ]
            raise ChainedComparison(self.locate(node), instead=" & ".join(pairs))
        left, right = self.expression(node.left), self.expression(node.comparators[0])
        return syntax.Compare(COMPARE[type(node.ops[0])], left, right, location=self.locate(node))

    def _expression_BoolOp(self, node: ast.BoolOp) -> syntax.Expression:
        operator = "and" if isinstance(node.op, ast.And) else "or"
        operands = self._expressions(node.values)
        return syntax.Boolean(operator, operands, location=self.locate(node))

    def _expression_IfExp(self, node: ast.IfExp) -> syntax.Expression:
        return syntax.Conditional(
            self.expression(node.test),
            self.expression(node.body),
            self.expression(node.orelse),
            location=self.locate(node),
        )

    def _expression_JoinedStr(self, node: ast.JoinedStr) -> syntax.Expression:
        parts = tuple(self._format_part(node, part) for part in node.values)
        return syntax.FormatString(parts, location=self.locate(node))

    def _format_part(self, string: ast.JoinedStr, node: ast.expr) -> syntax.Expression:
        exact = sys.version_info >= (3, 12)
        if not isinstance(node, ast.FormattedValue):
            return self.expression(node) if exact else self._at(string, node)
        if node.format_spec is not None:
            raise FormatSpecification(self.locate(string))
        return self.expression(node.value) if exact else self._at(string, node.value)
