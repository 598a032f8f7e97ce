"""Names: the variables of one function, what is around it, and the language's functions.

Variables hold front-end values; a rebinding replaces the value, as IR values are never assigned
twice. Names that are not assigned in the function are looked up in its `globals`; what is found
there is turned into a compile-time value, or refused.
"""

from __future__ import annotations

import enum
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import ModuleType
from typing import Any

from blocklang.ir.location import Location
from blocklang.ir.types import DTYPES, BlockType, DType, PointerType

from . import syntax
from .builtins import BUILTINS
from .builtins.math import PropagateNan
from .builtins.python import PYTHON, TEXT_FUNCTIONS
from .constexpr import constexpr
from .descriptors import Descriptor
from .errors.names import MaybeUnassigned, UnknownAttribute, UnknownName, UnusableValue
from .values import Aggregate, Tensor, Unset, compiled_function, describe, is_language_function

PYTHON_NAMES: dict[str, Any] = {
    key.__name__: key for key in PYTHON if getattr(key, "__module__", "") == "builtins"
}
"""Python's functions that `.bl` files may call by name."""


@dataclass(frozen=True, slots=True)
class Binding:
    """What a variable holds, and the place of the assignment."""

    value: Any
    location: Location


class Scope:
    """The names that one function sees."""

    def __init__(
        self,
        function: syntax.Function,
        evaluate: Callable[[syntax.Expression, Any], Any],
    ) -> None:
        self.variables: dict[str, Binding] = {}
        self.globals: Mapping[str, Any] = function.globals if function.globals is not None else {}
        # `.bl` functions name the language's functions directly; Python reaches them as `bl.load`.
        self.sees_language = function.is_kernel is not None
        self._evaluate = evaluate

    def assign(self, name: str, value: Any, location: Location) -> None:
        """Bind a variable."""
        self.variables[name] = Binding(value, location)
        if isinstance(value, Tensor) and value.handle is not None and not value.handle.name:
            value.handle.name = name.rstrip(".")

    def lookup(self, name: str) -> Any:
        """The value of a name; raises an error of the catalogue where it has none."""
        binding = self.variables.get(name)
        if binding is not None:
            if isinstance(binding.value, Unset):
                raise MaybeUnassigned(
                    name=name,
                    reason=binding.value.reason,
                    instead=binding.value.instead,
                    notes=binding.value.notes,
                )
            return binding.value
        try:
            found = self.globals[name]
        except KeyError:
            pass
        else:
            return self.usable(found, name)
        if self.sees_language:
            for table in (LANGUAGE_TYPES, TEXT_FUNCTIONS, BUILTINS, PYTHON_NAMES):
                if name in table:
                    return table[name]
        raise self._unknown(name)

    def _unknown(self, name: str) -> UnknownName:
        known = [*self.variables, *self.globals]
        known += [*BUILTINS, *LANGUAGE_TYPES] if self.sees_language else []
        close = get_close_matches(name, known, 1)
        if name in BUILTINS:
            instead = f"did you mean 'bl.{name}'? (import blocklang.language as bl)"
        elif close:
            instead = f"did you mean '{close[0]}'?"
        else:
            instead = "assign it first, make it a parameter, or define it outside of the kernel"
        return UnknownName(name=name, instead=instead)

    def usable(self, value: Any, name: str) -> Any:
        """A Python object from outside the kernel as a compile-time value, or UnusableValue."""
        if isinstance(value, constexpr):
            return self.usable(value.value, name)
        if isinstance(value, syntax.Constant):
            return self._evaluate(value.value, value.globals)
        if isinstance(value, list | tuple):
            return tuple(self.usable(item, name) for item in value)
        if is_usable(value):
            return value
        if isinstance(value, numbers.Real):  # NumPy's numbers
            return int(value) if isinstance(value, numbers.Integral) else float(value)
        instead = "pass it as an argument of the kernel"
        what = describe(value)
        if callable(value):
            what = "a Python class" if isinstance(value, type) else "a Python function"
            instead = "decorate it with @blocklang.jit to call it from kernels"
        raise UnusableValue(name=name, what=what, instead=instead)

    def module_attribute(self, module: Any, name: str) -> Any:
        """`module.name`, of a module or an enumeration."""
        try:
            found = getattr(module, name)
        except AttributeError:
            close = get_close_matches(name, dir(module), 1)
            instead = f"did you mean '{close[0]}'?" if close else "see help() of it for what it has"
            raise UnknownAttribute(owner=describe(module), name=name, instead=instead) from None
        return self.usable(found, name)


def is_usable(value: Any) -> bool:
    """Whether a Python object means something in a kernel."""
    if value is None or type(value) in (int, float, bool, str):
        return True
    if isinstance(value, DType | PointerType | BlockType | ModuleType | enum.Enum | Tensor):
        return True
    if isinstance(value, type) and issubclass(value, enum.Enum | Tensor | Aggregate):
        return True
    if is_language_function(value) or compiled_function(value) is not None:
        return True
    try:
        return value in PYTHON
    except TypeError:  # unhashable
        return False


LANGUAGE_TYPES: dict[str, Any] = {
    "constexpr": constexpr,
    "tensor": Tensor,
    "tensor_descriptor": Descriptor,
    "PropagateNan": PropagateNan,
    **DTYPES,
    **{dtype.language_name: dtype for dtype in DTYPES.values()},
}
"""Types and dtypes by the names that `.bl` files use."""
