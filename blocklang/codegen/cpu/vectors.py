"""Along which dimension a nest's chunks extend, and how wide its widest elements are."""

from __future__ import annotations

from blocklang.ir.core import Result
from blocklang.ir.ops.memory import Load, MemoryAccess
from blocklang.ir.types import DType, element_type, shape_of

from .places import dimension_places
from .plan import Evaluate, Execute, Nest
from .strides import Strides


def choose_vectors(strides: Strides, nest: Nest) -> None:
    """Set `vector` and `bits` of a nest over blocks.

    Chunks extend along the dimension in which most accesses are contiguous; buffers are contiguous
    in the last one, but for some factors of matrix products.
    """
    extents = [d for d, n in enumerate(nest.shape) if n > 1]
    last = extents[-1] if extents else len(nest.shape) - 1
    contiguous = dict.fromkeys(extents or [last], 0)
    contiguous[last] += len(nest.reads)
    for action in nest.actions:
        if isinstance(action, Evaluate) and action.buffer is not None:
            for dimension, distance in enumerate(action.buffer.strides):
                if dimension in contiguous and dimension != last and distance == 1:
                    contiguous[dimension] += 1
    for access in _accesses(nest):
        for dimension, stride in enumerate(strides.of(access.pointer)):
            if dimension in contiguous and stride == 1:
                contiguous[dimension] += 1
    nest.vector = max(contiguous, key=lambda d: (contiguous[d], d))
    widths = [8]
    for value, _ in nest.seen:
        kind = element_type(value.type)
        if isinstance(kind, DType) and not kind.is_bool and not strides.is_regular(value):
            widths.append(kind.bits)
    nest.bits = max(widths)


def _accesses(nest: Nest) -> list[MemoryAccess]:
    whole = dimension_places(nest.shape)
    found: list[MemoryAccess] = [
        value.op
        for value, place in nest.seen
        if isinstance(value, Result) and isinstance(value.op, Load)
        and place == whole and shape_of(value.type) == nest.shape and value not in nest.reads
    ]  # fmt: skip
    for action in nest.actions:
        if isinstance(action, Execute) and isinstance(action.op, MemoryAccess):
            found.append(action.op)
    return found
