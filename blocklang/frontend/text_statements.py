"""From the rules of `bl.lark` to statements, functions and files of the syntax tree.

Checks what the grammar cannot say: targets, parameters and their facts, names that are defined
twice, constants used before their definition, `break` outside of loops, depth.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lark.lexer import Token

from blocklang.ir.location import Location

from . import foreign, syntax
from .errors.syntax import (
    ConstantOrder,
    DuplicateName,
    DuplicateParameter,
    InvalidDescriptorType,
    InvalidFact,
    MisplacedStatement,
    MissingParameterType,
    NestedTooDeeply,
    UnsupportedTarget,
)
from .text_strings import split_literal, unescape
from .text_tree import CURRENT, ExpressionBuilder, Range, content_of, locate, nodes, rule, span


@dataclass(frozen=True)
class _Header:
    """`kernel name`"""

    name: str
    location: Location


class TreeBuilder(ExpressionBuilder):
    """All the callbacks; `CURRENT` holds the state, so one builder serves all threads."""

    # -- simple statements -----------------------------------------------------------------------

    @rule
    def assign(self, location: Location, children: list[Any]) -> syntax.Statement:
        *targets, value = children[::2]
        return syntax.Assign(tuple(map(_target, targets)), value, location=location)

    @rule
    def annotated(self, location: Location, children: list[Any]) -> syntax.Statement:
        target, _, annotation, *rest = children
        value = rest[1] if rest else None
        return syntax.AnnotatedAssign(_name(target), annotation, value, location=location)

    @rule
    def augmented(self, location: Location, children: list[Any]) -> syntax.Statement:
        target, operator, value = children
        return syntax.AugmentedAssign(_name(target), str(operator)[:-1], value, location=location)

    @rule
    def expression_statement(self, location: Location, children: list[Any]) -> syntax.Statement:
        return syntax.ExpressionStatement(children[0], location=location)

    @rule
    def return_statement(self, location: Location, children: list[Any]) -> syntax.Statement:
        return syntax.Return(*(children[1:] or [None]), location=location)

    @rule
    def assert_statement(self, location: Location, children: list[Any]) -> syntax.Statement:
        message = children[3] if len(children) > 2 else None
        return syntax.Assert(children[1], message, location=location)

    @rule
    def raise_statement(self, location: Location, children: list[Any]) -> syntax.Statement:
        return syntax.Raise(*(children[1:] or [None]), location=location)

    @rule
    def pass_statement(self, location: Location, children: list[Any]) -> syntax.Statement:
        return syntax.Pass(location=location)

    @rule
    def break_statement(self, location: Location, children: list[Any]) -> syntax.Statement:
        return syntax.Break(location=location)

    @rule
    def continue_statement(self, location: Location, children: list[Any]) -> syntax.Statement:
        return syntax.Continue(location=location)

    # -- compound statements -----------------------------------------------------------------------

    def block(self, children: list[Any]) -> Range:
        statements = nodes(children)
        return Range(statements, span(statements))

    @rule
    def if_statement(self, location: Location, children: list[Any]) -> syntax.Statement:
        _, condition, _, then, *rest = children
        otherwise = () if not rest else rest[2] if len(rest) == 3 else (rest[0],)
        return syntax.If(condition, then, otherwise, location=location)

    @rule
    def for_statement(self, location: Location, children: list[Any]) -> syntax.Statement:
        _, target, _, iterable, _, body = children
        return syntax.For(_target(target), iterable, body, location=location)

    @rule
    def while_statement(self, location: Location, children: list[Any]) -> syntax.Statement:
        _, condition, _, body = children
        return syntax.While(condition, body, location=location)

    # -- definitions -------------------------------------------------------------------------------

    def header(self, children: list[Any]) -> _Header:
        parse = CURRENT.get()
        parse.is_kernel = children[0].type == "KERNEL"
        parse.function = str(children[1])
        return _Header(parse.function, span(children))

    @rule
    def definition(self, location: Location, children: list[Any]) -> syntax.Function:
        header, _, parameters, *_, body = children
        parse = CURRENT.get()
        documentation, body = _split_documentation(body)
        parse.function = ""
        _check_loops(body, False)
        return syntax.Function(
            header.name,
            parameters,
            body,
            parse.is_kernel,
            documentation,
            parse.scope,
            "\n".join(parse.lines[location.line - 1 : location.end_line]),
            location=location,
        )

    def parameters(self, children: list[Any]) -> tuple[syntax.Parameter, ...]:
        parameters = nodes(children)
        names: set[str] = set()
        for parameter in parameters:
            if parameter.name in names:
                raise DuplicateParameter(parameter.location, name=parameter.name)
            names.add(parameter.name)
        return parameters

    @rule
    def parameter(self, location: Location, children: list[Any]) -> syntax.Parameter:
        name = children[0]
        values = nodes(children, syntax.Expression)
        has_type = len(children) > 1 and children[1] == ":"
        annotation = values[0] if has_type else None
        facts = tuple(child for child in children if type(child) is tuple)
        if annotation is None and CURRENT.get().is_kernel:
            raise MissingParameterType(location, name=str(name))
        return syntax.Parameter(
            str(name),
            annotation,
            values[-1] if len(values) > has_type else None,
            syntax.is_constexpr(annotation),
            self._unique_facts(facts, location),
            location=location,
        )

    @rule
    def pointer(self, location: Location, children: list[Any]) -> syntax.Expression:
        stars, target = children
        if stars == "**":
            target = syntax.Unary("*", target, location=location)
        return syntax.Unary("*", target, location=location)

    @rule
    def descriptor(self, location: Location, children: list[Any]) -> syntax.Expression:
        name, opening, block, *padding, closing = children
        shown = padding[-1] if padding else None
        words = {"nan": "nan", "zero": "zero", None: "zero"}
        word = getattr(shown, "name", None)
        if isinstance(shown, syntax.Literal):
            word = repr(shown.value)
        is_described = name == "tensordesc" and (opening, closing) == ("<", ">")
        if not is_described or word not in words or not isinstance(block, syntax.Subscript):
            raise InvalidDescriptorType(location)
        return syntax.TensorDescriptor(block.value, block.indices, words[word], location=location)

    @rule
    def fact(self, location: Location, children: list[Any]) -> Range:
        word, value = str(children[0]), self.number([children[1]])
        instead = "state 'divisible N' (N a positive integer) or 'is N'"
        if word not in ("divisible", "is"):
            problem = f"'{word}' is nothing that a signature can state"
            raise InvalidFact(location, problem=problem, instead=instead)
        number = value.value
        if type(number) is not int or (word == "divisible" and number < 1):
            problem = f"'{word}' takes {'a positive' if word == 'divisible' else 'an'} integer"
            raise InvalidFact(location, problem=problem, instead=instead)
        if not CURRENT.get().is_kernel:
            raise InvalidFact(
                location,
                problem="a function parameter has no facts",
                instead="functions learn them from each call; state them in the kernel's signature",
            )
        return Range(("value" if word == "is" else word, number), location)

    def _unique_facts(
        self, facts: tuple[tuple[str, int], ...], location: Location
    ) -> tuple[tuple[str, int], ...]:
        if len(dict(facts)) < len(facts):
            problem, instead = "the same fact is stated twice", "remove one"
            raise InvalidFact(location, problem=problem, instead=instead)
        return facts

    # -- files -------------------------------------------------------------------------------------

    @rule
    def constant(self, location: Location, children: list[Any]) -> syntax.Constant:
        scope = CURRENT.get().scope
        return syntax.Constant(str(children[1]), children[3], scope, location=location)

    @rule
    def imported_name(self, location: Location, children: list[Any]) -> syntax.ImportedName:
        return syntax.ImportedName(str(children[0]), str(children[-1]), location=location)

    @rule
    def import_statement(self, location: Location, children: list[Any]) -> syntax.Import:
        place = locate(children[1])
        _, body = split_literal(children[1], place)
        names = nodes(children, syntax.ImportedName)
        return syntax.Import(unescape(body, place), names, place, location=location)

    def file(self, children: list[Any]) -> syntax.File:
        parse = CURRENT.get()
        documentation = ""
        if children and isinstance(children[0], Token):
            place = locate(children[0])
            documentation = inspect.cleandoc(unescape(split_literal(children[0], place)[1], place))
        parts = [content_of(child) for child in children]
        last = max(len(parse.lines), 1)
        tree = syntax.File(
            nodes(parts, syntax.Import),
            nodes(parts, syntax.Constant),
            nodes(parts, syntax.Function),
            documentation,
            parse.scope,
            location=Location(parse.file, 1, 1, last, len(parse.lines[-1]) + 1),
        )
        self._define(nodes(parts))
        return tree

    def _define(self, parts: Iterable[Any]) -> None:
        """Fill the scope of the file; imported names stand in it as None until they are loaded."""
        defined: dict[str, Location] = {}
        constants = {part.name: part for part in parts if isinstance(part, syntax.Constant)}
        for part in parts:
            if isinstance(part, syntax.Constant):
                _check_order(part, constants, defined)
            imported = part.names if isinstance(part, syntax.Import) else ()
            names = [(n.alias, n.location) for n in imported] or [(part.name, part.location)]
            for name, location in names:
                if name in defined:
                    first = ("the first definition is here", defined[name])
                    raise DuplicateName(location, notes=(first,), name=name)
                defined[name] = location
                CURRENT.get().scope[name] = None if imported else part


def check_depth(tree: syntax.Node) -> None:
    """Refuse a tree that is too deep for those who walk it recursively."""
    for node, depth in syntax.walk(tree):
        if depth > syntax.MAX_DEPTH:
            raise NestedTooDeeply(node.location, limit=syntax.MAX_DEPTH)


def _check_order(
    constant: syntax.Constant, constants: dict[str, syntax.Constant], defined: dict[str, Location]
) -> None:
    for node, _ in syntax.walk(constant.value):
        if isinstance(node, syntax.Name) and node.name in constants and node.name not in defined:
            instead = f"move 'const {node.name}' up"
            if node.name == constant.name:
                instead = "a constant cannot refer to itself"
            raise ConstantOrder(node.location, name=node.name, instead=instead)


def _target(node: syntax.Expression) -> syntax.Expression:
    """`node` as the target of an assignment."""
    pending = [node]
    while pending:
        part = pending.pop()
        if isinstance(part, syntax.Tuple):
            pending += part.items
        else:
            _name(part)
    return node


def _name(node: syntax.Expression) -> syntax.Name:
    if isinstance(node, syntax.Name):
        return node
    construct, instead = {
        syntax.Subscript: ("an element", foreign.STORE_INSTEAD),
        syntax.Attribute: ("an attribute", "assign to a variable"),
        syntax.Literal: ("a literal", "assign to a variable"),
        syntax.Call: ("a call", "assign to a variable; write memory with store(pointer, value)"),
    }.get(type(node), ("an expression", "assign to a variable"))
    raise UnsupportedTarget(node.location, construct=construct, instead=instead)


def _split_documentation(
    body: tuple[syntax.Statement, ...],
) -> tuple[str, tuple[syntax.Statement, ...]]:
    first = body[0]
    if isinstance(first, syntax.ExpressionStatement) and isinstance(first.value, syntax.Literal):
        text = first.value.value
        if isinstance(text, str):
            return inspect.cleandoc(text), body[1:]
    return "", body


def _check_loops(body: tuple[syntax.Statement, ...], in_loop: bool) -> None:
    """Refuse `break` and `continue` outside of loops."""
    pending = [(statement, in_loop) for statement in body]
    while pending:
        statement, inside = pending.pop()
        if isinstance(statement, syntax.Break | syntax.Continue) and not inside:
            word = type(statement).__name__.lower()
            instead = "return leaves a kernel" if word == "break" else "remove it"
            raise MisplacedStatement(statement.location, word=word, instead=instead)
        inside = inside or isinstance(statement, syntax.For | syntax.While)
        pending += [
            (child, inside)
            for child in syntax.children(statement)
            if isinstance(child, syntax.Statement)
        ]
