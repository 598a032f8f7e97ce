"""What a kernel's parameters are bound to for one compilation: types, facts, compile-time values.

Three sources say so: the signature in the source (`x: *f32 divisible 16` in `.bl` files,
annotations in Python), the facts of a launch's arguments, and the `signature` of an ahead-of-time
compilation in Triton's spelling (`"*fp32:16"`). All end here, in a `Bound`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from blocklang.errors import (
    DefaultNotConstant,
    FixedValue,
    NotAType,
    NotDivisible,
    NoType,
    NoValue,
    UnknownParameter,
)
from blocklang.frontend import syntax
from blocklang.frontend.constexpr import constexpr
from blocklang.ir.types import DType, PointerType, Type, dtype, is_dtype_spelling
from blocklang.runtime.specialise import DIVISOR, ArgumentFacts


@dataclass
class Bound:
    """Parameters by name: the type (or the value) of each, and what is known of it."""

    types: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, dict[str, int]] = field(default_factory=dict)
    constexprs: dict[str, Any] = field(default_factory=dict)

    def specialize(self, name: str, value: Any) -> None:
        """Fix a runtime parameter to a value that the code may rely on."""
        self.constexprs[name] = value


def annotated_type(annotation: syntax.Expression | None, values: Mapping[str, Any]) -> Type | None:
    """The type that an annotation names; None where it names none. `values` are compile-time
    parameters.
    """
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


def parse_type(text: str) -> Type | None:
    """A type in Triton's ahead-of-time spelling ("fp32", "*bf16", "**i8"), or None."""
    if text.startswith("*"):
        element = parse_type(text[1:])
        return PointerType(element) if isinstance(element, DType | PointerType) else None
    return dtype(text) if is_dtype_spelling(text) else None


def declared_dtype(parameter: syntax.Parameter) -> str | None:
    """The declared type of a parameter as a launch checks it (`i64`, `*f32`), or None to follow
    the argument.
    """
    found = annotated_type(parameter.annotation, {})
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
        else:
            element = dtype(facts.dtype)
            bound.types[name] = PointerType(element) if facts.kind == "array" else element
            bound.facts[name] = {"divisible": DIVISOR} if facts.divisible_by_16 else {}
    for parameter in tree.parameters:
        _check_declared(parameter, bound)
    return bound


def _check_declared(parameter: syntax.Parameter, bound: Bound) -> None:
    """Hold a launch to the facts that the signature states."""
    facts, name = dict(parameter.facts), parameter.name
    value = facts.get("value")
    if value is not None and name in bound.types:
        raise FixedValue(parameter.location, name=name, value=value)
    divisible = facts.get("divisible", 1)
    known = bound.facts.get(name, {}).get("divisible", 1)
    if name in bound.types and divisible > 1:
        if known % divisible:
            is_pointer = isinstance(bound.types[name], PointerType)
            raise NotDivisible(
                parameter.location,
                name=name,
                divisor=divisible,
                what="an aligned array" if is_pointer else "a multiple",
                most=DIVISOR,
            )
        bound.facts[name]["divisible"] = max(known, divisible)


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
    for parameter in tree.parameters:
        if parameter.name not in bound.constexprs:
            _bind_runtime(tree, parameter, signature, bound)
    return bound


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
    if isinstance(entry, DType | PointerType):
        bound.types[name] = entry
        bound.facts[name] = {"divisible": facts["divisible"]} if "divisible" in facts else {}
    elif isinstance(entry, str):
        text, _, divisible = entry.partition(":")
        found = parse_type(text)
        if found is None or (divisible and not divisible.isdigit()):
            raise NotAType(parameter.location, text=entry)
        bound.types[name] = found
        bound.facts[name] = (
            {"divisible": int(divisible)} if divisible and int(divisible) > 1 else {}
        )
    else:
        bound.specialize(name, entry)


def _reject_unknown(tree: syntax.Function, names: Sequence[str]) -> None:
    known = [parameter.name for parameter in tree.parameters]
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            instead = (
                f"did you mean {close[0]!r}?" if close else f"its parameters: {', '.join(known)}"
            )
            raise UnknownParameter(tree.location, kernel=tree.name, name=name, instead=instead)
