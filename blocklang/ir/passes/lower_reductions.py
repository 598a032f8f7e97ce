"""lower_reductions: splits reductions over several warps into steps that each backend op can do.

    r = reduce(x, axis)                        # warps hold different parts of the axis
 -> p = reduce(x, axis) within_warp            # one entry a warp
    q = convert_layout(p)                      # every warp holds all entries, in registers
    r = reduce(q, axis)                        # within each thread

What moves between warps is thereby an ordinary conversion, for which `lower_conversions` finds the
best way. Inputs whose layout mixes the axis with another dimension in one bit are converted to the
default layout first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from blocklang.ir.builder import Builder
from blocklang.ir.core import Module, Value
from blocklang.ir.layout import LinearLayout
from blocklang.ir.ops.reduce import Reduce, partial_layout
from blocklang.ir.ops.shape import ConvertLayout
from blocklang.ir.types import BlockType

from .coalesce import default_layout
from .manager import Pass


@dataclass(frozen=True)
class LowerReductions(Pass):
    """Split reductions that cross warps."""

    name: ClassVar[str] = "lower-reductions"

    def _run(self, module: Module) -> None:
        for function in module.functions.values():
            num_warps = int(function.attributes["num_warps"])
            for op in list(function.walk()):
                if isinstance(op, Reduce) and not op.is_partial:
                    _split(_with_plain_inputs(op, num_warps))


def _layout(op: Reduce) -> LinearLayout:
    block = op.inputs[0].type
    assert isinstance(block, BlockType)
    assert block.layout is not None
    return block.layout


def _with_plain_inputs(op: Reduce, num_warps: int) -> Reduce:
    """The op itself, or one whose inputs have no bit that moves along the axis and along another
    dimension.
    """
    layout = _layout(op)
    bases = [basis for _, of_dim in layout.bases for basis in of_dim]
    if all(not basis[op.axis] or sum(map(bool, basis)) == 1 for basis in bases):
        return op
    builder = Builder.before(op)
    plain = default_layout(layout.shape, num_warps)
    inputs = [_convert(builder, v, plain) for v in op.inputs]
    made = builder.insert(op.over(inputs))
    for old, new in zip(op.results, made.results, strict=True):
        same = old.type == new.type
        layout_of_old = getattr(old.type, "layout", None)
        old.replace_all_uses_with(
            new if same or layout_of_old is None else _convert(builder, new, layout_of_old)
        )
    op.erase()
    return made


def _split(op: Reduce) -> None:
    layout, axis = _layout(op), op.axis
    warp_bits = [i for i, b in enumerate(layout.bases_of("warp")) if b[axis]]
    if not warp_bits:
        return
    builder = Builder.before(op)
    partial = builder.insert(op.over(op.inputs, within_warp=True))
    everywhere = _entries_everywhere(partial_layout(layout, axis), axis)
    entries = [_convert(builder, r, everywhere) for r in partial.results]
    final = builder.insert(op.over(entries))
    op.replace_with(final.results)


def _entries_everywhere(layout: LinearLayout, axis: int) -> LinearLayout:
    """The same with every entry of the axis in registers of every thread."""
    size = layout.shape[axis]
    bases = {dim: list(of_dim) for dim, of_dim in layout.bases}
    bases["warp"] = [(*b[:axis], 0, *b[axis + 1 :]) for b in layout.bases_of("warp")]
    unit = [0] * layout.rank
    entries: list[tuple[int, ...]] = []
    while (1 << len(entries)) < size:
        unit[axis] = 1 << len(entries)
        entries.append(tuple(unit))
    bases["register"] = [*entries, *bases.get("register", [])]
    return LinearLayout(tuple((d, tuple(b)) for d, b in bases.items()), layout.shape)


def _convert(builder: Builder, value: Value, layout: LinearLayout) -> Value:
    assert isinstance(value.type, BlockType)
    kind = replace(value.type, layout=layout)
    if kind == value.type:
        return value
    return builder.insert(ConvertLayout(value, loc=builder.loc, result_types=[kind])).result
