"""Random functions on block IR for the property tests of passes: arithmetic of all dtypes, shapes,
memory and control flow, rich in what rewrite rules look for, and free of undefined behaviour.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import numpy

from blocklang.ir.builder import Builder
from blocklang.ir.core import Module, Region, Value
from blocklang.ir.location import Location
from blocklang.ir.op import Op
from blocklang.ir.ops import elementwise as ops
from blocklang.ir.ops.control import For, If, Yield
from blocklang.ir.ops.dot import Dot
from blocklang.ir.ops.memory import AtomicRMW, Load, Store
from blocklang.ir.ops.shape import Broadcast, ExpandDims, Permute, Reshape
from blocklang.ir.types import (
    DTYPES,
    BlockType,
    DType,
    PointerType,
    Type,
    block_or_scalar,
    element_type,
    f8e4m3,
    f8e5m2,
    f16,
    f32,
    i1,
    i8,
    i32,
    i64,
    shape_of,
    u8,
    with_element,
)
from blocklang.ir.verify import verify
from tests.ir_modules import PLACE, module_of

SIZE = 4
KINDS = [i1, i8, u8, i32, i64, f16, f32]
PARAMETERS: list[Type] = [
    i32, f32, i1,
    *(BlockType((SIZE,), d) for d in (i32, u8, f32, f16, i1)),
    PointerType(i32),
]  # fmt: skip
ARITHMETIC = [ops.Add, ops.Subtract, ops.Multiply, ops.Minimum, ops.Maximum]
BITS = [ops.And, ops.Or, ops.Xor]
PREDICATES = ["eq", "ne", "lt", "le", "gt", "ge"]
NUMBERS = [0.0, -0.0, 0, 1, 1.0, -1, 2, 3.5, 100, -7, 8]


class Author:
    """Writes one function; `pool` are the values at hand."""

    def __init__(self, seed: int, steps: int = 14) -> None:
        self.random = Random(seed)
        self.steps = steps
        self.lines = 0
        self.pool: list[Value] = []
        self.actions: list[Callable[[], Any]] = [
            self.constant, self.constant, self.arithmetic, self.arithmetic, self.arithmetic,
            self.division, self.shift, self.unary, self.unary, self.compare, self.compare,
            self.select, self.cast, self.cast, self.splat, self.splat, self.rearrange, self.load,
            self.product, self.store, self.atomic, self.branch, self.loop,
        ]  # fmt: skip

    def module(self) -> Module:
        """The function `sample`, which returns some of its values."""
        made = module_of(PARAMETERS, self.body)
        verify(made)
        return made

    def body(self, builder: Builder, *parameters: Value) -> list[Value]:
        self.builder = builder
        self.pool = list(parameters)
        self.act(self.steps)
        numbers = [v for v in self.pool if isinstance(element_type(v.type), DType)]
        return self.random.sample(numbers, 5)

    def act(self, steps: int) -> None:
        for _ in range(steps):
            self.random.choice(self.actions)()

    def insert(self, op: Op) -> Value | None:
        """Append an op; every op has a line of its own."""
        self.lines += 1
        op.loc = Location("random.bl", self.lines, 1, self.lines, 2)
        self.builder.insert(op)
        self.pool += op.results
        return op.results[0] if op.results else None

    def pick(self, accept: Callable[[Value], bool]) -> Value | None:
        """Any value at hand that is accepted, rather a new one."""
        found = [v for v in self.pool if accept(v)]
        return (
            self.random.choice(found[-5:] if self.random.random() < 0.6 else found)
            if found
            else None
        )

    def pick_number(self) -> Value:
        value = self.pick(lambda v: isinstance(element_type(v.type), DType))
        assert value is not None
        return value

    def pick_like(self, value: Value) -> Value:
        """A value of the same type: constants are as likely as others."""
        if self.random.random() < 0.4:
            return self.constant_of(value.type)
        return self.pick(lambda v: v.type == value.type) or value

    def constant_of(self, type: Type, number: float | None = None) -> Value:
        chosen = self.random.choice(NUMBERS) if number is None else number
        made = self.builder.constant(chosen, type)
        self.pool.append(made)
        return made

    def constant(self) -> None:
        kind = self.random.choice(KINDS)
        self.constant_of(block_or_scalar(self.random.choice([(), (SIZE,)]), kind))

    def arithmetic(self) -> None:
        left = self.pick_number()
        right = self.pick_like(left)
        if self.random.random() < 0.5:
            left, right = right, left
        if self.random.random() < 0.1:
            right = left
        kind = element_type(left.type)
        assert isinstance(kind, DType)
        op: Any = self.random.choice(ARITHMETIC + ([] if kind.is_float else BITS))
        self.insert(op(left, right, loc=PLACE))

    def division(self) -> None:
        left = self.pick_number()
        right = self.constant_of(left.type, self.random.choice([1, 2, 3, 8]))
        op: Any = self.random.choice([ops.Divide, ops.Remainder])
        if element_type(left.type) is not i1:
            self.insert(op(left, right, loc=PLACE))

    def shift(self) -> None:
        left = self.pick_number()
        kind = element_type(left.type)
        if isinstance(kind, DType) and kind.is_integer and kind is not i1:
            op: Any = self.random.choice([ops.ShiftLeft, ops.ShiftRight])
            amount = self.constant_of(left.type, self.random.choice([0, 1, 3]))
            self.insert(op(left, amount, loc=PLACE))

    def unary(self) -> None:
        operand = self.pick_number()
        kind = element_type(operand.type)
        assert isinstance(kind, DType)
        choice: list[Any] = [ops.Negate, ops.Absolute, *([] if kind.is_float else [ops.Not])]
        op = self.random.choice(choice)
        result = self.insert(op(operand, loc=PLACE))
        if self.random.random() < 0.3:
            self.insert(op(result, loc=PLACE))

    def compare(self) -> None:
        left = self.pick_number()
        right = left if self.random.random() < 0.1 else self.pick_like(left)
        if self.random.random() < 0.5:
            left, right = right, left
        predicate = self.random.choice(PREDICATES)
        result = self.insert(ops.Compare(left, right, predicate, loc=PLACE))
        if self.random.random() < 0.3:
            assert result is not None
            self.insert(ops.Not(result, loc=PLACE))

    def condition(self, like: Value) -> Value:
        type = with_element(like.type, i1)
        known = self.random.random() < 0.4
        return (None if known else self.pick(lambda v: v.type == type)) or self.constant_of(type)

    def select(self) -> None:
        then = self.pick_number()
        condition, otherwise = self.condition(then), self.pick_like(then)
        self.insert(ops.Select(condition, then, otherwise, loc=PLACE))

    def cast(self) -> None:
        operand = self.pick_number()
        for _ in range(self.random.choice([1, 1, 2])):
            source = element_type(operand.type)
            assert isinstance(source, DType)
            # Floats that fit no integer have no defined value.
            targets = [d for d in DTYPES.values() if d.is_float or d is i1 or not source.is_float]
            target = self.random.choice([d for d in targets if not d.is_float8])
            type = with_element(operand.type, target)
            rounding = self.random.choice(["rtne", "rtz"])
            made = self.insert(ops.Cast(operand, rounding, loc=PLACE, result_types=[type]))
            assert made is not None
            operand = made

    def splat(self) -> None:
        scalar = self.pick(lambda v: not shape_of(v.type))
        if scalar is not None:
            self.pool.append(
                self.builder.splat(scalar, BlockType((SIZE,), element_type(scalar.type)))
            )

    def rearrange(self) -> None:
        value = self.pick(lambda v: shape_of(v.type) == (SIZE,))
        if value is None:
            return
        element = element_type(value.type)
        row = self.insert(ExpandDims(value, 0, loc=PLACE))
        assert row is not None
        column = self.insert(Permute(row, self.random.choice([(1, 0), (0, 1)]), loc=PLACE))
        assert column is not None
        shape = shape_of(column.type)
        wide = BlockType((shape[0] * (2 if shape[0] == 1 else 1), SIZE), element)
        shaped = self.insert(Broadcast(column, loc=PLACE, result_types=[wide]))
        assert shaped is not None
        if wide.size == SIZE * SIZE:
            return
        flat = BlockType((wide.size,), element)
        self.insert(Reshape(shaped, loc=PLACE, result_types=[flat]))

    def product(self) -> None:
        """A column times a row, exactly: of 8-bit integers added to others, or of 8-bit floats."""
        value = self.pick(lambda v: shape_of(v.type) == (SIZE,) and v.type.element in KINDS)
        if value is None:
            return
        is_integer = element_type(value.type).is_integer
        kinds = [i8] if is_integer else [f8e4m3, f8e5m2]
        factors = []
        for axis in (1, 0):
            type = BlockType((SIZE,), self.random.choice(kinds))
            narrow = self.insert(ops.Cast(value, loc=PLACE, result_types=[type]))
            factors.append(self.insert(ExpandDims(narrow, axis, loc=PLACE)))
        total = BlockType((SIZE, SIZE), i32 if is_integer else f32)
        made = self.insert(Dot(*factors, self.constant_of(total, 0), loc=PLACE))
        if is_integer:
            both = [made, self.pick_like(made)]
            self.random.shuffle(both)
            self.insert(ops.Add(*both, loc=PLACE))

    def pointers(self) -> Value:
        """Pointers to the four elements of the memory, or to the first."""
        base = self.pool[len(PARAMETERS) - 1]
        if self.random.random() < 0.5:
            return base
        block = BlockType((SIZE,), base.type)
        index = self.pick(lambda v: v.type == BlockType((SIZE,), i32))
        assert index is not None
        mask = self.constant_of(index.type, SIZE - 1)
        inside = self.insert(ops.And(index, mask, loc=PLACE))
        assert inside is not None
        made = self.insert(ops.AddPointer(self.builder.splat(base, block), inside, loc=PLACE))
        assert made is not None
        return made

    def load(self) -> None:
        pointer = self.pointers()
        other = self.pick_like(self.constant_of(with_element(pointer.type, i32)))
        mask = self.condition(pointer)
        self.insert(Load(pointer, mask, other=other, loc=PLACE))

    def store(self) -> None:
        pointer = self.pointers()
        value = self.pick_like(self.constant_of(with_element(pointer.type, i32)))
        self.insert(Store(pointer, self.condition(pointer), value=value, loc=PLACE))

    def atomic(self) -> None:
        # The result of a masked element is undefined, so it does not go into the pool.
        pointer = self.pointers()
        value = self.pick_like(self.constant_of(with_element(pointer.type, i32)))
        mask = self.condition(pointer)
        made = AtomicRMW(pointer, mask, value=value, kind="add", loc=PLACE)
        self.insert(made)
        del self.pool[-1]

    def region(self, arguments: list[Type], like: list[Value]) -> Region:
        """A region with some ops that yields values of the types of `like`."""
        region, outer = Region(), list(self.pool)
        self.lines += 1
        loc = Location("random.bl", self.lines, 1, self.lines, 2)
        self.pool += [region.block.add_argument(type, loc) for type in arguments]
        with self.builder.inside(region.block):
            self.act(3)
            self.builder.insert(Yield([self.pick_like(v) for v in like], loc=loc))
        self.pool = outer
        return region

    def branch(self) -> None:
        like = [self.pick_number() for _ in range(2)]
        condition = self.condition(self.constant_of(i1))
        regions = [self.region([], like) for _ in range(2)]
        types = [v.type for v in like]
        self.insert(If(condition, loc=PLACE, result_types=types, regions=regions))

    def loop(self) -> None:
        initial = [self.pick_number() for _ in range(2)]
        lower, upper = self.random.choice([(0, 3), (1, 2), (2, 2), (0, 0), (5, 9)])
        bounds = [self.constant_of(i32, n) for n in (lower, upper, self.random.choice([1, 2]))]
        region = self.region([i32, *(v.type for v in initial)], initial)
        self.insert(For(*bounds, initial, loc=PLACE, regions=[region]))


def inputs(seed: int) -> list[Any]:
    """Arguments for PARAMETERS; the last one is the memory."""
    generator = numpy.random.default_rng(seed)
    special = [0.0, -0.0, 1.5, -2.0, numpy.inf, numpy.nan, 1e-7, 65504.0]

    def number(type: Type) -> Any:
        kind = element_type(type)
        assert isinstance(kind, DType)
        shape = shape_of(type)
        if kind.is_float:
            return generator.choice(special, shape).astype(kind.numpy)
        low = max(int(kind.minimum), -100)
        return generator.integers(low, min(int(kind.maximum), 100) + 1, shape).astype(kind.numpy)

    memory = generator.integers(-9, 9, SIZE).astype(numpy.int32)
    return [*map(number, PARAMETERS[:-1]), memory]
