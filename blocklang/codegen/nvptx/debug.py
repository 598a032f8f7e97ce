"""device_print and device_assert, by the functions that CUDA gives to device code."""

from __future__ import annotations

from blocklang.codegen.lower import lowers
from blocklang.ir.core import Value
from blocklang.ir.ops.debug import DeviceAssert, DevicePrint
from blocklang.ir.types import BlockType, DType, element_type, i32

from .elements import element as element_of
from .emitter import NvptxEmitter

_PLACE = "pid (%u, %u, %u) "


@lowers(DevicePrint, on=("nvptx",))
def _(e: NvptxEmitter, op: DevicePrint) -> None:
    # What the author wrote is text, not a format.
    prefix = op.prefix.replace("%", "%%")
    if not op.values:
        with e.guarded(e.owner(i32)):
            _print(e, f"{_PLACE}idx () {prefix}\n", _program(e))
    for value in op.values:
        for register in range(e.lanes(value.type) or 1):
            with e.guarded(e.owner(value.type)):
                _print_element(e, prefix, value, register, op.hex)


def _program(e: NvptxEmitter) -> list[tuple[str, str]]:
    """The program's indices as arguments for `_PLACE`."""
    name = "@llvm.nvvm.read.ptx.sreg.ctaid"
    return [("i32", e.emit(f"call i32 {name}.{axis}()")) for axis in "xyz"]


def _print_element(e: NvptxEmitter, prefix: str, value: Value, register: int, in_hex: bool) -> None:
    arguments, indices = _program(e), []
    if isinstance(value.type, BlockType):
        assert value.type.layout is not None
        indices = ["%u"] * value.type.rank
        kind = f"<{value.type.registers} x i32>"
        for axis in range(value.type.rank):
            vector = e.coordinates(value.type.layout, axis)
            arguments.append(("i32", e.extract(vector, kind, register)))
    text = f"{_PLACE}idx ({', '.join(indices)}) "
    form, sent = _promoted(e, value, register, in_hex)
    _print(e, f"{text}{prefix}{form}\n", [*arguments, sent])


def _promoted(
    e: NvptxEmitter, value: Value, register: int, in_hex: bool
) -> tuple[str, tuple[str, str]]:
    """The format of one element, and the element as C passes it to a variadic function."""
    element = element_type(value.type)
    scalar, own = element_of(e, value, register), e.scalar_type(element)
    if not isinstance(element, DType):
        return "%p", ("i64", e.emit(f"ptrtoint {own} {scalar} to i64"))
    if element.is_float and not element.is_float8:
        wide = scalar if own == "double" else e.emit(f"fpext {own} {scalar} to double")
        return "%f", ("double", wide)
    extend = "sext" if element.is_signed else "zext"
    wide = scalar if element.bits == 64 else e.emit(f"{extend} {own} {scalar} to i64")
    return "%llx" if in_hex else "%lld" if element.is_signed else "%llu", ("i64", wide)


def _print(e: NvptxEmitter, text: str, arguments: list[tuple[str, str]]) -> None:
    """vprintf(format, buffer), with every argument at its natural alignment in the buffer."""
    kind = "{" + ", ".join(t for t, _ in arguments) + "}"
    buffer = "%print_buffer"
    e.print_bytes = max(e.print_bytes, 8 * len(arguments))
    for index, (type, value) in enumerate(arguments):
        place = e.emit(f"getelementptr {kind}, ptr {buffer}, i32 0, i32 {index}")
        e.line(f"store {type} {value}, ptr {place}")
    e.emit(f"call i32 @vprintf(ptr {e.global_string(text)}, ptr {buffer})")


@lowers(DeviceAssert, on=("nvptx",))
def _(e: NvptxEmitter, op: DeviceAssert) -> None:
    condition = e[op.condition]
    lanes = e.lanes(op.condition.type)
    if lanes is not None:
        reduce = f"@llvm.vector.reduce.and.v{lanes}i1(<{lanes} x i1> {condition})"
        condition = e.emit(f"call i1 {reduce}")
    failed = e.emit(f"xor i1 {condition}, true")
    message, file = e.global_string(op.message), e.global_string(op.loc.file)
    function = e.global_string(op.loc.function)
    arguments = f"ptr {message}, ptr {file}, i32 {op.loc.line}, ptr {function}, i64 1"
    with e.guarded(failed):
        e.line(f"call void @__assertfail({arguments})")
