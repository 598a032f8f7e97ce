"""From the rules of `bl.lark` to expressions of the syntax tree, and the state of a parse.

There is one method for each rule or alias, called by Lark as it parses. Building bottom-up while
parsing keeps deep nesting off Python's stack. Positions equal those of Python's `ast` for the same
text: a parenthesised expression has its own range, and what contains it that of the parentheses.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

from lark.lexer import Token

from blocklang.ir.location import Location

from . import foreign, syntax
from .errors.syntax import (
    ChainedComparison,
    InvalidArguments,
    InvalidNumber,
    UnexpectedCharacter,
    UnsupportedLiteral,
)
from .text_layout import Layout
from .text_strings import format_parts, split_literal, unescape
from .unparse import expression as text_of

LITERALS: dict[str, bool | float | None] = {
    "True": True,
    "true": True,
    "False": False,
    "false": False,
    "None": None,
    "inf": float("inf"),
    "nan": float("nan"),
}


@dataclass
class Parse:
    """The state of one parse."""

    file: str
    lines: list[str]
    layout: Layout
    parse_expression: Callable[[str, Location], syntax.Expression]
    scope: dict[str, Any]
    function: str = ""
    is_kernel: bool = False
    fixed: Location | None = None
    """The location of all nodes where positions in the text mean nothing: inside f-strings."""


CURRENT: ContextVar[Parse] = ContextVar("CURRENT")


@dataclass(frozen=True)
class Range:
    """A result with a range of its own: a block, or an expression in parentheses."""

    content: Any
    location: Location
    is_bare_tuple: bool = False


def content_of(child: Any) -> Any:
    """The result itself, without its parentheses."""
    return child.content if isinstance(child, Range) else child


def locate(token: Token) -> Location:
    """The location of a token."""
    parse = CURRENT.get()
    if parse.fixed is not None:
        return parse.fixed
    line, column = token.line or 1, token.column or 1
    end_line, end_column = token.end_line or line, token.end_column or column
    return Location(parse.file, line, column, end_line, end_column, parse.function)


def _place(child: Any) -> Location:
    location: Location = locate(child) if isinstance(child, Token) else child.location
    return location


def span(children: Sequence[Any]) -> Location:
    """The range from the first child to the last that is not a line end."""
    last = next(
        c
        for c in reversed(children)
        if not (isinstance(c, Token) and c.type in ("NEWLINE", "DEDENT"))
    )
    start, end = _place(children[0]), _place(last)
    return replace(start, end_line=end.end_line, end_column=end.end_column)


def rule(build: Callable[[Any, Location, list[Any]], Any]) -> Callable[[Any, list[Any]], Any]:
    """A method that gets the range of its rule, and its children without their parentheses."""

    @wraps(build)
    def callback(self: Any, children: list[Any]) -> Any:
        return build(self, span(children), [content_of(child) for child in children])

    return callback


def nodes(children: list[Any], kind: type = syntax.Node) -> tuple[Any, ...]:
    """The children that are nodes, or of the given kind of nodes."""
    return tuple(child for child in children if isinstance(child, kind))


def _number(text: str, location: Location) -> int | float:
    """The value of a token that starts like a number."""
    if re.fullmatch(r"[\d_.eE+-]+[jJ]", text):
        construct, instead = foreign.LITERALS[complex]
        raise UnsupportedLiteral(location, construct=construct, instead=instead)
    try:
        if not text.isascii():
            raise ValueError(text)
        is_integer = text[:2].lower() in ("0x", "0b", "0o") or not re.search("[.eE]", text)
        return int(text, 0) if is_integer else float(text)
    except ValueError:
        digits = re.match(r"[\d.]*\d\.?", text)
        instead = "numbers are written as in Python: 12, 0xff, 1_000, 1.5, 1e-3"
        if digits and re.fullmatch(r"[fFuUlLhHdD]\w*", text[digits.end() :]):
            instead = f"write {digits[0]}; the type of a number comes from its use"
        elif re.fullmatch(r"0\d+", text):
            instead = f"write {text.lstrip('0') or '0'}, or 0o{text.lstrip('0')} if it is octal"
        raise InvalidNumber(location, text=text[:40], instead=instead) from None


def _merge_strings(parts: list[syntax.Expression]) -> list[syntax.Expression]:
    """Adjacent string literals as one, as the Python parser does; empty ones are dropped."""
    merged: list[syntax.Expression] = []
    for part in parts:
        last = merged[-1] if merged else None
        if not (isinstance(part, syntax.Literal) and isinstance(part.value, str)):
            merged.append(part)
        elif isinstance(last, syntax.Literal) and isinstance(last.value, str):
            merged[-1] = syntax.Literal(last.value + part.value, location=part.location)
        elif part.value:
            merged.append(part)
    return merged


class ExpressionBuilder:
    """The callbacks for expressions; `TreeBuilder` of `text_statements` completes them."""

    # -- names and literals --------------------------------------------------------------------

    def name(self, children: list[Token]) -> Token:
        token = children[0]
        if token.isascii():
            return token
        normal = unicodedata.normalize("NFKC", token)
        if not normal.isidentifier():
            # Where each character may stand in a name, it is the first that may not begin one.
            wrong = next(
                (c for c in token if not ("a" + unicodedata.normalize("NFKC", c)).isidentifier()),
                token[0],
            )
            raise UnexpectedCharacter(
                locate(token),
                character=f"'{wrong}' in a name",
                instead="use letters, digits and '_'",
            )
        return token.update(value=normal)

    @rule
    def variable(self, location: Location, children: list[Any]) -> syntax.Expression:
        return syntax.Name(str(children[0]), location=location)

    @rule
    def literal(self, location: Location, children: list[Any]) -> syntax.Expression:
        return syntax.Literal(LITERALS[children[0]], location=location)

    @rule
    def number(self, location: Location, children: list[Any]) -> syntax.Expression:
        return syntax.Literal(_number(str(children[0]), location), location=location)

    @rule
    def string(self, location: Location, children: list[Any]) -> syntax.Expression:
        parts: list[syntax.Expression] = []
        is_format = False
        for token in children:
            prefix, body = split_literal(token, location)
            if "f" not in prefix:
                text = body if "r" in prefix else unescape(body, location)
                parts.append(syntax.Literal(text, location=location))
                continue
            is_format = True
            parse_expression = CURRENT.get().parse_expression
            for is_expression, text in format_parts(body, "r" in prefix, location):
                literal = syntax.Literal(text, location=location)
                parts.append(parse_expression(text, location) if is_expression else literal)
        merged = _merge_strings(parts)
        if is_format:
            return syntax.FormatString(tuple(merged), location=location)
        return merged[0] if merged else syntax.Literal("", location=location)

    # -- operators -----------------------------------------------------------------------------

    @rule
    def unary(self, location: Location, children: list[Any]) -> syntax.Expression:
        return syntax.Unary(str(children[0]), children[1], location=location)

    @rule
    def binary(self, location: Location, children: list[Any]) -> syntax.Expression:
        left, operator, right = children
        return syntax.Binary(str(operator), left, right, location=location)

    @rule
    def boolean(self, location: Location, children: list[Any]) -> syntax.Expression:
        return syntax.Boolean(str(children[1]), tuple(children[::2]), location=location)

    def comparison_operator(self, children: list[Token]) -> str:
        return "_".join(children)

    @rule
    def compare(self, location: Location, children: list[Any]) -> syntax.Expression:
        pairs = [
            syntax.Compare(operator, left, right, location=location)
            for left, operator, right in zip(
                children[::2], children[1::2], children[2::2], strict=False
            )
        ]
        if len(pairs) > 1:
            raise ChainedComparison(location, instead=" & ".join(f"({text_of(p)})" for p in pairs))
        return pairs[0]

    @rule
    def conditional(self, location: Location, children: list[Any]) -> syntax.Expression:
        then, _, condition, _, otherwise = children
        return syntax.Conditional(condition, then, otherwise, location=location)

    # -- postfix expressions and tuples ----------------------------------------------------------

    @rule
    def attribute(self, location: Location, children: list[Any]) -> syntax.Expression:
        return syntax.Attribute(children[0], str(children[2]), location=location)

    @rule
    def call(self, location: Location, children: list[Any]) -> syntax.Expression:
        arguments = children[2]
        keywords = nodes(arguments, syntax.Keyword)
        positional = nodes(arguments, syntax.Expression)
        names: set[str] = set()
        for argument in arguments:
            if isinstance(argument, syntax.Keyword):
                if argument.name in names:
                    problem = f"the argument '{argument.name}' appears twice"
                    raise InvalidArguments(argument.location, problem=problem, instead="remove one")
                names.add(argument.name)
            elif names and not isinstance(argument, syntax.Starred):
                raise InvalidArguments(
                    argument.location,
                    problem="a positional argument after a keyword argument",
                    instead="move it to the front, or name it",
                )
        return syntax.Call(children[0], positional, keywords, location=location)

    def arguments(self, children: list[Any]) -> tuple[Any, ...]:
        return nodes([content_of(child) for child in children])

    @rule
    def keyword(self, location: Location, children: list[Any]) -> syntax.Keyword:
        return syntax.Keyword(str(children[0]), children[2], location=location)

    @rule
    def starred(self, location: Location, children: list[Any]) -> syntax.Expression:
        return syntax.Starred(children[1], location=location)

    @rule
    def double_starred(self, location: Location, children: list[Any]) -> syntax.Expression:
        raise InvalidArguments(
            location, problem="'**' in a call", instead="write each keyword argument"
        )

    @rule
    def subscript(self, location: Location, children: list[Any]) -> syntax.Expression:
        return syntax.Subscript(children[0], children[2], location=location)

    def indices(self, children: list[Any]) -> tuple[syntax.Expression, ...]:
        # As in Python, `x[(a, b)]` is `x[a, b]`; a list in brackets stays one index.
        only = children[0]
        if (
            len(children) == 1
            and isinstance(only, Range)
            and isinstance(only.content, syntax.Tuple)
        ):
            return only.content.items
        return nodes([content_of(child) for child in children])

    @rule
    def section(self, location: Location, children: list[Any]) -> syntax.Expression:
        parts: list[syntax.Expression | None] = [None]
        for child in children:
            if isinstance(child, Token):
                parts.append(None)
            else:
                parts[-1] = child
        lower, upper, step = (*parts, None, None)[:3]
        return syntax.Slice(lower, upper, step, location=location)

    def tuple_expression(self, children: list[Any]) -> Any:
        if len(children) == 1:
            return children[0]
        items = nodes([content_of(child) for child in children])
        location = span(children)
        return Range(syntax.Tuple(items, location=location), location, is_bare_tuple=True)

    target = tuple_expression

    def group(self, children: list[Any]) -> Range:
        location, inner = span(children), children[1]
        if isinstance(inner, Range) and inner.is_bare_tuple:
            return Range(replace(inner.content, location=location), location)
        return Range(content_of(inner), location)

    def bracketed(self, children: list[Any]) -> syntax.Expression:
        location, inner = span(children), children[1]
        if isinstance(inner, Range) and inner.is_bare_tuple:
            return replace(inner.content, location=location)
        return syntax.Tuple((content_of(inner),), location=location)

    def empty_tuple(self, children: list[Any]) -> Any:
        location = span(children)
        empty = syntax.Tuple((), location=location)
        return Range(empty, location) if children[0] == "(" else empty
