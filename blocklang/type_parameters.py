"""Type parameters of text kernels: what arguments say of the names in their types.

    kernel fill(x: *T, value: T, n: i32, T: constexpr = f16): ...

An array of f32 means T = f32: the default is for compilations without arguments. The first array or
descriptor decides, and all others have to agree, as with what was passed for T itself; numbers
become T. Sizes of blocks are not inferred: grids are made of them, before anything is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from blocklang.errors import OtherElement
from blocklang.frontend import syntax
from blocklang.frontend.descriptors import DescriptorForm
from blocklang.ir.types import DType, PointerType

NUMBERS = ("integer", "boolean", "float")


def infer(
    tree: syntax.Function, types: Mapping[str, Any], values: dict[str, Any],
    is_free: Callable[[syntax.Parameter], bool],
) -> None:  # fmt: skip
    """Give the compile-time parameters that are free the `values` that the `types` of arrays and
    descriptors say. OtherElement where another one does not agree.
    """
    free = {each.name for each in tree.parameters if each.is_constexpr and is_free(each)}
    decided: dict[str, str] = {}
    for parameter in tree.parameters:
        said = _said(parameter.annotation, types.get(parameter.name))
        if said is None:
            continue
        name, found = said
        if name in free:
            free.remove(name)
            decided[name] = repr(parameter.name)
            values[name] = found
        # What is no dtype is complained of where it is used as one.
        elif isinstance(values.get(name), DType) and values[name] != found:
            because = f"because of {decided.get(name, 'what was passed for it')}"
            raise OtherElement(
                parameter.location, name=parameter.name, given=f"of {found}", parameter=name,
                value=values[name], because=because,
            )  # fmt: skip


def _said(annotation: syntax.Expression | None, type: Any) -> tuple[str, DType] | None:
    """The name for the elements of a pointer or a tensor descriptor, and the elements of `type`;
    None where the annotation has no such name, or `type` is of another kind.
    """
    element: syntax.Expression | None = None
    if isinstance(annotation, syntax.Unary) and isinstance(type, PointerType):
        element = annotation.operand
        if isinstance(type.element, PointerType):
            return _said(element, type.element)
    elif isinstance(annotation, syntax.TensorDescriptor) and isinstance(type, DescriptorForm):
        element = annotation.element
    return (element.name, type.element) if isinstance(element, syntax.Name) else None


def number_type(parameter: syntax.Parameter, kind: str, values: Mapping[str, Any]) -> DType | None:
    """The dtype that a number of some kind takes from the type parameter that its type names, if it
    names one. OtherElement for a float that would become an integer.
    """
    annotation = parameter.annotation
    if kind not in NUMBERS or not isinstance(annotation, syntax.Name):
        return None
    wanted = values.get(annotation.name)
    if not isinstance(wanted, DType) or (wanted.is_bool and kind != "boolean"):
        return None
    if kind == "float" and not wanted.is_float:
        raise OtherElement(
            parameter.location, name=parameter.name, given="a float", parameter=annotation.name,
            value=wanted, because="by the other arguments or its default",
        )  # fmt: skip
    return wanted
