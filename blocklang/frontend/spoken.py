"""Compile-time values as `.bl` expressions: literals, dtypes, tuples and names of functions.

The counterpart of `Scope.usable`, which takes values from Python: what that accepts and `.bl` has
no words for (modules, members of a user's enumerations, pointer types) is None here.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Container
from functools import cache
from typing import Any

from blocklang.ir.location import Location
from blocklang.ir.types import DType, PointerType, Type

from . import syntax
from .builtins import BUILTINS
from .builtins.math import PropagateNan
from .builtins.python import TEXT_FUNCTIONS
from .constexpr import constexpr
from .scope import LANGUAGE_TYPES, PYTHON_NAMES
from .values import compiled_function

CLASSES = ("constexpr", "tensor", "tensor_descriptor")
"""Classes of the language by name."""

Reference = Callable[[syntax.Function], str | None]
"""The name of a function in the text; None where it cannot be part of it."""


def spoken(
    value: Any, reference: Reference, location: Location, taken: Container[str] = ()
) -> syntax.Expression | None:
    """The expression whose value is `value`; None where the language has none.

    Names that are `taken` mean something else there: dtypes have a second one.
    """
    if isinstance(value, constexpr):
        return spoken(value.value, reference, location, taken)
    if value is None or type(value) in (bool, int, float, str):
        return syntax.Literal(value, location=location)
    if isinstance(value, DType):
        name = str(value) if str(value) not in taken else value.language_name
        return syntax.Name(name, location=location)
    if isinstance(value, PropagateNan):
        owner = syntax.Name(PropagateNan.__name__, location=location)
        return syntax.Attribute(owner, value.name, location=location)
    if isinstance(value, tuple | list):
        items = [spoken(item, reference, location, taken) for item in value]
        present = tuple(item for item in items if item is not None)
        return syntax.Tuple(present, location=location) if len(present) == len(items) else None
    known = language_name(value)
    tree = compiled_function(value) if known is None else None
    if tree is not None:
        known = reference(tree)
    return None if known is None else syntax.Name(known, location=location)


def language_name(value: Any) -> str | None:
    """What `.bl` files call a function or class of the language, or one of Python's."""
    return _language_names().get(id(value))


@cache
def _language_names() -> dict[int, str]:
    names: dict[int, str] = {}
    for table in (LANGUAGE_TYPES, TEXT_FUNCTIONS, BUILTINS, PYTHON_NAMES):
        for name, value in table.items():
            names.setdefault(id(value), name)
    return names


def number(value: Any) -> Any:
    """A number of NumPy's as Python's; anything else as it is."""
    if isinstance(value, numbers.Real) and not isinstance(value, bool | int | float):
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    return value


def type_expression(type: Type, location: Location) -> syntax.Expression:
    """A scalar or pointer type as a signature states it."""
    if isinstance(type, PointerType):
        element = type_expression(type.element, location)
        return syntax.Unary("*", element, location=location)
    return syntax.Name(str(type), location=location)


def is_default(node: syntax.Expression) -> bool:
    """Whether an expression of `spoken` can be the default of a kernel's parameter, which is known
    before names of the language mean anything.
    """
    if isinstance(node, syntax.Tuple):
        return all(map(is_default, node.items))
    is_language = isinstance(node, syntax.Name) and node.name in {**BUILTINS, **PYTHON_NAMES}
    is_class = isinstance(node, syntax.Name) and node.name in CLASSES
    return not (isinstance(node, syntax.Attribute) or is_language or is_class)
