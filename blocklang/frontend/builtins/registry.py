"""The registry of the language's functions, and the binding of arguments to parameters.

`@builtin` enters a plain Python function whose body builds IR. Its signature and docstring are what
users see; a parameter annotated `Static[...]` gets a compile-time value. With `method=True` the
function is also a method of blocks and scalars.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import wraps
from typing import Any, TypeVar, overload

from blocklang.frontend import emission
from blocklang.frontend.constexpr import static_value
from blocklang.frontend.errors.names import (
    MissingArgument,
    RepeatedArgument,
    TooManyArguments,
    UnknownKeyword,
)
from blocklang.ir.diagnostics import CompileError

REQUIRED = object()
"""The default of a parameter that has none."""


@dataclass(frozen=True)
class Parameter:
    """A parameter; `variadic` takes the remaining positional arguments."""

    name: str
    default: Any = REQUIRED
    is_constexpr: bool = False
    variadic: bool = False


@dataclass(frozen=True)
class Signature:
    """The parameters of a function of the language, or of the kernel author."""

    name: str
    parameters: tuple[Parameter, ...]
    by_name: dict[str, Parameter] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        self.by_name.update((p.name, p) for p in self.parameters if not p.variadic)

    @property
    def listed(self) -> str:
        """The parameters, for messages."""
        return ", ".join(f"*{p.name}" if p.variadic else p.name for p in self.parameters) or "none"

    def bind(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments by parameter, without defaults; raises an error of the catalogue."""
        bound: dict[str, Any] = {}
        remaining = list(arguments)
        for parameter in self.parameters:
            if parameter.variadic:
                bound[parameter.name], remaining = tuple(remaining), []
            elif remaining:
                bound[parameter.name] = remaining.pop(0)
        if remaining:
            count = len(self.parameters)
            expected = f"{count} argument{'s' * (count != 1)}"
            raise TooManyArguments(
                function=self.name,
                expected=expected,
                found=len(arguments),
                parameters=self.listed,
            )
        for name, value in keywords.items():
            if name not in self.by_name:
                raise self._unknown(name)
            if name in bound:
                repeated = RepeatedArgument(function=self.name, name=name, parameters=self.listed)
                raise blame(name, repeated)
            bound[name] = value
        for parameter in self.parameters:
            if parameter.name not in bound and parameter.default is REQUIRED:
                raise MissingArgument(
                    function=self.name, name=parameter.name, parameters=self.listed
                )
        return bound

    def _unknown(self, name: str) -> CompileError:
        close = get_close_matches(name, self.by_name, 1)
        instead = f"did you mean '{close[0]}'?" if close else f"its parameters are: {self.listed}"
        return blame(name, UnknownKeyword(function=self.name, name=name, instead=instead))


Function = TypeVar("Function", bound=Callable[..., Any])

BUILTINS: dict[str, Callable[..., Any]] = {}
"""The language's functions by name."""

METHODS: dict[str, Callable[..., Any]] = {}
"""Those that are methods of runtime values as well."""


@overload
def builtin(function: Function) -> Function: ...
@overload
def builtin(
    *,
    method: bool = False,
    name: str = "",
    methods: dict[str, Callable[..., Any]] | None = None,
) -> Callable[[Function], Function]: ...


def builtin(
    function: Function | None = None,
    *,
    method: bool = False,
    name: str = "",
    methods: dict[str, Callable[..., Any]] | None = None,
) -> Function | Callable[[Function], Function]:
    """Enter a function into the language; outside of kernels, calling it raises OutsideKernel.

    With `methods` it is entered there alone: a method of some kind of value that no name reaches.
    """
    table = BUILTINS if methods is None else methods

    def enter(function: Function) -> Function:
        own_name = name or function.__name__.rstrip("_")
        assert function.__doc__, f"{own_name} needs a docstring"
        assert own_name not in table, f"{own_name} is defined twice"

        @wraps(function)
        def checked(*arguments: Any, **keywords: Any) -> Any:
            if not emission.is_active():
                raise emission.OutsideKernel(
                    f"{own_name}() is a function of the kernel language: call it in a function "
                    "decorated with @blocklang.jit, and launch that"
                )
            return function(*arguments, **keywords)

        checked.__name__ = checked.__qualname__ = own_name
        marks = vars(checked)
        marks.update(__blocklang_builtin__=checked)
        marks.update(__blocklang_signature__=_signature(own_name, function))
        table[own_name] = checked
        if method:
            METHODS[own_name] = checked
        return checked  # type: ignore[return-value]

    return enter if function is None else enter(function)


def _signature(name: str, function: Callable[..., Any]) -> Signature:
    parameters = []
    for parameter in inspect.signature(function).parameters.values():
        default = parameter.default
        variadic = parameter.kind is inspect.Parameter.VAR_POSITIONAL
        parameters.append(
            Parameter(
                parameter.name,
                () if variadic else REQUIRED if default is inspect.Parameter.empty else default,
                str(parameter.annotation).startswith("Static"),
                variadic,
            )
        )
    return Signature(name, tuple(parameters))


def call_builtin(
    function: Callable[..., Any], arguments: Sequence[Any], keywords: Mapping[str, Any]
) -> Any:
    """Call a function of the language with front-end values."""
    signature: Signature = function.__blocklang_signature__  # type: ignore[attr-defined]
    bound = signature.bind(arguments, keywords)
    takes_any = any(parameter.variadic for parameter in signature.parameters)
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for parameter in signature.parameters:
        if parameter.name not in bound:
            continue
        value = bound[parameter.name]
        if parameter.is_constexpr:
            with blaming(parameter.name):
                value = static_value(value, f"'{parameter.name}' of {signature.name}()")
        if parameter.variadic:
            positional.extend(value)
        elif takes_any and parameter.default is REQUIRED:
            positional.append(value)
        else:
            named[parameter.name] = value
    return function(*positional, **named)


class blaming:
    """Errors raised inside are about one argument: carets go under it, not under the call."""

    def __init__(self, argument: str) -> None:
        self.argument = argument

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        is_open = isinstance(error, CompileError) and error.location is None
        if is_open and not hasattr(error, "argument"):
            error.argument = self.argument  # type: ignore[union-attr]


def blame(argument: str, error: CompileError) -> CompileError:
    """`error`, about one argument of the call."""
    error.argument = argument  # type: ignore[attr-defined]
    return error
