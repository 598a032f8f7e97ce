"""map-wgmma: gives products to warpgroups, and what moves through shared memory to the tensor
memory accelerator.

A product that a warpgroup can do gets its instruction, the spread of warps and the layout of its
result. One with fewer rows than the instruction has is done as the product of the transposed
factors, if the left one comes from memory. Its right operand lies in shared memory, and so does the
left one unless it was computed. What comes straight from a tensor descriptor (through transposes
and reshapes, which shared memory has for nothing) is copied there by the accelerator, if the
launcher can encode the tensor; anything else is put there by the threads (by `pipeline-loads` ahead
of time, where it can), 16-bit elements in the order in which they were loaded. Blocks that are
stored through a descriptor leave the same way.

If only so many products of 8-bit floats may be summed in the tensor core's own accumulator, each
product gets an empty one, which is added to the sum; one that has more products is left to mma.

Descriptor accesses that remain become loads and stores under masks in `expand-descriptors`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from blocklang.ir.analysis.axis import AxisAnalysis, analyze_axes
from blocklang.ir.analysis.host import host_expression
from blocklang.ir.builder import Builder
from blocklang.ir.core import Function, Module, Operation, Result, Value
from blocklang.ir.layout import LinearLayout, shared_tile, wgmma_accumulator
from blocklang.ir.op import Op
from blocklang.ir.ops.asynchronous import LoadShared, SharedView, TensorMap, TmaStore, ToShared
from blocklang.ir.ops.control import While
from blocklang.ir.ops.descriptor import (
    DescriptorAccess,
    DescriptorLoad,
    DescriptorReduce,
    DescriptorStore,
    MakeTensorDescriptor,
)
from blocklang.ir.ops.dot import Dot
from blocklang.ir.ops.elementwise import Add, Cast
from blocklang.ir.ops.memory import Load
from blocklang.ir.ops.program import constant_value, is_constant
from blocklang.ir.ops.shape import Permute, Reshape
from blocklang.ir.types import BlockType, DType, SharedType, element_type

from .manager import Pass

_LINE = 128
_GROUP = 4
_MAX_BOX = 256
_LEAST_ROWS = 64
_REDUCIBLE = ("f32", "f16", "bf16", "i32", "u32", "u64")
_LEAST_LINE = 16
"""Elements of 16 bits in the narrowest line that warpgroups can read."""
_ANY_NUMBER = 1 << 30
_ACCUMULATORS = {
    "f16": ("f32", "f16"), "bf16": ("f32",), "f32": ("f32",), "f8e4m3": ("f32",),
    "f8e5m2": ("f32",), "i8": ("i32",), "u8": ("i32",),
}  # fmt: skip


@dataclass(frozen=True)
class MapWgmma(Pass):
    """Choose warpgroup instructions and copies by the tensor memory accelerator."""

    name: ClassVar[str] = "map-wgmma"

    def _run(self, module: Module) -> None:
        for function in module.functions.values():
            _Mapping(function).run()


@dataclass
class _Mapping:
    function: Function

    def run(self) -> None:
        self.num_warps = int(self.function.attributes["num_warps"])
        self.axes: AxisAnalysis = analyze_axes(self.function)
        self.loads: dict[DescriptorLoad, Value] = {}
        for op in list(self.function.walk()):
            if isinstance(op, Dot) and self.is_possible(op):
                self.map(op)
        for load in self.loads:
            _erase_unused(load)
        for op in list(self.function.walk()):
            if isinstance(op, DescriptorStore | DescriptorReduce):
                self.store(op)

    # ------------------------------------------------------------ products

    def is_possible(self, op: Dot) -> bool:
        """Whether warpgroups have an instruction for a product of this shape and these types."""
        a, acc = _block(op.a), _block(op.acc)
        assert isinstance(a.element, DType)
        if op.instruction or a.rank != 2 or self.num_warps % _GROUP:
            return False
        if str(acc.element) not in _ACCUMULATORS.get(a.element.name, ()):
            return False
        if a.element.bits == 32 and op.precision != "tf32":
            return False
        if _is_float8(op) and 0 < op.max_imprecise < a.shape[1]:
            return False  # an instruction of warps can be told to sum fewer products
        rows, columns = acc.shape
        least = 8 if acc.element.is_float else 16  # type: ignore[union-attr]
        if rows < _LEAST_ROWS and not _is_loaded(op.a):
            return False
        fits = max(rows, columns) >= _LEAST_ROWS and min(rows, columns) >= least
        return fits and a.shape[1] * a.element.bits >= 256

    def map(self, op: Dot) -> None:
        layout, warps = self.accumulator(*_block(op.acc).shape)
        any_major = _block(op.a).element.bits == 16
        b = self.in_shared(op.b, lambda major: any_major or major == 0, 0)
        a: Value | None = self.copied(op.a, lambda major: any_major or major == 1)
        if a is None and _is_loaded(op.a):
            a = self.in_shared(op.a, lambda major: any_major or major == 1, 1)
        builder = Builder.before(op)
        sums = self.sums_apart(op)
        acc = builder.constant(0.0, _block(op.acc)) if sums else op.acc
        made = builder.insert(
            Dot(
                a or op.a, b, acc,
                precision=op.precision, max_imprecise=op.max_imprecise, instruction="wgmma",
                warps=warps, layout=layout, loc=op.loc,
            )
        )  # fmt: skip
        total = builder.insert(Add(op.acc, made.result, loc=op.loc)) if sums else made
        op.replace_with([total.result])

    def accumulator(self, rows: int, columns: int) -> tuple[LinearLayout, tuple[int, int]]:
        """The layout of a product's result, and the warps along its axes."""
        if rows < _LEAST_ROWS:
            layout, warps = self.accumulator(columns, rows)
            return layout.permute((1, 0)), (warps[1], warps[0])
        along_rows = max(min(self.num_warps, rows // 16), _GROUP)
        warps = along_rows, self.num_warps // along_rows
        width = min(256, max(columns // warps[1], 8))
        return wgmma_accumulator((rows, columns), warps, width), warps

    def sums_apart(self, op: Dot) -> bool:
        """Whether products are summed by themselves in the tensor core, since together with those
        of other iterations they would be too many for its own accumulator.
        """
        if not _is_float8(op) or is_constant(op.acc, 0):
            return False
        return 0 < op.max_imprecise < _ANY_NUMBER

    def in_shared(self, value: Value, is_legal: Callable[[int], bool], major: int) -> Value:
        """An operand in shared memory: copied there, or stored with axis `major` fastest; one of
        16-bit elements, of which either may be, as it was loaded.
        """
        copied = self.copied(value, is_legal)
        if copied is not None:
            return copied
        block = _block(value)
        assert isinstance(block.element, DType)
        if block.element.bits == 16:
            major = self.loaded_along(value, major)
        order = (major, 1 - major)
        layout = _tile(block.shape, order, block.element.bits)
        builder = Builder.behind(value)
        kind = SharedType(block.shape, block.element, layout)
        return builder.insert(ToShared(value, loc=builder.loc, result_types=[kind])).result

    def loaded_along(self, value: Value, otherwise: int) -> int:
        """The axis along which threads load most elements of a block at a time, and can store
        them; `otherwise` where none is better.
        """
        shape, order = _block(value).shape, (0, 1)
        while isinstance(value, Result) and isinstance(value.op, Permute | Cast):
            if isinstance(value.op, Permute):
                order = (value.op.order[order[0]], value.op.order[order[1]])
            value = value.op.operand
        if not isinstance(value, Result) or not isinstance(value.op, Load):
            return otherwise
        pointer = value.op.pointer
        width = element_type(value.type).bytes
        runs = [self.axes.vector_width(pointer, axis, width) for axis in order]
        better = 1 - otherwise
        is_line = shape[better] >= _LEAST_LINE
        return better if is_line and runs[better] > runs[otherwise] else otherwise

    def copied(self, value: Value, is_legal: Callable[[int], bool]) -> Value | None:
        """`value` as the accelerator brings it to shared memory, if it comes from a descriptor in
        a way that this can be said of. `is_legal` takes the axis that would be fastest.
        """
        views: list[Permute | Reshape] = []
        while isinstance(value, Result) and isinstance(value.op, Permute | Reshape):
            views.append(value.op)
            value = value.op.operand
        if not isinstance(value, Result) or not isinstance(value.op, DescriptorLoad):
            return None
        tensor = self.tensor(value.op)
        if tensor is None:
            return None
        kinds = [_shared(value.op.block, tensor)]
        for view in reversed(views):
            kinds.append(_viewed(kinds[-1], view))
        fastest = kinds[-1].layout.bases_of("offset")[0]
        if not is_legal(next((i for i, step in enumerate(fastest) if step), -1)):
            return None
        if tensor.swizzle < 32 or not _is_matrix(kinds[-1]):
            return None
        found = self.load(value.op, tensor, kinds[0])
        for view, kind in zip(reversed(views), kinds[1:], strict=True):
            builder = Builder.behind(found)
            found = builder.insert(SharedView(found, loc=view.loc, result_types=[kind])).result
        return found

    # ------------------------------------------------------------ copies

    def tensor(self, op: DescriptorAccess) -> _Tensor | None:
        """How the accelerator moves the blocks of a descriptor, if it can."""
        made = op.descriptor.owner
        if not isinstance(made, MakeTensorDescriptor):
            return None
        if isinstance(op, DescriptorLoad) and any(isinstance(o, While) for o in op.holders):
            return None  # no ring can be carried through one
        if any(host_expression(v) is None for v in made.operands):
            return None
        element = op.block.element
        assert isinstance(element, DType)
        # The accelerator knows 8-bit floats as bytes, which have no NaN.
        if made.padding == "nan" and (not element.is_float or element.is_float8):
            return None
        units = [i for i, stride in enumerate(made.strides) if constant_value(stride) == 1]
        if not units or len(made.strides) > 5:
            return None
        fastest = units[-1]
        others = [s for i, s in enumerate(made.strides) if i != fastest]
        aligned = [self.axes.info[s].divisibility[0] * element.bytes % 16 == 0 for s in others]
        if not all(aligned) or self.axes.info[made.pointer].divisibility[0] % 16:
            return None
        axes = (*(i for i in range(len(made.strides)) if i != fastest), fastest)
        inner = op.block.shape[fastest] * element.bytes
        if inner < 16:
            return None
        swizzle = min(_LINE, inner) if inner >= 32 else 0
        width = min(inner, swizzle or inner) // element.bytes
        box = (*(min(op.block.shape[i], _MAX_BOX) for i in axes[:-1]), width)
        return _Tensor(made, axes, box, swizzle) if width <= _MAX_BOX else None

    def load(self, op: DescriptorLoad, tensor: _Tensor, kind: SharedType) -> Value:
        if op not in self.loads:
            # Products of warpgroups would look at no more of float32 than tf32 has.
            map = self.map_of(tensor, "tf32" if str(op.block.element) == "f32" else "")
            indices = tuple(op.indices[i] for i in tensor.axes)
            made = LoadShared(map, indices, loc=op.loc, result_types=[kind])
            self.loads[op] = Builder.before(op).insert(made).result
            made.result.name = op.results[0].name
        return self.loads[op]

    def map_of(self, tensor: _Tensor, rounding: str = "") -> Value:
        """The tensor map, made where the kernel starts."""
        made = tensor.descriptor
        _hoist(made.result, self.function)
        builder = Builder.behind(made.result)
        return builder.insert(
            TensorMap(
                made.result, axes=tensor.axes, box=tensor.box, swizzle=tensor.swizzle,
                rounding=rounding, loc=made.loc,
            )
        ).result  # fmt: skip

    def store(self, op: DescriptorStore | DescriptorReduce) -> None:
        tensor = self.tensor(op)
        element = op.block.element
        if tensor is None or self.num_warps % _GROUP:
            return
        if isinstance(op, DescriptorReduce) and str(element) not in _REDUCIBLE:
            return
        tensor_map = self.map_of(tensor)
        builder = Builder.before(op)
        kind = _shared(op.block, tensor)
        sent = ToShared(op.value, loc=op.loc, result_types=[kind])
        buffer = builder.insert(sent).result
        builder.insert(
            TmaStore(
                tensor_map, tuple(op.indices[i] for i in tensor.axes), buffer=buffer,
                reduce=op.kind if isinstance(op, DescriptorReduce) else "", loc=op.loc,
            )
        )  # fmt: skip
        op.erase()


@dataclass(frozen=True)
class _Tensor:
    """A descriptor, and how its blocks are moved: see `TensorMap`."""

    descriptor: MakeTensorDescriptor
    axes: tuple[int, ...]
    box: tuple[int, ...]
    swizzle: int


def _block(value: Value) -> BlockType:
    assert isinstance(value.type, BlockType)
    return value.type


def _is_float8(op: Dot) -> bool:
    element = _block(op.a).element
    return isinstance(element, DType) and element.is_float8


def _is_loaded(value: Value) -> bool:
    """Whether a block comes from memory by moves alone."""
    while isinstance(value, Result) and isinstance(value.op, Permute | Reshape):
        value = value.op.operand
    return isinstance(value, Result) and isinstance(value.op, Load | DescriptorLoad)


def _tile(shape: tuple[int, ...], order: tuple[int, ...], bits: int) -> LinearLayout:
    swizzle = min(_LINE, max(shape[order[0]] * bits // 8, 32))
    return shared_tile(shape, order, bits, swizzle)


def _shared(block: BlockType, tensor: _Tensor) -> SharedType:
    """The buffer into which the accelerator copies a block."""
    assert isinstance(block.element, DType)
    order = tuple(reversed(tensor.axes))
    layout = shared_tile(block.shape, order, block.element.bits, tensor.swizzle)
    return SharedType(block.shape, block.element, layout)


def _viewed(kind: SharedType, view: Permute | Reshape) -> SharedType:
    if isinstance(view, Permute):
        shape = tuple(kind.shape[i] for i in view.order)
        return SharedType(shape, kind.element, kind.layout.permute(view.order))
    shape = _block(view.results[0]).shape
    return SharedType(shape, kind.element, kind.layout.reshape(shape))


def _is_matrix(kind: SharedType) -> bool:
    """Whether the buffer is one of the tiles that warpgroups can read."""
    if len(kind.shape) != 2:
        return False
    return any(
        kind.layout == shared_tile(kind.shape, order, kind.element.bits, swizzle)
        for order in ((1, 0), (0, 1))
        for swizzle in (128, 64, 32)
    )


def _erase_unused(op: Op) -> None:
    """Erase an op whose result only its views used, and these for nothing."""
    for user in op.results[0].users:
        if isinstance(user, Permute | Reshape):
            _erase_unused(user)
    if not op.results[0].uses:
        op.erase()


def _hoist(value: Value, function: Function) -> None:
    """Move what defines a value, and what that is made of, to the start of the kernel."""
    if not isinstance(value, Result) or value.op.parent is function.block:
        return
    for inner in value.op.operands:
        _hoist(inner, function)
    op = value.op
    op.detach()
    function.block.insert(_first_free(op, function), op)


def _first_free(op: Operation, function: Function) -> int:
    """The first position at the top of the kernel behind all operands of `op`."""
    owners = [v.op for v in op.operands if isinstance(v, Result)]
    return max((function.block.ops.index(o) + 1 for o in owners), default=0)
