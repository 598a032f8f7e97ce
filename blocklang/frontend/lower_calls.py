"""Calls: of the language's functions, of Python's at compile time, and of functions in kernels.

A function is compiled once for each combination of argument types and compile-time arguments, into
an IR function that `call` ops name; `inline` puts its body in their place. Tuples are passed leaf
by leaf. What a function returns that is known at compile time is not passed but remembered. A
function that only rearranges its arguments needs no call at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blocklang.ir import core
from blocklang.ir.diagnostics import CompileError
from blocklang.ir.location import Location
from blocklang.ir.ops.control import Call, Return
from blocklang.ir.types import DType

from . import constexpr, emission, syntax
from .attributes import Query
from .builtins.math import convert
from .builtins.python import PYTHON
from .builtins.registry import REQUIRED, Parameter, Signature, call_builtin
from .carried import runtime_leaves, with_leaves
from .errors.names import KernelCalled, NotCallable, RecursiveCall
from .errors.types import CompileTimeOperation
from .lower_base import LoweringBase
from .values import (
    Aggregate,
    BoundMethod,
    Tensor,
    compiled_function,
    describe,
    is_language_function,
)


@dataclass(frozen=True)
class Specialisation:
    """A function compiled for one combination of arguments.

    `value` is what it returns, its Tensors those inside of the function; `results` are those of
    them that the IR function returns. Without `function` all of them are arguments.
    """

    function: core.Function | None
    value: Any
    results: tuple[Tensor, ...]
    arguments: tuple[core.Value, ...]


class Calls(LoweringBase):
    """The calls of a function."""

    def call(self, function: Any, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        if isinstance(function, Query):
            return function()
        if is_language_function(function):
            return call_builtin(function, arguments, keywords)
        if isinstance(function, BoundMethod):
            return self.call(function.function, [function.value, *arguments], keywords)
        tree = compiled_function(function)
        if tree is not None:
            return self._call_function(tree, arguments, keywords)
        if isinstance(function, DType) and len(arguments) == 1 and not keywords:
            return convert(arguments[0], function, None, False)
        own = _python_function(function)
        if own is None:
            instead = "kernels call functions of the language and those marked @blocklang.jit"
            raise NotCallable(what=describe(function), instead=instead)
        try:
            return own(*arguments, **keywords)
        except TypeError as error:
            # Only a wrong number of arguments, found by the call itself, is the author's mistake.
            if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
                raise
            instead = "call it as in Python"
            raise CompileTimeOperation(problem=str(error), instead=instead) from None

    def _call_function(
        self, tree: syntax.Function, arguments: Sequence[Any], keywords: Mapping[str, Any]
    ) -> Any:
        if tree.is_kernel:
            raise KernelCalled(name=tree.name)
        location = emission.location()
        values = self._bind(tree, arguments, keywords)
        key = (id(tree), tuple(map(_key, values)))
        known = self.state.specialisations.get(key)
        if known is None:
            if any(active is tree for active in self.state.stack):
                raise RecursiveCall(name=tree.name)
            try:
                known = self._specialise(tree, values)
            except CompileError as error:
                if error.location is not None:
                    error.location = error.location.called_from(location)
                raise
            # The tree stays alive with its key, whose id must not be used again.
            self.state.specialisations[key] = known
            self.state.trees.append(tree)
        emission.builder().loc = location
        return self._emit_call(known, values, location)

    def _emit_call(self, known: Specialisation, values: Sequence[Any], location: Location) -> Any:
        passed = [leaf for value in values for leaf in runtime_leaves(value)]
        if known.function is None:
            by_argument = dict(zip(known.arguments, passed, strict=True))
            given = [
                leaf if leaf.handle is None else by_argument[leaf.handle]
                for leaf in runtime_leaves(known.value)
            ]
            return with_leaves(known.value, iter(given))
        op = Call(
            known.function.name,
            tuple(emission.ir(leaf) for leaf in passed),
            loc=location,
            result_types=known.function.result_types,
        )
        emission.builder().insert(op)
        results = iter([Tensor(result.type, result) for result in op.results])
        returned = [
            leaf if leaf.handle is None else next(results) for leaf in runtime_leaves(known.value)
        ]
        return with_leaves(known.value, iter(returned))

    def _bind(
        self, tree: syntax.Function, arguments: Sequence[Any], keywords: Mapping[str, Any]
    ) -> list[Any]:
        """The value of each parameter."""
        signature = Signature(
            tree.name,
            tuple(
                Parameter(p.name, REQUIRED if p.default is None else p.default)
                for p in tree.parameters
            ),
        )
        bound = signature.bind(arguments, keywords)
        values = []
        for parameter in tree.parameters:
            value = bound.get(parameter.name, REQUIRED)
            if value is REQUIRED:
                assert parameter.default is not None
                value = self.evaluate_in(parameter.default, tree.globals)
            if parameter.is_constexpr or syntax.is_constexpr(parameter.annotation):
                what = f"'{parameter.name}' of {tree.name}(), which is marked 'constexpr',"
                value = constexpr.static_value(value, what)
            values.append(value)
        return values

    def _specialise(self, tree: syntax.Function, values: Sequence[Any]) -> Specialisation:
        function = core.Function(self.state.unique_name(tree.name), tree.location, is_kernel=False)
        builder = self.session.builder
        bound: dict[str, Any] = {}
        for parameter, value in zip(tree.parameters, values, strict=True):
            tensors = []
            for leaf in runtime_leaves(value):
                argument = function.block.add_argument(
                    leaf.type, parameter.location, parameter.name
                )
                tensors.append(Tensor(leaf.type, argument))
            bound[parameter.name] = with_leaves(value, iter(tensors))
        with builder.inside(function.block):
            ended = self.lower_body(tree, bound)
            value = None if ended is None else ended.value
            results = tuple(leaf for leaf in runtime_leaves(value) if leaf.handle is not None)
            trivial = not function.block.ops
            returned = tuple(emission.ir(leaf) for leaf in results)
            builder.insert(Return(returned, loc=ended.location if ended else tree.location))
        function.result_types = tuple(leaf.type for leaf in results)
        arguments = tuple(function.arguments)
        if trivial:
            return Specialisation(None, value, results, arguments)
        self.session.module.add(function)
        return Specialisation(function, value, results, arguments)

    # What `lower` provides.

    state: State

    def lower_body(self, tree: syntax.Function, bound: Mapping[str, Any]) -> Any:
        """Compile the body of another function, its parameters bound."""
        raise NotImplementedError

    def evaluate_in(self, node: syntax.Expression, names: Any) -> Any:
        """The value of an expression that sees only `names`."""
        raise NotImplementedError


class State:
    """What all functions of one compilation share."""

    def __init__(self) -> None:
        self.specialisations: dict[Any, Specialisation] = {}
        self.stack: list[syntax.Function] = []
        self.trees: list[syntax.Function] = []
        self.names: set[str] = set()

    def unique_name(self, name: str) -> str:
        """`name`, with a number where the module has that name already."""
        number, unique = 0, name
        while unique in self.names:
            number += 1
            unique = f"{name}_{number}"
        self.names.add(unique)
        return unique


def _python_function(function: Any) -> Callable[..., Any] | None:
    try:
        return PYTHON.get(function)
    except TypeError:  # unhashable
        return None


def _key(value: Any) -> Any:
    """What a specialisation depends on: types of runtime values, compile-time values themselves."""
    if isinstance(value, tuple):
        return tuple(map(_key, value))
    if isinstance(value, Tensor):
        return "runtime", value.type
    if isinstance(value, Aggregate):
        return value.form, _key(value.parts)
    if isinstance(value, int | float | str | None):
        return type(value), repr(value)
    if isinstance(value, DType):
        return value
    return id(value)
