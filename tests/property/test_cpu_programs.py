"""Random kernels on the CPU do what the reference evaluator does, bit by bit.

Floats are small integers, so that sums are exact in any order. Arrays may overlap, which programs
must not notice: an op acts as a whole before the next one does.
"""

from __future__ import annotations

from random import Random
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocklang.ir.builder import Builder
from blocklang.ir.core import Block, Function, Module, Region, Value
from blocklang.ir.evaluate import evaluate
from blocklang.ir.location import Location
from blocklang.ir.ops.control import Condition, For, If, Return, While, Yield
from blocklang.ir.ops.dot import Dot
from blocklang.ir.ops.elementwise import (
    Add,
    AddPointer,
    And,
    Cast,
    Compare,
    Maximum,
    Minimum,
    Multiply,
    Negate,
    Or,
    Select,
    ShiftRight,
    Subtract,
    Xor,
)
from blocklang.ir.ops.memory import AtomicRMW, Load, Store
from blocklang.ir.ops.program import Arange, ProgramId
from blocklang.ir.ops.reduce import Reduce
from blocklang.ir.ops.shape import Broadcast, ExpandDims, Permute, Reshape
from blocklang.ir.printer import print_module
from blocklang.ir.types import (
    BlockType,
    DType,
    PointerType,
    Type,
    block_or_scalar,
    element_type,
    f32,
    i1,
    i16,
    i32,
    i64,
    shape_of,
    with_element,
)
from blocklang.ir.verify import verify
from tests.cpu_kernels import compile_module, launch

SHAPES = [
    (1,),
    (3,),
    (16,),
    (100,),
    (300,),
    (4, 8),
    (5, 70),
    (64, 3),
    (1, 40),
    (2, 3, 20),
    (33, 17),
]
SIZE = 700
NUMBERS = (f32, i32, i16, i64)


