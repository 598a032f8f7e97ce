"""Ops that rearrange a block's elements without computing, and the conversion between layouts."""

from __future__ import annotations

import math

from blocklang.ir.core import Value
from blocklang.ir.op import Op, attribute, operand, output, require
from blocklang.ir.types import BlockType, Type, element_type, shape_of


class ShapeOp(Op):
    """Base: one block operand; the result has its elements."""

    operand: Value = operand()

    def check(self) -> None:
        require(
            element_type(self.operand.type) == element_type(self.results[0].type),
            "the element type stays",
        )


class ExpandDims(ShapeOp, mnemonic="expand_dims"):
    """A new dimension of size 1 before dimension `axis`."""

    axis: int = attribute()
    result = output()

    def infer(self) -> list[Type]:
        shape = shape_of(self.operand.type)
        return [
            BlockType(
                (*shape[: self.axis], 1, *shape[self.axis :]), element_type(self.operand.type)
            )
        ]


class Broadcast(ShapeOp, mnemonic="broadcast"):
    """Dimensions of size 1 repeated up to the size in the result (which has the same rank)."""

    result = output()

    def check(self) -> None:
        super().check()
        source, target = shape_of(self.operand.type), shape_of(self.results[0].type)
        require(len(source) == len(target), "the rank stays")
        require(
            all(s in (1, t) for s, t in zip(source, target, strict=True)),
            f"{source} does not broadcast to {target}",
        )

    def fold(self) -> Value | None:
        return self.operand if self.operand.type == self.results[0].type else None


class Reshape(ShapeOp, mnemonic="reshape"):
    """The same elements in row-major order in another shape; with `reorder` in any order that is
    cheap.
    """

    reorder: bool = attribute(default=False)
    result = output()

    def check(self) -> None:
        super().check()
        sizes = math.prod(shape_of(self.operand.type)), math.prod(shape_of(self.results[0].type))
        require(sizes[0] == sizes[1], "the number of elements stays")

    def fold(self) -> Value | None:
        return self.operand if self.operand.type == self.results[0].type else None


class Permute(ShapeOp, mnemonic="permute"):
    """Dimension `i` of the result is dimension `order[i]` of the operand."""

    order: tuple[int, ...] = attribute()
    result = output()

    def infer(self) -> list[Type]:
        shape = shape_of(self.operand.type)
        layout = getattr(self.operand.type, "layout", None)
        return [
            BlockType(
                tuple(shape[i] for i in self.order),
                element_type(self.operand.type),
                layout.permute(self.order) if layout else None,
            )
        ]

    def check(self) -> None:
        super().check()
        require(
            sorted(self.order) == list(range(len(shape_of(self.operand.type)))),
            "order is a permutation",
        )

    def fold(self) -> Value | None:
        return self.operand if self.order == tuple(range(len(self.order))) else None


class ConvertLayout(ShapeOp, mnemonic="convert_layout"):
    """The same block spread over the threads as the result's layout says."""

    result = output()

    def check(self) -> None:
        super().check()
        require(shape_of(self.operand.type) == shape_of(self.results[0].type), "the shape stays")

    def fold(self) -> Value | None:
        return self.operand if self.operand.type == self.results[0].type else None
