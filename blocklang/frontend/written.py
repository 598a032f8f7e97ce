"""The body of one function in `.bl` spelling, for `standalone`: from tree to tree.

A name that is no variable is looked up where the function stands, and written as what it is. An
expression of which a part cannot be written becomes its value, if that was the same each time the
kernel's compilation came by; where nothing helps, the statement's expression stays as it was, with
a note. Code that the compilation never reached is written as far as its names mean anything.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from types import ModuleType
from typing import Any, Protocol, TypeVar

from blocklang.ir.diagnostics import CompileError

from . import syntax
from .analysis import assigned_names
from .scope import Scope
from .spoken import number, spoken
from .unparse import expression as text_of
from .values import Tensor, compiled_function, leaves, same

_UNKNOWN = object()
_ELEMENTWISE = {id(builtins.max): "maximum", id(builtins.min): "minimum"}
Tree = TypeVar("Tree", bound=syntax.Node)


class _Unwritable(Exception):
    """A part of an expression that has no spelling; the node."""

    def __init__(self, node: syntax.Expression) -> None:
        super().__init__()
        self.node = node


class Values(Protocol):
    """What a compilation met; see `standalone.Seen`."""

    values: dict[int, list[Any]]
    outside: set[int]
    inside: set[int]


class Writing(Protocol):
    """The file that the function is written for; see `standalone`."""

    @property
    def seen(self) -> Values:
        """What the compilation met."""

    @property
    def variables(self) -> Mapping[int, Mapping[str, str]]:
        """New names of variables, by function."""

    def note(self, text: str) -> None:
        """Say what could not be written."""

    def reference(self, tree: syntax.Function) -> str | None:
        """The name of a function in the file."""


class FunctionWriter:
    """Writes one function. `language` collects the names of the language in it.

    `pinned` are compile-time parameters that the text does not have: their values are written.
    """

    def __init__(
        self, writing: Writing, tree: syntax.Function, scope: Scope, pinned: Mapping[str, Any]
    ) -> None:
        self._writing = writing
        self._seen = writing.seen
        self._tree = tree
        self._scope = scope
        assigned = assigned_names(tree.body)
        self._pinned = {name: value for name, value in pinned.items() if name not in assigned}
        self._locals = {p.name for p in tree.parameters if p.name not in pinned} | set(assigned)
        self._renamed = writing.variables.get(id(tree), {})
        self.language: set[str] = set()

    # -- statements ------------------------------------------------------------------------------

    def parameter(self, node: syntax.Parameter) -> syntax.Parameter:
        """A parameter of a function, which has no type but perhaps `constexpr` and a default."""
        annotation = None
        if syntax.is_constexpr(node.annotation):
            annotation = self._language_name("constexpr", node)
        default = None if node.default is None else self._whole(node.default)
        if isinstance(default, syntax.Captured):
            default = None
        return replace(node, annotation=annotation, default=default, facts=())

    def statements(self, nodes: Sequence[syntax.Statement]) -> tuple[syntax.Statement, ...]:
        """Statements in `.bl` spelling."""
        return tuple(map(self._statement, nodes))

    def _statement(self, node: syntax.Statement) -> syntax.Statement:
        if isinstance(node, syntax.Raise):
            return self._raise(node)
        if isinstance(node, syntax.AnnotatedAssign):
            return self._annotated(node)
        if isinstance(node, syntax.AugmentedAssign) and id(node.target) in self._seen.outside:
            value = syntax.Binary(node.operator, node.target, node.value, location=node.location)
            target = self._target(node.target)
            return syntax.Assign((target,), self._whole(value), location=node.location)
        changes: dict[str, Any] = {}
        for part in fields(node):
            value = getattr(node, part.name)
            if part.name == "target":
                changes[part.name] = self._target(value)
            elif part.name == "targets":
                changes[part.name] = tuple(map(self._target, value))
            elif isinstance(value, syntax.Expression):
                changes[part.name] = self._whole(value)
            elif isinstance(value, tuple):
                changes[part.name] = self.statements(value)
        return replace(node, **changes)

    def _raise(self, node: syntax.Raise) -> syntax.Statement:
        # Nothing looks up what is raised: it is the subject of a message.
        if isinstance(node.value, syntax.Call):
            arguments = tuple(map(self._whole, node.value.arguments))
            return replace(node, value=replace(node.value, arguments=arguments))
        return node

    def _annotated(self, node: syntax.AnnotatedAssign) -> syntax.Statement:
        target = self._target(node.target)
        if node.value is None:
            return syntax.Pass(location=node.location)
        if syntax.is_constexpr(node.annotation):
            annotation = self._language_name("constexpr", node)
            return replace(
                node, target=target, annotation=annotation, value=self._whole(node.value)
            )
        return syntax.Assign((target,), self._whole(node.value), location=node.location)

    def _target(self, node: syntax.Expression) -> Any:
        if isinstance(node, syntax.Tuple):
            return replace(node, items=tuple(map(self._target, node.items)))
        assert isinstance(node, syntax.Name)
        return replace(node, name=self._renamed.get(node.name, node.name))

    # -- expressions -----------------------------------------------------------------------------

    def _whole(self, node: syntax.Expression) -> syntax.Expression:
        """An expression of a statement; what cannot be written stays as it is, with a note."""
        try:
            return self._expression(node)
        except _Unwritable as problem:
            self._note(problem.node, "cannot be written in .bl")
            return node

    def _note(self, node: syntax.Expression, what: str) -> None:
        self._writing.note(
            f"in {self._tree.name}, line {node.location.line}: {text_of(node)} {what}"
        )

    def _expression(self, node: syntax.Expression) -> syntax.Expression:
        try:
            return self._translated(node)
        except _Unwritable:
            value = self._value(node)
            known = None if value is _UNKNOWN else self._spoken(value, node)
            if known is None:
                raise
            self._note(node, f"is written as its value here, {text_of(known)}")
            return known

    def _translated(self, node: syntax.Expression) -> syntax.Expression:
        if isinstance(node, syntax.Captured):
            found = self._outside(lambda: self._scope.usable(node.value, "the default"))
            return self._written(node, found)
        if isinstance(node, syntax.Name):
            return self._name(node)
        if isinstance(node, syntax.Attribute):
            found = self._static(node)
            if found is not _UNKNOWN:
                return self._written(node, found)
        if isinstance(node, syntax.Call):
            return self._call(node)
        return self._parts(node)

    def _parts(self, node: Tree) -> Tree:
        """The node with its parts written."""
        changes: dict[str, Any] = {}
        for part in fields(node):
            value = getattr(node, part.name)
            if isinstance(value, syntax.Expression):
                changes[part.name] = self._expression(value)
            elif isinstance(value, tuple):
                changes[part.name] = tuple(map(self._expression, value))
        return replace(node, **changes)

    def _name(self, node: syntax.Name) -> syntax.Expression:
        if self._is_local(node):
            return replace(node, name=self._renamed.get(node.name, node.name))
        if node.name in self._locals and id(node) in self._seen.inside:
            # A variable on one way, and what is around the function on another.
            raise _Unwritable(node)
        return self._written(node, self._static(node))

    def _call(self, node: syntax.Call) -> syntax.Expression:
        function = self._static(node.function)
        if id(function) in _ELEMENTWISE:
            return self._extremum(node, _ELEMENTWISE[id(function)])
        if function is _UNKNOWN:
            function = self._value(node.function)
        tree = None if function is _UNKNOWN else compiled_function(function)
        renamed = self._writing.variables.get(id(tree), {})
        keywords = tuple(
            replace(k, name=renamed.get(k.name, k.name), value=self._expression(k.value))
            for k in node.keywords
        )
        arguments = tuple(map(self._expression, node.arguments))
        return replace(
            node, function=self._expression(node.function), arguments=arguments, keywords=keywords
        )

    def _extremum(self, node: syntax.Call, elementwise: str) -> syntax.Expression:
        """Python's `max` and `min`, whose names mean reductions in `.bl` where blocks appear."""
        arguments = tuple(map(self._expression, node.arguments))
        met = [self._seen.values.get(id(argument), []) for argument in node.arguments]
        blocks = [_is_block(value) for values in met for value in values]
        if not any(blocks) and not any(isinstance(v, tuple) for values in met for v in values):
            return self._parts(node)
        runs_always = any(values and all(map(_is_runtime, values)) for values in met)
        if len(arguments) < 2 or not runs_always or node.keywords:
            raise _Unwritable(node)
        result = arguments[0]
        name = self._language_name(elementwise, node)
        for argument in arguments[1:]:
            result = syntax.Call(name, (result, argument), (), location=node.location)
        return result

    # -- values ----------------------------------------------------------------------------------

    def _is_local(self, node: syntax.Name) -> bool:
        return node.name in self._locals and id(node) not in self._seen.outside

    def _static(self, node: syntax.Expression) -> Any:
        """What a name, or an attribute of a module, stands for around the function."""
        if isinstance(node, syntax.Name) and not self._is_local(node):
            if node.name in self._pinned:
                return self._pinned[node.name]
            return self._outside(lambda: self._scope.lookup(node.name))
        if isinstance(node, syntax.Attribute):
            owner = self._static(node.value)
            if isinstance(owner, ModuleType | type):
                return self._outside(lambda: self._scope.module_attribute(owner, node.name))
        return _UNKNOWN

    def _outside(self, find: Any) -> Any:
        try:
            return find()
        except CompileError:
            return _UNKNOWN

    def _value(self, node: syntax.Expression) -> Any:
        """The value that an expression always had."""
        values = self._seen.values.get(id(node), [])
        if values and all(same(values[0], value) for value in values[1:]):
            return values[0]
        return _UNKNOWN

    def _written(self, node: syntax.Expression, value: Any) -> syntax.Expression:
        known = None if value is _UNKNOWN else self._spoken(value, node)
        if known is not None:
            return known
        if id(node) in self._seen.values or isinstance(node, syntax.Captured):
            raise _Unwritable(node)
        return node

    def _spoken(self, value: Any, node: syntax.Node) -> syntax.Expression | None:
        functions: set[str | None] = set()

        def reference(tree: syntax.Function) -> str | None:
            name = self._writing.reference(tree)
            functions.add(name)
            return name

        known = spoken(number(value), reference, node.location, self._locals)
        if known is not None:
            self.language |= _names_in(known) - functions
        return known

    def _language_name(self, name: str, node: syntax.Node) -> syntax.Name:
        self.language.add(name)
        return syntax.Name(name, location=node.location)


def _names_in(node: syntax.Expression) -> set[str]:
    return {part.name for part, _ in syntax.walk(node) if isinstance(part, syntax.Name)}


def _is_block(value: Any) -> bool:
    return any(isinstance(leaf, Tensor) and leaf.is_block for leaf in leaves(value))


def _is_runtime(value: Any) -> bool:
    return any(isinstance(leaf, Tensor) for leaf in leaves(value))
