"""Type parameters of text kernels: what arguments say of the names in their types.

    kernel fill(x: *T, value: T, n: i32, T: constexpr = f16): ...

An array of f32 means T = f32: the default is for compilations without arguments. The first array or
descriptor decides, and all others have to agree, as with what was passed for T itself; numbers
become T. Sizes of blocks are not inferred: grids are made of them, before anything is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from blocklang.errors import OtherElement
from blocklang.frontend import syntax
from blocklang.frontend.descriptors import DescriptorForm
from blocklang.ir.types import DType, PointerType

PASSED = "what was passed for it"
NUMBERS = ("integer", "boolean", "float")


def type_parameters(tree: syntax.Function) -> list[syntax.Parameter]:
    """The compile-time parameters, which types may name."""
    return [each for each in tree.parameters if each.is_constexpr]


def infer(
    tree: syntax.Function, types: Mapping[str, Any], values: dict[str, Any],
    is_free: Callable[[syntax.Parameter], bool],
) -> None:  # fmt: skip
    """Give the compile-time parameters that are free the `values` that the `types` of arrays and
    descriptors say. OtherElement where another one does not agree.
    """
    parameters = type_parameters(tree)
    names = {each.name for each in parameters}
    settled = {each.name: PASSED for each in parameters if not is_free(each)}
    for parameter in tree.parameters:
        for name, found in _said(parameter.annotation, types.get(parameter.name)):
            if name not in names:
                continue
            if name not in settled:
                settled[name] = repr(parameter.name)
                values[name] = found
            # What is no dtype is complained of where it is used as one.
            elif isinstance(values[name], DType) and values[name] != found:
                raise OtherElement(
                    parameter.location, name=parameter.name, given=f"of {found}", parameter=name,
                    value=values[name], because=f"because of {settled[name]}",
                )  # fmt: skip


def _said(annotation: syntax.Expression | None, type: Any) -> Iterator[tuple[str, DType]]:
    """The name for the elements of a pointer or a tensor descriptor, and the elements of `type`."""
    element: syntax.Expression | None = None
    if isinstance(annotation, syntax.Unary) and isinstance(type, PointerType):
        element = annotation.operand
        if not isinstance(type.element, DType):
            yield from _said(element, type.element)
            return
    elif isinstance(annotation, syntax.TensorDescriptor) and isinstance(type, DescriptorForm):
        element = annotation.element
    if isinstance(element, syntax.Name):
        yield element.name, type.element


def number_type(
    tree: syntax.Function, parameter: syntax.Parameter, kind: str, values: Mapping[str, Any]
) -> DType | None:
    """The dtype that a number of some kind takes from the type parameter that its type names, if it
    names one. OtherElement for a float that would become an integer.
    """
    annotation = parameter.annotation
    names = {each.name for each in type_parameters(tree)}
    if (
        kind not in NUMBERS
        or not isinstance(annotation, syntax.Name)
        or annotation.name not in names
    ):
        return None
    wanted = values[annotation.name]
    if not isinstance(wanted, DType) or (wanted.is_bool and kind != "boolean"):
        return None
    if kind == "float" and not wanted.is_float:
        raise OtherElement(
            parameter.location, name=parameter.name, given="a float", parameter=annotation.name,
            value=wanted, because="by the other arguments or its default",
        )  # fmt: skip
    return wanted
