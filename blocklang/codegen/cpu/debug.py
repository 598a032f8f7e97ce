"""Assertions, whose number the kernel returns when one fails, and printing through C's printf."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from blocklang.codegen.lower import lowers
from blocklang.ir.core import Value
from blocklang.ir.ops.debug import DeviceAssert, DevicePrint
from blocklang.ir.types import DType, element_type, i1, shape_of

from .emitter import Coordinate, CpuEmitter
from .memory import load_buffer
from .places import ZERO


@lowers(DeviceAssert, on=("cpu",))
def _(e: CpuEmitter, op: DeviceAssert) -> None:
    holds = e.evaluate(op.condition, e.place)
    text = holds.text
    if not holds.is_uniform:
        kind = f"<{e.width} x i1>"
        vector = e.vector(holds, i1)
        text = e.emit(f"call i1 @llvm.vector.reduce.and.v{e.width}i1({kind} {vector})")
    if op not in e.asserts:
        e.asserts.append(op)
    status = e.asserts.index(op) + 1
    failed, passed = e.new_label("failed"), e.new_label("passed")
    e.line(f"br i1 {text}, label %{passed}, label %{failed}")
    e.label(failed)
    e.line(f"ret i32 {status}")
    e.label(passed)


@lowers(DevicePrint, on=("cpu",))
def _(e: CpuEmitter, op: DevicePrint) -> None:
    if not op.values:
        _print(e, op, None, "", ())
    for value in op.values:
        shape = shape_of(value.type)
        if not shape:
            _print(e, op, value, e.names[value], ())
            continue
        with ExitStack() as loops:
            indices = [loops.enter_context(e.loop("0", str(n), 1)) if n > 1 else "0" for n in shape]
            e.width = 1
            place = tuple(
                ZERO if n == 1 else Coordinate(d, i, 0)
                for d, (i, n) in enumerate(zip(indices, shape, strict=True))
            )
            element = load_buffer(e, e.reads[value], value.type, place)
            _print(e, op, value, element.text, indices)


def _print(
    e: CpuEmitter, op: DevicePrint, value: Value | None, text: str, indices: Sequence[str]
) -> None:
    """`pid (x, y, z) idx (i, j) prefix value`, one call so that lines stay whole."""
    form = "pid (%d, %d, %d) idx (" + ", ".join(["%lld"] * len(indices)) + ") "
    arguments = [f"i32 %program_{axis}" for axis in "xyz"] + [f"i64 {i}" for i in indices]
    form += op.prefix.replace("%", "%%")
    if value is not None:
        specifier, argument = _argument(e, value, text, op.hex)
        form += specifier
        arguments.append(argument)
    where = e.global_string(form + "\n")
    e.emit(f"call i32 (ptr, ...) @printf(ptr {where}, {', '.join(arguments)})")


def _argument(e: CpuEmitter, value: Value, text: str, hex: bool) -> tuple[str, str]:
    kind, own = element_type(value.type), e.scalar_type(value.type)
    if not isinstance(kind, DType):
        return "%p", f"ptr {text}"
    if kind.is_float:
        assert kind.bits >= 32, "narrow floats are converted before they are printed"
        return (
            "%f",
            f"double {text if own == 'double' else e.emit(f'fpext {own} {text} to double')}",
        )
    extend = "sext" if kind.is_signed else "zext"
    wide = text if kind.bits == 64 else e.emit(f"{extend} {own} {text} to i64")
    return "%llx" if hex else "%lld" if kind.is_signed else "%llu", f"i64 {wide}"
