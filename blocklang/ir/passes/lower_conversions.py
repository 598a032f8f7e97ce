"""lower_conversions: makes shared memory explicit.

A layout conversion that needs no shared memory stays (code generation moves registers or
shuffles). Any other becomes a buffer with the layout that serves both sides best, a store and a
load; barriers come later, by need. The factors of products that have no instruction are stored in
the order in which the loop over them reads them. The result of an atomic op, which only the thread
that did it knows, reaches the threads that hold replicas through a buffer too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from blocklang.ir.builder import Builder
from blocklang.ir.core import Module, Region, Value
from blocklang.ir.layout import (
    LinearLayout,
    best_access,
    best_shared,
    conversion,
    padded_shape,
    replicated,
    shared_linear,
)
from blocklang.ir.ops.control import Yield
from blocklang.ir.ops.dot import Dot
from blocklang.ir.ops.elementwise import Bitcast, Cast
from blocklang.ir.ops.memory import AtomicRMW
from blocklang.ir.ops.program import Splat
from blocklang.ir.ops.reduce import Reduce
from blocklang.ir.ops.shape import ConvertLayout
from blocklang.ir.ops.shared import SharedAlloc, SharedLoad, SharedStore
from blocklang.ir.ops.shared_dot import SharedDot
from blocklang.ir.types import BlockType, DType, PointerType, SharedType, element_type, i1, u8, u64

from .manager import Pass


@dataclass(frozen=True)
class LowerConversions(Pass):
    """Send conversions between warps through shared memory. `stores_matrices` says that the target
    stores 8 x 8 matrices at once.
    """

    stores_matrices: bool = False
    name: ClassVar[str] = "lower-conversions"

    def _run(self, module: Module) -> None:
        module.attributes["stage"] = "shared"
        for function in module.functions.values():
            for op in list(function.walk()):
                if isinstance(op, ConvertLayout):
                    _lower_conversion(op, self.stores_matrices)
                elif isinstance(op, Dot) and op.instruction == "fma":
                    _lower_product(op)
                elif isinstance(op, AtomicRMW) and op.results[0].uses:
                    _share_result(op, int(function.attributes["num_warps"]))


def _block(value: Value) -> tuple[BlockType, LinearLayout]:
    assert isinstance(value.type, BlockType)
    assert value.type.layout is not None
    return value.type, value.type.layout


def bytes_through_shared(op: ConvertLayout) -> int:
    """Bytes of shared memory that a conversion takes; 0 for one that needs none."""
    block, source = _block(op.operand)
    _, target = _block(op.results[0])
    through = conversion(source, target).kind == "shared"
    return block.size * element_type(block).bytes if through else 0


def _lower_conversion(op: ConvertLayout, stores_matrices: bool) -> None:
    _, source = _block(op.operand)
    _, target = _block(op.results[0])
    if conversion(source, target).kind != "shared":
        return
    load = _store(_before_loads(op), op.operand, target, stores_matrices)
    op.replace_with([_loaded(Builder.before(op), load, op.operand)])


def _before_loads(op: ConvertLayout) -> Builder:
    """Before the loads of the conversions that stand directly before `op`: one barrier will do for
    all of them.
    """
    assert op.parent is not None
    ops = op.parent.ops
    index = ops.index(op)
    while index and isinstance(ops[index - 1], SharedLoad):
        if ops[index - 1].results[0] is op.operand:
            break
        index -= 1
    return Builder(op.parent, index, op.loc)


def _through_shared(builder: Builder, value: Value, target: LinearLayout) -> Value:
    """`value` in layout `target`, by way of a buffer."""
    return _loaded(builder, _store(builder, value, target), value)


def _store(
    builder: Builder, value: Value, target: LinearLayout, stores_matrices: bool = False
) -> SharedLoad:
    """Store `value` in a buffer; the load that will get it in layout `target`. Masks travel as
    bytes, pointers as integers.
    """
    block, source = _block(value)
    carrier = (
        u64
        if isinstance(block.element, PointerType)
        else u8
        if block.element == i1
        else block.element
    )
    sent = _cast(builder, value, carrier)
    layout = best_shared(source, target, carrier.bits, stores_matrices=stores_matrices)
    buffer = _stored(builder, sent, layout)
    return SharedLoad(
        buffer,
        vector=shared_vector(target, layout, carrier),
        loc=builder.loc,
        result_types=[BlockType(block.shape, carrier, target)],
    )


def _stored(builder: Builder, value: Value, layout: LinearLayout) -> Value:
    """A buffer with `value`."""
    block, registers = _block(value)
    assert isinstance(block.element, DType)
    kind = SharedType(block.shape, block.element, layout)
    buffer = builder.insert(SharedAlloc(loc=builder.loc, result_types=[kind])).result
    vector = shared_vector(registers, layout, block.element)
    builder.insert(SharedStore(buffer, value=value, vector=vector, loc=builder.loc))
    return buffer


def shared_vector(registers: LinearLayout, shared: LinearLayout, element: DType) -> int:
    """How many elements a thread should move at once between registers and a buffer."""
    return max(1, best_access(registers, shared, max(element.bits, 8))[0] // element.bits)


def _lower_product(op: Dot) -> None:
    """Store the factors with K slowest."""
    builder = Builder.before(op)
    rank = len(padded_shape(_block(op.acc)[0].shape))
    orders = {2: ((0, 1), (1, 0)), 3: ((1, 2, 0), (2, 1, 0))}[rank]
    a, b = (
        _stored(builder, value, shared_linear(padded_shape(_block(value)[0].shape), order))
        for value, order in zip((op.a, op.b), orders, strict=True)
    )
    op.replace_with([builder.insert(SharedDot(a, b, op.acc, loc=op.loc)).result])


def _loaded(builder: Builder, load: SharedLoad, value: Value) -> Value:
    """Insert the load; its result as elements of the type that `value` has."""
    return _cast(builder, builder.insert(load).result, _block(value)[0].element)


def _cast(builder: Builder, value: Value, element: DType | PointerType) -> Value:
    block, _ = _block(value)
    if block.element == element:
        return value
    is_pointer = isinstance(block.element, PointerType) or isinstance(element, PointerType)
    kind = replace(block, element=element)
    op = (Bitcast if is_pointer else Cast)(value, loc=builder.loc, result_types=[kind])
    return builder.insert(op).results[0]


def _share_result(op: AtomicRMW, num_warps: int) -> None:
    """Hand the old value from the thread that did the atomic op to those that hold replicas."""
    result = op.results[0]
    users = list(result.uses)
    assert op.parent is not None
    builder = Builder(op.parent, op.parent.ops.index(op) + 1, op.loc)
    if isinstance(result.type, BlockType):
        _, layout = _block(result)
        if not any(layout.free_masks().get(dim, 0) for dim in ("lane", "warp")):
            return
        shared = _through_shared(builder, result, layout)
    else:
        assert isinstance(result.type, DType)
        layout = replicated((1,), num_warps)
        block = BlockType((1,), result.type, layout)
        alone = builder.insert(Splat(result, loc=op.loc, result_types=[block])).result
        shared = _first(builder, _through_shared(builder, alone, layout))
    for user, index in users:
        user.set_operand(index, shared)


def _first(builder: Builder, value: Value) -> Value:
    """The only element of a block of shape (1,), as a scalar."""

    element = _block(value)[0].element
    region = Region()
    argument = region.block.add_argument(element, builder.loc)
    region.block.add_argument(element, builder.loc)
    region.block.append(Yield((argument,), loc=builder.loc))
    return builder.insert(Reduce((value,), axis=0, loc=builder.loc, regions=[region])).results[0]
