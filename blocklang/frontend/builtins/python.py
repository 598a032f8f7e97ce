"""Python's own functions that kernels may call, and what they mean there.

With compile-time arguments they are Python's. With runtime values `min`, `max` and `abs` are the
elementwise functions of the language, `range` is a loop, and `print` prints on the device.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

from blocklang.frontend.constexpr import constexpr, static_value, text
from blocklang.frontend.errors.operations import NotIterable
from blocklang.frontend.errors.types import CompileTimeOperation
from blocklang.frontend.values import Aggregate, Range, Tensor, describe, leaves

from .debug import device_print
from .loops import range_
from .math import maximum, minimum
from .reduce import max_, min_
from .registry import BUILTINS, call_builtin

MAX_UNROLLED = 65536
"""Iterations of an unrolled loop."""

PYTHON: dict[Any, Callable[..., Any]] = {}
"""Python's function or class -> what it does in a kernel."""


def _enter(original: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        PYTHON[original] = function
        return function

    return enter


def _is_static(values: Any) -> bool:
    return not any(isinstance(leaf, Tensor) for leaf in leaves(tuple(values)))


def compute(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Call a Python function with compile-time values; its errors become ours."""
    try:
        return function(*arguments, **keywords)
    except (TypeError, ValueError, OverflowError, ArithmeticError) as error:
        raise CompileTimeOperation(
            problem=str(error), instead="this is computed at compile time, with Python's rules"
        ) from None


def static_call(original: Any) -> Callable[..., Any]:
    """A function that only takes compile-time values."""
    name = original.__name__

    def call(*arguments: Any, **keywords: Any) -> Any:
        instead = {
            "float": "convert with .to(float32)",
            "int": "convert with .to(int32)",
            "bool": "compare: x != 0",
        }.get(name, "use the function of the language that does the same")
        values = [static_value(value, f"the argument of {name}()", instead) for value in arguments]
        named = {
            key: static_value(value, f"'{key}' of {name}()", instead)
            for key, value in keywords.items()
        }
        return compute(original, *values, **named)

    return call


for _original in (builtins.float, builtins.int, builtins.bool, builtins.str, builtins.round,
                  builtins.divmod, builtins.sorted):  # fmt: skip
    PYTHON[_original] = static_call(_original)


@_enter(builtins.range)
def _range(*arguments: Any) -> Range:
    return call_builtin(range_, arguments, {})


@_enter(builtins.len)
def _len(value: Any) -> int:
    if isinstance(value, Tensor) and value.is_block:
        return value.shape[0]
    return compute(builtins.len, value)


@_enter(builtins.abs)
def _abs(value: Any) -> Any:
    return BUILTINS["abs"](value) if isinstance(value, Tensor) else compute(builtins.abs, value)


@_enter(builtins.min)
def _min(*values: Any) -> Any:
    return _fold(builtins.min, minimum, values)


@_enter(builtins.max)
def _max(*values: Any) -> Any:
    return _fold(builtins.max, maximum, values)


def _fold(original: Any, function: Callable[..., Any], values: tuple[Any, ...]) -> Any:
    items = values[0] if len(values) == 1 and isinstance(values[0], tuple) else values
    if _is_static(items) or not items:
        return compute(original, items)
    result = items[0]
    for item in items[1:]:
        result = function(result, item)
    return result


@_enter(builtins.tuple)
def _tuple(value: Any = ()) -> tuple[Any, ...]:
    return iterate(value)


PYTHON[builtins.list] = _tuple


def iterate(value: Any) -> tuple[Any, ...]:
    """The items of a compile-time tuple or range."""
    if isinstance(value, tuple):
        return value
    if isinstance(value, Range):
        bounds = (value.start, value.end, value.step)
        start, end, step = static_value(bounds, "the bound of an unrolled loop")
        numbers = compute(builtins.range, start, end, step)
        if len(numbers) > MAX_UNROLLED:
            raise CompileTimeOperation(
                problem=f"a loop of {len(numbers)} iterations is too long to be unrolled",
                instead=f"use range(); static_range() goes up to {MAX_UNROLLED}",
            )
        return tuple(numbers)
    raise NotIterable(found=describe(value))


@_enter(builtins.isinstance)
def _isinstance(value: Any, classes: Any) -> bool:
    for cls in classes if isinstance(classes, tuple) else (classes,):
        if cls is constexpr:
            if not isinstance(value, Tensor | Aggregate):
                return True
        elif isinstance(cls, type) and isinstance(value, cls):
            return True
    return False


@_enter(builtins.print)
def _print(prefix: Any = "", *values: Any) -> None:
    if isinstance(prefix, Tensor):
        prefix, values = "", (prefix, *values)
    call_builtin(device_print, (text(prefix), *values), {})


@_enter(constexpr)
def _constexpr(value: Any) -> Any:
    return static_value(value, "the argument of constexpr()")


TEXT_FUNCTIONS: dict[str, Callable[..., Any]] = {}
"""Names that the language and Python share, for `.bl` files, where one name must do for both."""


def _share(name: str, reduction: Callable[..., Any]) -> None:
    """Let a name mean a function of a block, and Python's function of scalars and numbers."""
    plain = PYTHON[getattr(builtins, name)]

    def shared(*arguments: Any, **keywords: Any) -> Any:
        blocks = any(isinstance(value, Tensor) and value.is_block for value in arguments)
        if keywords or blocks or (arguments and isinstance(arguments[0], tuple)):
            return call_builtin(reduction, arguments, keywords)
        return plain(*arguments)

    shared.__name__ = name
    shared.__blocklang_signature__ = reduction.__blocklang_signature__  # type: ignore[attr-defined]
    PYTHON[shared] = TEXT_FUNCTIONS[name] = shared


_share("abs", BUILTINS["abs"])
_share("max", max_)
_share("min", min_)


def compile_time(function: Any) -> Any:
    """Let kernels call `function` with compile-time values, while they are compiled."""
    PYTHON[function] = static_call(function)
    return function
