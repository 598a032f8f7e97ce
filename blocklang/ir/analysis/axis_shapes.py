"""The rules of the axis analysis for ops that rearrange elements."""

from __future__ import annotations

import math
from collections.abc import Iterator

from blocklang.ir.ops.shape import Broadcast, ConvertLayout, ExpandDims, Permute, Reshape
from blocklang.ir.types import shape_of

from .axis_info import AxisInfo, axis_info, padded, uniform
from .axis_rules import NonNegative, axis_rule


@axis_rule(ConvertLayout)
def _convert_layout(op: ConvertLayout, _: NonNegative, x: AxisInfo) -> AxisInfo:
    return x


@axis_rule(ExpandDims)
def _expand_dims(op: ExpandDims, _: NonNegative, x: AxisInfo) -> AxisInfo:
    def insert(entries: tuple[int, ...]) -> tuple[int, ...]:
        return (*entries[: op.axis], 1, *entries[op.axis :])

    return axis_info(
        op.result.type,
        insert(x.contiguity),
        insert(x.divisibility),
        insert(x.constancy),
        x.constant,
    )


@axis_rule(Broadcast)
def _broadcast(op: Broadcast, _: NonNegative, x: AxisInfo) -> AxisInfo:
    source, sizes = shape_of(op.operand.type), padded(op.result.type)
    constancy = (
        full if size == 1 else known
        for size, full, known in zip(source, sizes, x.constancy, strict=True)
    )
    return axis_info(op.result.type, x.contiguity, x.divisibility, tuple(constancy), x.constant)


@axis_rule(Permute)
def _permute(op: Permute, _: NonNegative, x: AxisInfo) -> AxisInfo:
    def reorder(entries: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(entries[axis] for axis in op.order)

    return axis_info(
        op.result.type,
        reorder(x.contiguity),
        reorder(x.divisibility),
        reorder(x.constancy),
        x.constant,
    )


@axis_rule(Reshape)
def _reshape(op: Reshape, _: NonNegative, x: AxisInfo) -> AxisInfo:
    type = op.result.type
    if x.constancy == padded(op.operand.type):
        return uniform(type, x.everywhere, x.constant)
    contiguity, constancy = [1] * len(shape_of(type)), [1] * len(shape_of(type))
    divisibility = [x.everywhere] * len(shape_of(type))
    if op.reorder:
        return axis_info(type, contiguity, divisibility, constancy)
    source, target = shape_of(op.operand.type), shape_of(type)
    for group in _groups(source, target):
        _reshape_group(x, source, target, group, (contiguity, divisibility, constancy))
    return axis_info(type, contiguity, divisibility, constancy)


Group = tuple[list[int], list[int]]


def _groups(source: tuple[int, ...], target: tuple[int, ...]) -> Iterator[Group]:
    """Cut both shapes into the shortest stretches of equal size, last ones first.

    Dimensions of size 1 belong to no stretch.
    """
    old = [axis for axis, size in enumerate(source) if size != 1]
    new = [axis for axis, size in enumerate(target) if size != 1]
    while old:
        group: Group = [old.pop()], [new.pop()]
        sizes = [source[group[0][0]], target[group[1][0]]]
        while sizes[0] != sizes[1]:
            side = int(sizes[0] > sizes[1])
            axis = (old, new)[side].pop()
            group[side].insert(0, axis)
            sizes[side] *= (source, target)[side][axis]
        yield group


def _reshape_group(
    x: AxisInfo,
    source: tuple[int, ...],
    target: tuple[int, ...],
    group: Group,
    found: tuple[list[int], list[int], list[int]],
) -> None:
    """Enter into `found` what a group's row-major numbering tells of its new dimensions."""
    contiguity, divisibility, constancy = found
    old, new = group
    if len(old) == len(new) == 1:
        contiguity[new[0]] = x.contiguity[old[0]]
        divisibility[new[0]] = x.divisibility[old[0]]
        constancy[new[0]] = x.constancy[old[0]]
        return
    # Runs must not cross the end of a row, neither of the old rows nor of the new ones.
    run = math.gcd(x.contiguity[old[-1]], source[old[-1]], target[new[-1]])
    contiguity[new[-1]] = run
    divisibility[new[-1]] = max(x.divisor(old[-1], run), x.everywhere)
    equal = 1
    for axis in reversed(old):
        equal *= math.gcd(x.constancy[axis], source[axis])
        if x.constancy[axis] < source[axis] or source[axis].bit_count() != 1:
            break
    inner = 1
    for axis in reversed(new):
        if equal % inner == 0:
            constancy[axis] = math.gcd(equal // inner, target[axis])
        inner *= target[axis]
