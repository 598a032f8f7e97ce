"""Ops for people: printing and assertions inside a kernel."""

from __future__ import annotations

from blocklang.ir.core import Value
from blocklang.ir.op import Effect, Op, attribute, operand, require
from blocklang.ir.types import element_type, i1


class DevicePrint(Op, mnemonic="device_print", effects=Effect.OBSERVABLE):
    """Prints `prefix` and each element of each value with its program and index, one line an
    element.
    """

    prefix: str = attribute()
    values: tuple[Value, ...] = operand(variadic=True)
    hex: bool = attribute(default=False)


class DeviceAssert(Op, mnemonic="device_assert", effects=Effect.OBSERVABLE):
    """Stops the kernel with `message` where an element of `condition` (i1) is false."""

    condition: Value = operand()
    message: str = attribute()

    def check(self) -> None:
        require(element_type(self.condition.type) == i1, "condition is an i1")
