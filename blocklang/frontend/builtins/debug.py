"""Checks and output, at compile time and at run time."""

from __future__ import annotations

from typing import Any

from blocklang.frontend import emission, operators
from blocklang.frontend.constexpr import Static, static_value, text
from blocklang.frontend.conversion import tensor, truth
from blocklang.frontend.errors.operations import StaticAssertion
from blocklang.frontend.shapes import broadcast
from blocklang.ir.ops.debug import DeviceAssert, DevicePrint

from .registry import blaming, builtin


@builtin
def static_assert(cond: Any, msg: Static[Any] = "") -> None:
    """Stop the compilation with `msg` unless the compile-time value `cond` is true.

    Example: `bl.static_assert(BLOCK % 16 == 0, "BLOCK must be a multiple of 16")`
    """
    with blaming("cond"):
        condition = static_value(
            cond, "the condition of static_assert()", "device_assert() checks at run time"
        )
    if not condition:
        message = text(msg)
        raise StaticAssertion(
            text=f": {message}" if message else "",
            instead="compile the kernel with other compile-time arguments",
        )


@builtin
def static_print(*values: Any, sep: Static[str] = " ", end: Static[str] = "\n") -> None:
    """Print compile-time values, and the types of runtime values, while the kernel is compiled.

    Example: `bl.static_print("block size", BLOCK)`
    """
    emission.session().messages.append(sep.join(map(text, values)) + end)


@builtin
def device_print(prefix: Static[Any], *args: Any, hex: Static[bool] = False) -> None:
    """Print `prefix` and each element of each argument, at run time, one line an element.

    Example: `bl.device_print("offsets", offsets)`
    """
    values = [tensor(value, "what is printed") for value in args]
    emission.builder().insert(
        DevicePrint(
            text(prefix), tuple(emission.ir(value) for value in values), hex=bool(hex),
            loc=emission.location(),
        )
    )  # fmt: skip


@builtin
def device_assert(cond: Any, msg: Static[Any] = "", mask: Any = None) -> None:
    """Stop the kernel with `msg` at run time where an element of `cond` is false.

    Only elements where `mask` holds are checked. Compiled only where debugging was asked for, by
    `@blocklang.jit(debug=True)`, the launch option `debug=True` or BLOCKLANG_DEBUG=1.

    Example: `bl.device_assert(index < n, "index out of range")`
    """
    condition = truth(tensor(cond, "the condition of device_assert()"))
    if mask is not None:
        ignored = operators.unary("not", tensor(mask, "the mask"))
        condition, ignored = broadcast(condition, ignored)
        condition = operators.logical("or", condition, ignored)
    if condition.known or not emission.session().options.get("debug", True):
        return
    emission.builder().insert(
        DeviceAssert(emission.ir(condition), text(msg), loc=emission.location())
    )
