"""Parts of values: attributes, methods and subscripts."""

from __future__ import annotations

from difflib import get_close_matches
from types import ModuleType
from typing import Any

from blocklang.ir.types import BlockType, DType, Element, PointerType

from . import constexpr, shapes, syntax
from .attributes import ATTRIBUTES, TYPE_ATTRIBUTES
from .builtins import METHODS
from .builtins.descriptor import METHODS as DESCRIPTOR_METHODS
from .conversion import tensor
from .descriptors import ATTRIBUTES as DESCRIPTOR_ATTRIBUTES
from .descriptors import Descriptor
from .errors.names import BadSubscript, UnknownAttribute
from .lower_base import LoweringBase
from .values import BoundMethod, Tensor, describe, is_number


class Parts(LoweringBase):
    """The expressions that take something out of a value."""

    def expression_Attribute(self, node: syntax.Attribute) -> Any:
        value, name = self.evaluate(node.value), node.name
        if isinstance(value, ModuleType) or (isinstance(value, type) and name[:1] != "_"):
            return self.scope.module_attribute(value, name)
        if isinstance(value, DType | PointerType | BlockType):
            return self._type_attribute(value, name)
        if isinstance(value, Tensor) or is_number(value):
            if name == "value" and is_number(value):
                return value
            if name in ATTRIBUTES:
                return ATTRIBUTES[name](tensor(value))
            if name in METHODS:
                return BoundMethod(METHODS[name], value)
            raise self._no_attribute(value, name, [*ATTRIBUTES, *METHODS])
        if isinstance(value, Descriptor):
            return self._descriptor_attribute(value, name)
        if name == "value":
            return value
        raise self._no_attribute(value, name, [])

    def _descriptor_attribute(self, value: Descriptor, name: str) -> Any:
        if name in DESCRIPTOR_METHODS:
            return BoundMethod(DESCRIPTOR_METHODS[name], value)
        if name in DESCRIPTOR_ATTRIBUTES:
            return DESCRIPTOR_ATTRIBUTES[name](value)
        raise self._no_attribute(value, name, [*DESCRIPTOR_ATTRIBUTES, *DESCRIPTOR_METHODS])

    def _type_attribute(self, value: Element | BlockType, name: str) -> Any:
        if name == "value":
            return value
        found = TYPE_ATTRIBUTES[name](value) if name in TYPE_ATTRIBUTES else None
        if found is None:
            raise self._no_attribute(value, name, list(TYPE_ATTRIBUTES))
        return found

    def _no_attribute(self, value: Any, name: str, known: list[str]) -> UnknownAttribute:
        close = get_close_matches(name, known, 1)
        instead = f"did you mean '{close[0]}'?" if close else "it has none of that name"
        if isinstance(value, Tensor) and isinstance(value.dtype, PointerType) and not close:
            instead = "it is a pointer: load() what it points to first"
        return UnknownAttribute(owner=describe(value), name=name, instead=instead)

    def expression_Slice(self, node: syntax.Slice) -> Any:
        return node

    def expression_Subscript(self, node: syntax.Subscript) -> Any:
        value = self.evaluate(node.value)
        if isinstance(value, tuple | str):
            return self._subscript_tuple(value, node)
        if isinstance(value, Tensor) or is_number(value):
            return self._subscript_block(tensor(value), node)
        if callable(value) and getattr(value, "__name__", "") == "constexpr":
            return value
        raise BadSubscript(
            problem=f"{describe(value)} cannot be subscripted", instead="remove the brackets"
        )

    def _subscript_tuple(self, value: Any, node: syntax.Subscript) -> Any:
        def bound(part: syntax.Expression | None) -> Any:
            if part is None:
                return None
            what = "the index of a tuple"
            return constexpr.static_value(self.evaluate(part), what)

        (part, *others) = node.indices
        index: Any = None
        if isinstance(part, syntax.Slice):
            index = slice(bound(part.lower), bound(part.upper), bound(part.step))
        else:
            index = bound(part)
        if others:
            raise BadSubscript(
                problem=f"{describe(value)} has one dimension", instead="write x[0][1]"
            )
        try:
            return value[index]
        except (TypeError, IndexError, ValueError):
            shown = constexpr.text(index)
            raise BadSubscript(
                problem=f"{shown} is no index of {describe(value)}",
                instead=f"its indices are 0 to {len(value) - 1}" if value else "it has no items",
            ) from None

    def _subscript_block(self, value: Tensor, node: syntax.Subscript) -> Tensor:
        rank = len(value.shape)
        full = sum(isinstance(index, syntax.Slice) for index in node.indices)
        for axis, index in enumerate(node.indices):
            if isinstance(index, syntax.Slice):
                if (index.lower, index.upper, index.step) != (None, None, None):
                    raise self._block_subscript("a block cannot be sliced", index)
            elif self.evaluate(index) is None:
                value = shapes.expand_dims(value, axis)
            else:
                raise self._block_subscript("a block cannot be indexed", index)
        if full > rank:
            raise BadSubscript(
                problem=f"{full} ':' for {describe(value)}, whose rank was {rank}",
                instead="write one ':' for each dimension, and None for each new one",
            )
        return value

    def _block_subscript(self, problem: str, index: syntax.Expression) -> BadSubscript:
        return BadSubscript(
            index.location,
            problem=f"{problem}: its elements belong to different threads",
            instead="use ':' and None only; select with where() and sum(), or load from memory",
        )
