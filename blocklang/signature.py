"""What a kernel's parameters are bound to for one compilation: types, facts, compile-time values.

Three sources say so: the signature in the source (`x: *f32 divisible 16` in `.bl` files,
annotations in Python), the facts of a launch's arguments, and the `signature` of an ahead-of-time
compilation in Triton's spelling (`"*fp32:16"`). All end here, in a `Bound`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from blocklang.errors import (
    DefaultNotConstant,
    FixedValue,
    NotADescriptorType,
    NotAType,
    NotDivisible,
    NoType,
    NoValue,
    OtherDescriptor,
    UnknownParameter,
)
from blocklang.frontend import syntax
from blocklang.frontend.constexpr import constexpr
from blocklang.frontend.descriptors import DescriptorForm, part_names
from blocklang.ir.types import DType, PointerType, Type, dtype, f32, is_dtype_spelling
from blocklang.runtime.descriptor import MAX_RANK, PADDINGS
from blocklang.runtime.specialise import DESCRIPTOR, DIVISOR, ArgumentFacts
from blocklang.type_parameters import infer, number_type

_DESCRIPTOR = re.compile(r"\s*tensordesc\s*<\s*(\w+)\s*\[([\d\s,]*)\]\s*(?:,\s*(\w+)\s*)?>\s*")


@dataclass
class Bound:
    """Parameters by name: the type (or the value) of each, and what is known of it."""

    types: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, dict[str, int]] = field(default_factory=dict)
    constexprs: dict[str, Any] = field(default_factory=dict)

    def specialize(self, name: str, value: Any) -> None:
        """Fix a runtime parameter to a value that the code may rely on."""
        self.constexprs[name] = value

    def names(self, tree: syntax.Function) -> list[str]:
        """The names of the parameters, those of tensor descriptors replaced by their parts."""
        own = [parameter.name for parameter in tree.parameters]
        found: list[str] = []
        for name in own:
            form = self.types.get(name)
            if isinstance(form, DescriptorForm):
                found += part_names(name, form.rank, own)
            else:
                found.append(name)
        return found


def annotated_type(
    annotation: syntax.Expression | None, values: Mapping[str, Any]
) -> Type | DescriptorForm | None:
    """The type that an annotation names; None where it names none. `values` are compile-time
    parameters.
    """
    if isinstance(annotation, syntax.TensorDescriptor):
        return _descriptor_form(annotation, values)
    if isinstance(annotation, syntax.Unary) and annotation.operator == "*":
        element = annotated_type(annotation.operand, values)
        return PointerType(element) if isinstance(element, DType | PointerType) else None
    if isinstance(annotation, syntax.Literal) and isinstance(annotation.value, str):
        return parse_type(annotation.value)
    if isinstance(annotation, syntax.Name) and annotation.name in values:
        found = values[annotation.name]
        return found if isinstance(found, DType) else None
    if isinstance(annotation, syntax.Name | syntax.Attribute) and is_dtype_spelling(
        annotation.name
    ):
        return dtype(annotation.name)
    return None


def parse_type(text: str) -> Type | DescriptorForm | None:
    """A type in Triton's ahead-of-time spelling ("fp32", "*bf16", "tensordesc<fp16[64, 64]>"), or
    None.
    """
    described = _DESCRIPTOR.fullmatch(text)
    if described is not None:
        return _parse_descriptor(*described.groups())
    if text.startswith("*"):
        element = parse_type(text[1:])
        return PointerType(element) if isinstance(element, DType | PointerType) else None
    return dtype(text) if is_dtype_spelling(text) else None


def _parse_descriptor(element: str, sizes: str, padding: str | None) -> DescriptorForm | None:
    """The type of a tensor descriptor from the parts of its text, or None."""
    block_shape = [part.strip() for part in sizes.split(",")]
    if not is_dtype_spelling(element) or not all(part.isdigit() for part in block_shape):
        return None
    return _form(dtype(element), [int(part) for part in block_shape], padding or "zero")


def _form(element: DType, sizes: Sequence[int], padding: str) -> DescriptorForm | None:
    fits = 1 <= len(sizes) <= MAX_RANK and all(n > 0 and n & (n - 1) == 0 for n in sizes)
    can_pad = padding in PADDINGS and (padding == "zero" or element.is_float)
    return DescriptorForm(element, tuple(sizes), padding) if fits and can_pad else None


def _descriptor_form(
    annotation: syntax.TensorDescriptor, values: Mapping[str, Any], element: Any = None
) -> DescriptorForm | None:
    element = element or annotated_type(annotation.element, values)
    sizes = [_size(size, values) for size in annotation.block_shape]
    known = [size for size in sizes if size is not None]
    if not isinstance(element, DType) or len(known) < len(sizes):
        return None
    return _form(element, known, annotation.padding)


def _size(node: syntax.Expression, values: Mapping[str, Any]) -> int | None:
    """A size in a type: a number, or a compile-time parameter."""
    value = node.value if isinstance(node, syntax.Literal) else None
    if isinstance(node, syntax.Name):
        value = values.get(node.name)
    return value if type(value) is int else None


def declared_descriptor(
    parameter: syntax.Parameter,
) -> Callable[[Mapping[str, Any]], tuple[tuple[int, ...], str]] | None:
    """Block shape and padding of a parameter that is declared as a tensor descriptor, as a function
    of the compile-time parameters; None for other parameters.
    """
    if parameter.is_constexpr or declared_dtype(parameter) != DESCRIPTOR:
        return None

    def described(values: Mapping[str, Any]) -> tuple[tuple[int, ...], str]:
        # Of what kind the elements are, the array will say.
        form = _declared_form(parameter, values, element=f32)
        return form.block_shape, form.padding

    return described


def _declared_form(
    parameter: syntax.Parameter, values: Mapping[str, Any], element: DType | None = None
) -> DescriptorForm:
    """The form that a parameter is declared to have, with other elements if `element` says so."""
    annotation = parameter.annotation
    if element is not None and isinstance(annotation, syntax.TensorDescriptor):
        form: Any = _descriptor_form(annotation, values, element)
    else:
        form = annotated_type(annotation, values)
    if not isinstance(form, DescriptorForm):
        raise NotADescriptorType(parameter.location, name=parameter.name)
    return form


def declared_dtype(parameter: syntax.Parameter) -> str | None:
    """The declared type of a parameter as a launch checks it (`i64`, `*f32`), or None to follow
    the argument.
    """
    if isinstance(parameter.annotation, syntax.TensorDescriptor):
        return DESCRIPTOR
    found = annotated_type(parameter.annotation, {})
    if isinstance(found, DescriptorForm):
        return DESCRIPTOR
    if isinstance(found, PointerType):
        return f"*{found.element}" if isinstance(found.element, DType) else None
    return str(found) if found is not None else None


def default_value(tree: syntax.Function, parameter: syntax.Parameter, missing: Any) -> Any:
    """The default of a parameter as a Python value; `missing` where there is none."""
    if parameter.default is None:
        return missing
    value = _constant(parameter.default, tree.globals)
    return value.value if isinstance(value, constexpr) else value


def _constant(node: syntax.Expression, scope: Mapping[str, Any]) -> Any:
    if isinstance(node, syntax.Literal):
        return node.value
    if isinstance(node, syntax.Tuple):
        return tuple(_constant(item, scope) for item in node.items)
    if isinstance(node, syntax.Unary) and node.operator == "-":
        return -_constant(node.operand, scope)
    if isinstance(node, syntax.Name) and node.name in scope:
        found = scope[node.name]
        return (
            _constant(found.value, found.globals) if isinstance(found, syntax.Constant) else found
        )
    if isinstance(node, syntax.Name | syntax.Attribute) and is_dtype_spelling(node.name):
        return dtype(node.name)
    if isinstance(node, syntax.Attribute):
        return getattr(_constant(node.value, scope), node.name)
    raise DefaultNotConstant(node.location)


def bind_facts(tree: syntax.Function, arguments: Sequence[ArgumentFacts]) -> Bound:
    """Bind the parameters to what a launch knows of its arguments."""
    bound = Bound()
    for parameter, facts in zip(tree.parameters, arguments, strict=True):
        name = parameter.name
        if facts.kind == "constexpr":
            bound.constexprs[name] = facts.value
        elif facts.kind == "none":
            bound.specialize(name, None)
        elif facts.equal_to_1:
            bound.specialize(name, 1)
        elif facts.kind == "descriptor":
            _bind_descriptor(tree, parameter, facts, bound)
        else:
            element = dtype(facts.dtype)
            bound.types[name] = PointerType(element) if facts.kind == "array" else element
            bound.facts[name] = {"divisible": facts.divisible} if facts.divisible > 1 else {}
    infer(tree, bound.types, bound.constexprs, lambda each: _has_default(tree, each, bound))
    for parameter, facts in zip(tree.parameters, arguments, strict=True):
        _bind_number(parameter, facts, bound)
        _check_declared(tree, parameter, bound)
    return bound


def _has_default(tree: syntax.Function, parameter: syntax.Parameter, bound: Bound) -> bool:
    """Whether a compile-time parameter of a launch has its default, as where nothing was passed."""
    default, value = default_value(tree, parameter, Bound), bound.constexprs[parameter.name]
    return type(default) is type(value) and bool(default == value)


def _bind_number(parameter: syntax.Parameter, facts: ArgumentFacts, bound: Bound) -> None:
    """Give a number the type that its annotation names, as if it were declared so."""
    name = parameter.name
    wanted = number_type(parameter, facts.kind, bound.constexprs)
    if wanted is None or (facts.equal_to_1 and wanted.is_integer):
        return
    bound.types[name] = wanted
    if wanted.is_float:  # the facts about integers are not its
        bound.constexprs.pop(name, None)
        bound.facts[name] = {}


def _bind_descriptor(
    tree: syntax.Function, parameter: syntax.Parameter, facts: ArgumentFacts, bound: Bound
) -> None:
    """Bind a tensor descriptor to what a launch knows of its parts."""
    taken = [other.name for other in tree.parameters]
    names = part_names(parameter.name, len(facts.block_shape), taken)
    parts = dict(zip(names, facts.parts, strict=True))
    fixed = {name: 1 for name, part in parts.items() if part.equal_to_1}
    bound.types[parameter.name] = DescriptorForm(
        dtype(facts.dtype), facts.block_shape, facts.padding, fixed
    )
    for name, part in parts.items():
        bound.facts[name] = {"divisible": part.divisible} if part.divisible > 1 else {}


def _check_declared(tree: syntax.Function, parameter: syntax.Parameter, bound: Bound) -> None:
    """Hold a launch to what the signature states."""
    facts, name = dict(parameter.facts), parameter.name
    value = facts.get("value")
    if value is not None and name in bound.types:
        raise FixedValue(parameter.location, name=name, value=value)
    if name not in bound.types:
        return
    given = bound.types[name]
    _check_descriptor(parameter, bound)
    divisible = facts.get("divisible", 1)
    for part in _divided(tree, name, given) if divisible > 1 else ():
        known = bound.facts[part].get("divisible", 1)
        if known % divisible:
            is_number = isinstance(given, DType)
            raise NotDivisible(
                parameter.location,
                name=part,
                divisor=divisible,
                what="a multiple" if is_number else "an aligned array",
                most=DIVISOR,
            )
        bound.facts[part]["divisible"] = max(known, divisible)


def _check_descriptor(parameter: syntax.Parameter, bound: Bound) -> None:
    """Hold a tensor descriptor to the blocks that the kernel is written for."""
    given = bound.types.get(parameter.name)
    if isinstance(given, DescriptorForm) and declared_dtype(parameter) == DESCRIPTOR:
        declared = _declared_form(parameter, bound.constexprs)
        if str(given) != str(declared):
            raise OtherDescriptor(
                parameter.location, name=parameter.name, declared=declared, given=given
            )


def bind_signature(
    tree: syntax.Function, signature: Mapping[str, Any], constexprs: Mapping[str, Any]
) -> Bound:
    """Bind the parameters to an ahead-of-time signature, completed by what the source declares."""
    _reject_unknown(tree, [*signature, *constexprs])
    bound = Bound(
        constexprs={k: v.value if isinstance(v, constexpr) else v for k, v in constexprs.items()}
    )
    for parameter in tree.parameters:
        if parameter.is_constexpr and parameter.name not in bound.constexprs:
            _bind_default(tree, parameter, bound)
    stated = {name: _stated(entry)[0] for name, entry in signature.items()}
    infer(tree, stated, bound.constexprs, lambda each: each.name not in constexprs)
    for parameter in tree.parameters:
        if parameter.name not in bound.constexprs:
            _bind_runtime(tree, parameter, signature, bound)
            _check_descriptor(parameter, bound)
    return bound


def _stated(entry: Any) -> tuple[Any, str]:
    """An entry of a signature as its type (None for a mistake), or the value that it is, and what
    it says of divisibility.
    """
    if not isinstance(entry, str):
        return entry, ""
    text, _, divisor = entry.partition(":")
    return parse_type(text), divisor


def _bind_default(tree: syntax.Function, parameter: syntax.Parameter, bound: Bound) -> None:
    value = default_value(tree, parameter, Bound)
    if value is Bound:
        raise NoValue(parameter.location, name=parameter.name, kernel=tree.name)
    bound.constexprs[parameter.name] = value


def _bind_runtime(
    tree: syntax.Function, parameter: syntax.Parameter, signature: Mapping[str, Any], bound: Bound
) -> None:
    name, facts = parameter.name, dict(parameter.facts)
    declared = annotated_type(parameter.annotation, bound.constexprs)
    entry = signature.get(name, facts.get("value", declared))
    if entry is None and name not in signature:
        raise NoType(parameter.location, name=name)
    if isinstance(entry, DType | PointerType | DescriptorForm):
        bound.types[name] = entry
        divisible = facts.get("divisible", 1)
    elif isinstance(entry, str):
        found, divisor = _stated(entry)
        if found is None or (divisor and not divisor.isdigit()):
            raise NotAType(parameter.location, text=entry)
        bound.types[name] = found
        divisible = int(divisor or 1)
    else:
        bound.specialize(name, entry)
        return
    for part in _divided(tree, name, bound.types[name]):
        bound.facts[part] = {"divisible": divisible} if divisible > 1 else {}


def _divided(tree: syntax.Function, name: str, type: Any) -> list[str]:
    """The arguments that a fact about the divisibility of a parameter is about: of a tensor
    descriptor, the pointer and the strides.
    """
    if not isinstance(type, DescriptorForm):
        return [name]
    pointer, *others = part_names(name, type.rank, [p.name for p in tree.parameters])
    return [pointer, *others[type.rank :]]


def _reject_unknown(tree: syntax.Function, names: Sequence[str]) -> None:
    known = [parameter.name for parameter in tree.parameters]
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            instead = (
                f"did you mean {close[0]!r}?" if close else f"its parameters: {', '.join(known)}"
            )
            raise UnknownParameter(tree.location, kernel=tree.name, name=name, instead=instead)
