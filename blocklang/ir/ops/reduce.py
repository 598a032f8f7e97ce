"""Reductions."""

from __future__ import annotations

from collections.abc import Sequence

from blocklang.ir.core import Value, clone_region
from blocklang.ir.layout import LinearLayout
from blocklang.ir.op import Op, attribute, operand, outputs, region, require
from blocklang.ir.types import BlockType, Type, block_or_scalar, element_type

from .control import Yield


class Reduce(Op, mnemonic="reduce"):
    """Combines all elements along `axis` of one or more blocks of one shape.

    The region takes two elements of each block (all left ones, then all right ones) and yields
    their combination, which must be associative and commutative. Results lack the axis; a block of
    rank 1 becomes a scalar. With `within_warp` each warp combines only what its own threads hold,
    with `within_thread` each thread: the results keep the axis, with one entry a warp, or a thread,
    that holds a distinct part of it. `lower_reductions` and `defer_reductions` introduce these
    forms and what combines the entries.
    """

    inputs: tuple[Value, ...] = operand(variadic=True)
    axis: int = attribute()
    within_warp: bool = attribute(default=False)
    within_thread: bool = attribute(default=False)
    combine = region()
    results_ = outputs()

    @property
    def is_partial(self) -> bool:
        """Whether the results keep the axis, for the entries that are still to be combined."""
        return self.within_warp or self.within_thread

    def over(
        self, inputs: Sequence[Value], within_warp: bool = False, within_thread: bool = False
    ) -> Reduce:
        """The same combination of other blocks, in no block of ops yet."""
        return Reduce(
            tuple(inputs), axis=self.axis, within_warp=within_warp, within_thread=within_thread,
            loc=self.loc, regions=[clone_region(self.combine, {})],
        )  # fmt: skip

    def infer(self) -> list[Type]:
        types: list[Type] = []
        for value in self.inputs:
            block = value.type
            assert isinstance(block, BlockType)
            if self.is_partial:
                assert block.layout is not None
                layout = partial_layout(block.layout, self.axis, self.within_thread)
                types.append(BlockType(layout.shape, block.element, layout))
                continue
            shape = (*block.shape[: self.axis], *block.shape[self.axis + 1 :])
            sliced = block.layout.slice(self.axis) if block.layout and shape else None
            layout_ = sliced.remove_zero_bases("register")[0] if sliced else None
            types.append(block_or_scalar(shape, block.element, layout_))
        return types

    def check(self) -> None:
        require(bool(self.inputs), "a reduction has an input")
        first = self.inputs[0].type
        require(isinstance(first, BlockType), "inputs are blocks")
        assert isinstance(first, BlockType)
        require(0 <= self.axis < first.rank, "axis is a dimension of the inputs")
        require(not (self.within_warp and self.within_thread), "within warps or within threads")
        require([r.type for r in self.results] == self.infer(), "results lack the axis")
        for value in self.inputs:
            kind = value.type
            require(isinstance(kind, BlockType), "inputs are blocks")
            assert isinstance(kind, BlockType)
            same = (kind.shape, kind.layout) == (first.shape, first.layout)
            require(same, "inputs have one shape and layout")
        elements = [element_type(v.type) for v in self.inputs]
        arguments = [a.type for a in self.regions[0].block.arguments]
        require(arguments == elements * 2, "the region takes two elements of each input")
        yielded = self.regions[0].block.terminator
        require(isinstance(yielded, Yield) and [v.type for v in yielded.operands] == elements,
                "the region yields one element of each input")  # fmt: skip


def partial_layout(layout: LinearLayout, axis: int, within_thread: bool = False) -> LinearLayout:
    """The layout of what a reduction within warps, or within threads, leaves: `axis` counts the
    warps, or the threads, that differ along it.
    """
    counted = ("lane", "warp") if within_thread else ("warp",)
    bases: list[tuple[str, tuple[tuple[int, ...], ...]]] = []
    position = 0
    for dim, of_dim in layout.bases:
        kept = []
        for basis in of_dim:
            along = 0
            if dim in counted and basis[axis]:
                along = 1 << position
                position += 1
            kept.append((*basis[:axis], along, *basis[axis + 1 :]))
        bases.append((dim, tuple(kept)))
    shape = (*layout.shape[:axis], 1 << position, *layout.shape[axis + 1 :])
    return LinearLayout(tuple(bases), shape).remove_zero_bases("register")[0]
