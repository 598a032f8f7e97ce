"""split-over-cluster: spreads one program over the blocks of threads of a cluster.

With `num_ctas` above 1 each block of threads does a share of the program: its rows of a product,
and of everything that goes with these rows. The pass rewrites the program into what one block of
threads does; which one it is, `cluster_rank` says, and all passes behind this one see an ordinary
program. What does not depend on the rank is the same for all of them: such copies
`specialize_warps` lets each do a part of, for all.

First the axes of blocks are grouped that have to be split together. An axis along which something
is summed is never split, nor one that goes through an op this pass knows nothing of. If no product
can be split, the program stays whole and the cluster has one block of threads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from blocklang.ir.builder import Builder
from blocklang.ir.core import Block, Function, Module, Operation, Region, Value, clone
from blocklang.ir.op import Effect, Op
from blocklang.ir.ops.asynchronous import ClusterRank
from blocklang.ir.ops.control import For, If, While, Yield
from blocklang.ir.ops.debug import DevicePrint
from blocklang.ir.ops.descriptor import DescriptorAccess, DescriptorLoad, MakeTensorDescriptor
from blocklang.ir.ops.dot import Dot
from blocklang.ir.ops.elementwise import Add, Compare, Elementwise, Multiply
from blocklang.ir.ops.memory import Load, Store
from blocklang.ir.ops.program import Arange, Constant, Hint, Splat
from blocklang.ir.ops.reduce import Reduce
from blocklang.ir.ops.shape import Broadcast, ExpandDims, Permute, Reshape
from blocklang.ir.types import BlockType, i32

from .manager import Pass

_LEAST_ROWS = 64
Axis = tuple[Value, int]


@dataclass(frozen=True)
class SplitOverCluster(Pass):
    """Spread a program over the blocks of threads of a cluster."""

    name: ClassVar[str] = "split-over-cluster"

    def _run(self, module: Module) -> None:
        for function in module.functions.values():
            count = int(function.attributes.get("num_ctas", 1))
            if count > 1 and not _Split(function, count).run():
                function.attributes["num_ctas"] = 1


class _Split:
    """The axes of a function's blocks, in groups, and the work on them."""

    def __init__(self, function: Function, count: int) -> None:
        self.function, self.count = function, count
        self.parents: dict[Axis, Axis] = {}
        self.whole: set[Axis] = set()

    def run(self) -> bool:
        """Whether the program was split."""
        self.separate()
        for op in self.function.walk():
            self.relate(op)
        self.whole = {self.find(axis) for axis in self.whole}
        chosen = {
            self.find((op.results[0], 0)) for op in self.function.walk() if isinstance(op, Dot)
        }
        if not chosen or not all(self.is_divisible(axis) for axis in chosen):
            return False
        self.split = {axis for axis in list(self.parents) if self.find(axis) in chosen}
        if len({value for value, _ in self.split}) < len(self.split):
            return False  # of a block that is split along two axes only a diagonal would remain
        ops = list(self.function.walk())
        # What one block of threads writes and learns from it, the others would not know.
        if any(self.is_common_write(op) and any(r.uses for r in op.results) for op in ops):
            return False
        for op in ops:
            self.rewrite(op)
        arguments = [a for op in ops for region in op.regions for a in region.block.arguments]
        for value in [*arguments, *(r for op in ops if op.parent for r in op.results)]:
            self.shrink(value)
        return True

    def separate(self) -> None:
        """Make ranges and constants anew for each use: rows and columns may have one in common."""
        for op in list(self.function.walk()):
            if isinstance(op, Arange | Splat | Constant) and _rank(op.results[0]):
                for user, index in list(op.results[0].uses)[1:]:
                    user.set_operand(index, Builder.before(op).insert(clone(op, {})).results[0])

    # ------------------------------------------------------------ groups of axes

    def find(self, axis: Axis) -> Axis:
        self.parents.setdefault(axis, axis)
        while self.parents[axis] != axis:
            axis = self.parents[axis]
        return axis

    def join(self, one: Axis, other: Axis) -> None:
        self.parents[self.find(one)] = self.find(other)

    def equal(self, *values: Value | None) -> None:
        """Blocks of one shape whose axes correspond."""
        blocks = [v for v in values if v is not None and isinstance(v.type, BlockType)]
        for other in blocks[1:]:
            for axis in range(_rank(other)):
                self.join((blocks[0], axis), (other, axis))

    def keep(self, value: Value, axis: int | None = None) -> None:
        """An axis (or all) that must stay whole."""
        for each in range(_rank(value)) if axis is None else (axis,):
            self.whole.add((value, each))

    def relate(self, op: Operation) -> None:
        """Group the axes of what an op reads and makes."""
        if isinstance(op, Elementwise | Hint | Load | Store):
            self.equal(*op.operands, *op.results)
        elif isinstance(op, ExpandDims | Broadcast | Permute | Reshape):
            self.relate_shape(op)
        elif isinstance(op, Reduce):
            for value, result in zip(op.inputs, op.results, strict=True):
                self.keep(value, op.axis)
                kept = [a for a in range(_rank(value)) if a != op.axis]
                for target, source in enumerate(kept if _rank(result) else ()):
                    self.join((result, target), (value, source))
            self.equal(*op.inputs)
        elif isinstance(op, Dot):
            self.equal(op.acc, op.results[0])
            last = _rank(op.acc) - 1
            self.join((op.a, last - 1), (op.acc, last - 1))
            self.join((op.b, last), (op.acc, last))
            self.keep(op.a, last)
            self.keep(op.b, last - 1)
        elif isinstance(op, For | If | While):
            self.relate_control(op)
        elif not isinstance(op, Yield | Splat | Constant | Arange | DescriptorAccess):
            for value in (*op.operands, *op.results):
                self.keep(value)

    def relate_shape(self, op: ExpandDims | Broadcast | Permute | Reshape) -> None:
        source, target = op.operand, op.results[0]
        if isinstance(op, ExpandDims):
            for axis in range(_rank(source)):
                self.join((target, axis + (axis >= op.axis)), (source, axis))
        elif isinstance(op, Permute):
            for axis, origin in enumerate(op.order):
                self.join((target, axis), (source, origin))
        elif isinstance(op, Broadcast):
            pairs = zip(_shape(source), _shape(target), strict=True)
            for axis, (before, after) in enumerate(pairs):
                if before == after:
                    self.join((target, axis), (source, axis))
        else:
            # Axes of size 1 come and go; anything else mixes axes.
            old = [a for a, size in enumerate(_shape(source)) if size > 1]
            new = [a for a, size in enumerate(_shape(target)) if size > 1]
            if [_shape(source)[a] for a in old] == [_shape(target)[a] for a in new]:
                for one, other in zip(new, old, strict=True):
                    self.join((target, one), (source, other))
            else:
                self.keep(source)
                self.keep(target)

    def relate_control(self, op: For | If | While) -> None:
        for position, result in enumerate(op.results):
            values: list[Value] = [result]
            if not isinstance(op, If):
                values.append(op.initial[position])
            for region in op.regions:
                block = region.block
                skipped = len(block.arguments) - len(op.results)
                if block.arguments:
                    values.append(block.arguments[skipped + position])
                ends = block.terminator.operands
                values.append(ends[len(ends) - len(op.results) + position])
            self.equal(*values)

    def is_divisible(self, root: Axis) -> bool:
        """Whether an axis may be split, and leaves enough rows for a warpgroup."""
        value, axis = root
        return root not in self.whole and _shape(value)[axis] >= _LEAST_ROWS * self.count

    # ------------------------------------------------------------ rewriting

    def axes(self, value: Value) -> list[int]:
        """The axes of a value that are split."""
        return [axis for axis in range(_rank(value)) if (value, axis) in self.split]

    def shrink(self, value: Value) -> None:
        kind = value.type
        if isinstance(kind, BlockType):
            shape = list(kind.shape)
            for axis in self.axes(value):
                shape[axis] //= self.count
            value.type = replace(kind, shape=tuple(shape))

    def rewrite(self, op: Operation) -> None:
        """Let an op do its share. Types of values follow at the end."""
        if isinstance(op, Arange) and self.axes(op.results[0]):
            self.shift(op)
        elif isinstance(op, DescriptorAccess):
            self.share(op)
        elif self.is_common_write(op):
            self.do_once(op)

    def is_common_write(self, op: Operation) -> bool:
        """Whether an op writes or prints what all blocks of threads have."""
        writes = isinstance(op, Op) and Effect.WRITE in op.effects
        return (writes or isinstance(op, DevicePrint)) and not any(map(self.axes, op.operands))

    def rank(self, builder: Builder) -> Value:
        return builder.insert(ClusterRank(loc=builder.loc)).result

    def offset(self, builder: Builder, size: int) -> Value:
        """What lies before this block of threads' share of `size` elements."""
        share = builder.constant(size // self.count, i32)
        return builder.insert(Multiply(self.rank(builder), share, loc=builder.loc)).result

    def shift(self, op: Arange) -> None:
        """A range becomes this share of it."""
        builder = Builder.before(op)
        size = op.end - op.start
        kind = BlockType((size // self.count,), i32)
        part = Arange(op.start, op.start + size // self.count, loc=op.loc, result_types=[kind])
        made = builder.insert(part).result
        start = builder.splat(self.offset(builder, size), kind)
        op.replace_with([builder.insert(Add(made, start, loc=op.loc)).result])

    def share(self, op: DescriptorAccess) -> None:
        """A copy moves this share of the block."""
        # What is loaded, or the last operand: what is stored.
        block: Value = op.results[0] if isinstance(op, DescriptorLoad) else op.operands[-1]
        axes = self.axes(block)
        made = op.descriptor.owner
        assert isinstance(made, MakeTensorDescriptor)
        if not axes:
            if not isinstance(op, DescriptorLoad):
                self.do_once(op)
            return
        sizes = list(made.block_shape)
        builder = Builder.before(op)
        indices = list(op.indices)
        for axis in axes:
            before = self.offset(builder, sizes[axis])
            indices[axis] = builder.insert(Add(indices[axis], before, loc=op.loc)).result
            sizes[axis] //= self.count
        attributes = {**made.attributes, "block_shape": tuple(sizes)}
        assert made.parent is not None
        behind = Builder(made.parent, made.parent.ops.index(made) + 1, made.loc)
        smaller = behind.insert(
            MakeTensorDescriptor(made.pointer, made.shape, made.strides, **attributes, loc=made.loc)
        )
        op.set_operand(0, smaller.result)
        for position, index in enumerate(indices):
            op.set_operand(1 + position, index)

    def do_once(self, op: Operation) -> None:
        """Let only the first block of threads write what all of them have."""
        assert op.parent is not None
        builder = Builder.before(op)
        zero = builder.constant(0, i32)
        rank = self.rank(builder)
        is_first = builder.insert(Compare(rank, zero, predicate="eq", loc=op.loc)).result
        then, otherwise = Region(Block()), Region(Block())
        op.detach()
        then.block.append(op)
        for region in (then, otherwise):
            region.block.append(Yield((), loc=op.loc))
        builder.insert(If(is_first, loc=op.loc, result_types=[], regions=[then, otherwise]))


def _shape(value: Value) -> tuple[int, ...]:
    return value.type.shape if isinstance(value.type, BlockType) else ()


def _rank(value: Value) -> int:
    return len(_shape(value))