class Generator:
    """Writes one random kernel over three arrays, two of floats and one of integers."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.lines = 0
        self.module = Module()
        self.kernel = self.module.add(Function("random", self.location()))
        pointers = [PointerType(f32), PointerType(f32), PointerType(i32)]
        names = ["x", "y", "k"]
        self.pointers: list[Value] = [
            self.kernel.block.add_argument(t, self.location(), n)
            for t, n in zip(pointers, names, strict=True)
        ]
        bound = self.kernel.block.add_argument(i32, self.location(), "n")
        self.builder = Builder(self.kernel.block, loc=self.location())
        self.values: list[Value] = [bound, self.insert(ProgramId, 0)]
        for shape in random.sample(SHAPES, 2):
            self.values += [self.index(shape), self.load(shape)]
        self.steps(random.randint(3, 14), depth=0)
        self.store()
        self.builder.insert(Return(loc=self.location()))
        verify(self.module)

    def location(self) -> Location:
        """A new line for each op."""
        self.lines += 1
        return Location("random.bl", self.lines, 1, self.lines, 2, "random")

    def insert(self, op: Any, *arguments: Any, **keywords: Any) -> Any:
        """Insert an op; its only result, or the op where it has none or several."""
        made = self.builder.insert(op(*arguments, loc=self.location(), **keywords))
        return made.results[0] if len(made.results) == 1 else made

    def constant(self, value: float, type: Type) -> Value:
        return self.builder.constant(value, type)

    # ------------------------------------------------------------ values

    def pick(self, *elements: DType, shape: tuple[int, ...] | None = None) -> Value:
        """A value of one of the element types, of that shape if one is given."""
        found = [
            v
            for v in self.values
            if element_type(v.type) in elements and (shape is None or shape_of(v.type) == shape)
        ]
        if found and self.random.random() < 0.95:
            return self.random.choice(found)
        kind = self.random.choice(elements)
        target = shape if shape is not None else self.random.choice(SHAPES)
        return self.constant(self.random.randint(-2, 5) & (1 if kind.is_bool else -1),
                             block_or_scalar(target, kind))  # fmt: skip

    def pick_block(self, *elements: DType) -> Value:
        for _ in range(20):
            value = self.pick(*elements)
            if shape_of(value.type):
                return value
        return self.pick(*elements, shape=self.random.choice(SHAPES))

    def index(self, shape: tuple[int, ...]) -> Value:
        """Integers that are affine in the indices of a block."""
        total = None
        for axis, size in enumerate(shape):
            value = self.insert(Arange, 0, size, result_types=[BlockType((size,), i32)])
            for position in range(len(shape)):
                if position != axis:
                    value = self.insert(ExpandDims, value, min(position, len(shape_of(value.type))))
            if shape_of(value.type) != shape:
                value = self.insert(Broadcast, value, result_types=[BlockType(shape, i32)])
            factor = self.random.choice([1, 1, 1, 2, 3, size])
            value = self.insert(Multiply, value, self.constant(factor, value.type))
            total = value if total is None else self.insert(Add, total, value)
        assert total is not None
        return total

    def bounded(self, value: Value, most: float = 500.0) -> Value:
        """Numbers small enough that all sums of them are exact."""
        if element_type(value.type) is not f32:
            return value
        low = self.insert(Maximum, value, self.constant(-most, value.type))
        return self.insert(Minimum, low, self.constant(most, value.type))

    def offsets(self, shape: tuple[int, ...]) -> tuple[Value, Value]:
        """Offsets into an array, and the mask of those that are inside (and some more)."""
        offsets = self.index(shape)
        if self.random.random() < 0.3:
            offsets = self.pick(i32, shape=shape)
            offsets = self.insert(And, offsets, self.constant(511, offsets.type))
        if self.random.random() < 0.5:
            shift = self.constant(self.random.randint(-3, 70), offsets.type)
            offsets = self.insert(Add, offsets, shift)
        inside = self.insert(Compare, offsets, self.constant(SIZE, offsets.type), predicate="lt")
        positive = self.insert(Compare, offsets, self.constant(0, offsets.type), predicate="ge")
        mask = self.insert(And, inside, positive)
        if self.random.random() < 0.4:
            bound = self.builder.splat(self.kernel.arguments[3], offsets.type)
            below = self.insert(
                Compare, self.index(shape), bound, predicate=self.random.choice(["lt", "le"])
            )
            mask = self.insert(And, below, mask)
        if self.random.random() < 0.2:
            mask = self.insert(And, mask, self.pick(i1, shape=shape))
        return offsets, mask

    def address(self, array: Value, offsets: Value) -> Value:
        splat = self.builder.splat(array, with_element(offsets.type, array.type))
        return self.insert(AddPointer, splat, offsets)

    def load(self, shape: tuple[int, ...]) -> Value:
        offsets, mask = self.offsets(shape)
        array = self.random.choice(self.pointers)
        kind = array.type.element
        other = self.pick(kind, shape=shape)
        return self.insert(Load, self.address(array, offsets), mask, other=other)

    def store(self) -> None:
        array = self.random.choice(self.pointers)
        kind = array.type.element
        value = self.bounded(self.pick_block(kind))
        # Two elements at one address may be written in any order.
        shape = shape_of(value.type)
        flat = (int(numpy.prod(shape)),)
        line = self.insert(Arange, 0, flat[0], result_types=[BlockType(flat, i32)])
        offsets = self.insert(Reshape, line, result_types=[BlockType(shape, i32)])
        if self.random.random() < 0.5:
            offsets = self.row_major(shape)
        start = self.constant(self.random.choice([0, 0, 1, 5]), offsets.type)
        offsets = self.insert(Add, offsets, start)
        mask = self.insert(Compare, offsets, self.constant(SIZE, offsets.type), predicate="lt")
        if self.random.random() < 0.5:
            bound = self.builder.splat(self.kernel.arguments[3], offsets.type)
            mask = self.insert(And, mask, self.insert(Compare, offsets, bound, predicate="le"))
        self.insert(Store, self.address(array, offsets), mask, value=value)

    def row_major(self, shape: tuple[int, ...]) -> Value:
        total, stride = None, 1
        for axis in reversed(range(len(shape))):
            size = shape[axis]
            value = self.insert(Arange, 0, size, result_types=[BlockType((size,), i32)])
            value = self.insert(Multiply, value, self.constant(stride, value.type))
            for position in range(len(shape)):
                if position != axis:
                    value = self.insert(ExpandDims, value, min(position, len(shape_of(value.type))))
            value = self.insert(Broadcast, value, result_types=[BlockType(shape, i32)])
            total = value if total is None else self.insert(Add, total, value)
            stride *= size
        assert total is not None
        return total

    # ------------------------------------------------------------ steps

    def steps(self, count: int, depth: int) -> None:
        kinds = [self.arithmetic] * 6 + [self.compare, self.select, self.convert, self.reshape,
                 self.transpose, self.stretch, self.reduce, self.reduce, self.first, self.product,
                 self.product, self.more, self.store, self.atomic]  # fmt: skip
        if depth < 2:
            kinds += [self.loop, self.branch, self.repeat]
        for _ in range(count):
            self.depth = depth
            made = self.random.choice(kinds)()
            if isinstance(made, Value):
                self.values.append(made)

    def more(self) -> Value:
        return self.load(self.random.choice(SHAPES))

    def arithmetic(self) -> Value:
        left = self.pick(*NUMBERS)
        right = self.pick(element_type(left.type), shape=shape_of(left.type))
        ops = [Add, Subtract, Maximum, Minimum, Negate]
        if element_type(left.type) is not f32:
            ops += [Multiply, And, Or, Xor, ShiftRight]
        op = self.random.choice(ops)
        if op is Negate:
            return self.insert(Negate, left)
        if op is ShiftRight:
            right = self.constant(self.random.randint(0, 7), left.type)
        return self.bounded(self.insert(op, left, right))

    def compare(self) -> Value:
        left = self.pick(*NUMBERS)
        right = self.pick(element_type(left.type), shape=shape_of(left.type))
        return self.insert(Compare, left, right, predicate=self.random.choice(["lt", "ge", "ne"]))

    def select(self) -> Value:
        then = self.pick(*NUMBERS)
        shape = shape_of(then.type)
        otherwise = self.pick(element_type(then.type), shape=shape)
        return self.insert(Select, self.pick(i1, shape=shape), then, otherwise)

    def convert(self) -> Value:
        value = self.pick(f32, i32, i16, i1)
        target = self.random.choice(NUMBERS)
        return self.bounded(
            self.insert(Cast, value, result_types=[with_element(value.type, target)])
        )

    def reshape(self) -> Value:
        value = self.pick_block(*NUMBERS)
        size = value.type.size
        sizes = [(size,), (1, size), (size, 1)]
        sizes += [(n, size // n) for n in range(2, 9) if size % n == 0]
        shape = self.random.choice(sizes)
        return self.insert(
            Reshape, value, result_types=[BlockType(shape, element_type(value.type))]
        )

    def transpose(self) -> Value:
        value = self.pick_block(*NUMBERS, i1)
        order = list(range(len(shape_of(value.type))))
        self.random.shuffle(order)
        return self.insert(Permute, value, tuple(order))

    def stretch(self) -> Value:
        value = self.pick(*NUMBERS, i1)
        shape = shape_of(value.type)
        if not shape:
            return self.builder.splat(
                value, BlockType(self.random.choice(SHAPES), element_type(value.type))
            )
        axis = self.random.randint(0, len(shape))
        value = self.insert(ExpandDims, value, axis)
        size = self.random.choice([1, 2, 5])
        if len(shape) > 2 or value.type.size > 1000:
            return value
        target = BlockType((*shape[:axis], size, *shape[axis:]), element_type(value.type))
        return self.insert(Broadcast, value, result_types=[target])

    def reduce(self) -> Value:
        value = self.pick_block(*NUMBERS)
        kind = element_type(value.type)
        region = Region()
        left, right = (region.block.add_argument(kind, self.location()) for _ in range(2))
        op = self.random.choice([Add, Maximum, Minimum])
        with self.builder.inside(region.block):
            self.insert(Yield, [self.insert(op, left, right)])
        axis = self.random.randrange(len(shape_of(value.type)))
        return self.bounded(self.insert(Reduce, [value], axis, regions=[region]))

    def product(self) -> Value:
        """A block times another one, or itself, transposed; sums of up to 70 products are exact."""
        shape = self.random.choice([shape for shape in SHAPES if len(shape) > 1])
        *batch, m, k = shape
        left, right = (self.pick(f32, shape=shape) for _ in range(2))
        left, right = self.bounded(left, 200.0), self.bounded(right, 200.0)
        order = (*range(len(batch)), len(batch) + 1, len(batch))
        factors = [left, self.insert(Permute, right, order)]
        sizes = (m, m)
        if self.random.random() < 0.3:
            factors, sizes = [self.insert(Permute, left, order), right], (k, k)
        acc = self.pick(f32, shape=(*batch, *sizes))
        if self.random.random() < 0.5:
            return self.bounded(self.dot(factors, acc))
        region = Region()
        _, total = (region.block.add_argument(t, self.location()) for t in (i32, acc.type))
        with self.builder.inside(region.block):
            start = total
            if self.random.random() < 0.5:
                start = self.bounded(self.insert(Add, total, self.constant(1.0, total.type)))
            total = self.dot(factors, start)
            if self.random.random() < 0.3:
                total = self.dot(factors, total)
            if self.random.random() < 0.3:
                total = self.insert(Subtract, total, start)
            self.insert(Yield, [total])
        bounds = [self.constant(n, i32) for n in (0, self.random.randint(0, 2), 1)]
        return self.bounded(self.insert(For, *bounds, [acc], regions=[region]))

    def dot(self, factors: list[Value], acc: Value) -> Value:
        return self.insert(Dot, *factors, acc, self.random.choice(["tf32", "tf32x3", "ieee"]))

    def first(self) -> None:
        """The largest element and the first index that has it."""
        value = self.pick_block(*NUMBERS)
        kind, shape = element_type(value.type), shape_of(value.type)
        places = self.row_major(shape)
        region = Region()
        a, i, b, j = (region.block.add_argument(t, self.location()) for t in (kind, i32, kind, i32))
        with self.builder.inside(region.block):
            more = self.insert(Compare, a, b, predicate="gt")
            equal = self.insert(Compare, a, b, predicate="eq")
            before = self.insert(Compare, i, j, predicate="lt")
            takes = self.insert(Or, more, self.insert(And, equal, before))
            chosen = [self.insert(Select, takes, a, b), self.insert(Select, takes, i, j)]
            self.insert(Yield, chosen)
        axis = self.random.randrange(len(shape))
        made = self.insert(Reduce, [value, places], axis, regions=[region])
        self.values += made.results

    def atomic(self) -> Value | None:
        value = self.pick_block(i32)
        if value.type.size > SIZE:
            return None
        offsets = self.row_major(shape_of(value.type))
        address = self.address(self.pointers[2], offsets)
        return self.insert(AtomicRMW, address, value=value, kind="add")

    # ------------------------------------------------------------ control

    def inside(self, block: Block, yielded: list[Type], arguments: list[Value]) -> list[Value]:
        """Random steps in `block`, and values of the types that it has to yield."""
        outer, self.values = self.values, self.values + arguments
        with self.builder.inside(block):
            self.steps(self.random.randint(1, 5), self.depth + 1)
            found = [self.pick(element_type(t), shape=shape_of(t)) for t in yielded]
        self.values = outer
        return found

    def loop(self) -> None:
        depth = self.depth
        initial = [self.pick(*NUMBERS) for _ in range(self.random.randint(0, 3))]
        types = [v.type for v in initial]
        region = Region()
        arguments: list[Value] = [
            region.block.add_argument(t, self.location()) for t in (i32, *types)
        ]
        yielded = self.inside(region.block, types, arguments)
        with self.builder.inside(region.block):
            self.insert(Yield, yielded)
        bounds = [self.constant(n, i32) for n in (0, self.random.randint(0, 4), 1)]
        made = self.builder.insert(For(*bounds, initial, loc=self.location(), regions=[region]))
        self.values += made.results
        self.depth = depth

    def branch(self) -> None:
        depth = self.depth
        condition = self.insert(
            Compare, self.kernel.arguments[3], self.constant(60, i32), predicate="lt"
        )
        types = [self.pick(*NUMBERS).type for _ in range(self.random.randint(0, 2))]
        regions = [Region(), Region()]
        for region in regions:
            self.depth = depth
            yielded = self.inside(region.block, types, [])
            with self.builder.inside(region.block):
                self.insert(Yield, yielded)
        made = self.builder.insert(
            If(condition, loc=self.location(), result_types=types, regions=regions)
        )
        self.values += made.results
        self.depth = depth

    def repeat(self) -> None:
        depth = self.depth
        initial = [self.constant(0, i32), *(self.pick(*NUMBERS) for _ in range(2))]
        types = [v.type for v in initial]
        before, body = Region(), Region()
        for region in (before, body):
            for type in types:
                region.block.add_argument(type, self.location())
        values = self.inside(before.block, types[1:], list(before.block.arguments[1:]))
        count = before.block.arguments[0]
        with self.builder.inside(before.block):
            more = self.insert(Compare, count, self.constant(2, i32), predicate="lt")
            self.insert(Condition, more, [count, *values])
        self.depth = depth
        values = self.inside(body.block, types[1:], list(body.block.arguments[1:]))
        with self.builder.inside(body.block):
            following = self.insert(Add, body.block.arguments[0], self.constant(1, i32))
            self.insert(Yield, [following, *values])
        made = self.builder.insert(While(initial, loc=self.location(), regions=[before, body]))
        self.values += made.results
        self.depth = depth


def arrays(random: Random) -> list[Any]:
    """Memory for the three arrays, which may overlap, and a bound."""
    numbers = numpy.array([random.randint(-8, 8) for _ in range(3 * SIZE + 64)])
    floats = numbers[: 2 * SIZE + 64].astype(numpy.float32)
    shift = random.choice([SIZE, SIZE, 0, 1, 40, 64])
    integers = numpy.array([random.randint(-600, 600) for _ in range(SIZE)], numpy.int32)
    return [floats, shift, integers, random.choice([0, 1, 16, 50, 100, 257, 1000])]


def run(seed: int) -> None:
    """Generate, run both ways and compare."""
    random = Random(seed)
    generator = Generator(random)
    floats, shift, integers, bound = arrays(random)
    grid = (random.choice([1, 1, 2]),)
    code = compile_module(generator.module)
    memory = []
    for execute in (
        lambda arguments: evaluate(generator.module, arguments, grid),
        lambda arguments: launch(code, grid, arguments),
    ):
        own, whole = floats.copy(), integers.copy()
        with numpy.errstate(all="ignore"):
            execute([own[:SIZE], own[shift : shift + SIZE], whole, bound])
        memory.append((own, whole))
    text = f"seed {seed}\n{print_module(generator.module, False)}\n{code.plan}"
    for expected, found in zip(*memory, strict=True):
        numpy.testing.assert_array_equal(found, expected, text)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_random_kernels(seed: int) -> None:
    run(seed)


@pytest.mark.parametrize("seed", range(3))
def test_fixed_kernels(seed: int) -> None:
    run(seed)
