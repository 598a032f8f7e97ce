"""Type parameters of text kernels: what arguments say of the names in their types.

    kernel fill(x: *T, value: f32, n: i32, T: constexpr = f16): ...

A launch with an array of f32 means T = f32: the default is for compilations without arguments. The
first argument that says something decides, and all others have to agree, as with what was passed
for T itself. Numbers decide nothing; a float whose type is T is one of that precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from blocklang.errors import OtherElement
from blocklang.frontend import syntax
from blocklang.frontend.descriptors import DescriptorForm
from blocklang.ir.types import DType, PointerType

PASSED, DEFAULT = "what was passed for it", "its default"


def infer(
    tree: syntax.Function, types: dict[str, Any], values: dict[str, Any],
    is_free: Callable[[syntax.Parameter], bool],
) -> None:  # fmt: skip
    """Give the compile-time parameters that are free the `values` that the `types` of arguments
    say, and then floats their `types`. OtherElement where a pointer or a float does not agree with
    what is settled.
    """
    parameters = [each for each in tree.parameters if each.is_constexpr]
    names = {each.name for each in parameters}
    settled = {each.name: PASSED for each in parameters if not is_free(each)}
    for parameter in tree.parameters:
        for name, found in _said(parameter.annotation, types.get(parameter.name)):
            if name not in names:
                continue
            if name not in settled:
                settled[name] = repr(parameter.name)
                values[name] = found
            elif isinstance(types[parameter.name], PointerType) and values[name] != found:
                raise _other(parameter, f"an array of {found}", name, values, settled)
    for parameter in tree.parameters:
        kind, annotation = types.get(parameter.name), parameter.annotation
        if not isinstance(annotation, syntax.Name) or annotation.name not in names:
            continue
        wanted = values[annotation.name]
        if isinstance(kind, DType) and kind.is_float and isinstance(wanted, DType):
            if not wanted.is_float:
                raise _other(parameter, "a float", annotation.name, values, settled)
            types[parameter.name] = wanted


def _other(
    parameter: syntax.Parameter, given: str, name: str, values: Mapping[str, Any],
    settled: Mapping[str, str],
) -> OtherElement:  # fmt: skip
    return OtherElement(
        parameter.location, name=parameter.name, given=given, parameter=name, value=values[name],
        reason=settled.get(name, DEFAULT),
    )  # fmt: skip


def _said(annotation: syntax.Expression | None, type: Any) -> Iterator[tuple[str, Any]]:
    """The names in the type of a pointer or a tensor descriptor, and what an argument of `type` has
    in their places.
    """
    if isinstance(annotation, syntax.Unary) and isinstance(type, PointerType):
        if isinstance(annotation.operand, syntax.Name) and isinstance(type.element, DType):
            yield annotation.operand.name, type.element
        yield from _said(annotation.operand, type.element)
    elif isinstance(annotation, syntax.TensorDescriptor) and isinstance(type, DescriptorForm):
        nodes = [annotation.element, *annotation.block_shape]
        parts = [type.element, *type.block_shape]
        if len(nodes) == len(parts):
            for node, part in zip(nodes, parts, strict=True):
                if isinstance(node, syntax.Name):
                    yield node.name, part
