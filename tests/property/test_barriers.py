"""Random programs on shared memory: barriers are enough, none is idle, and buffers stay whole."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocklang.ir.builder import Builder
from blocklang.ir.core import Function as IRFunction
from blocklang.ir.core import Module, Region, Value
from blocklang.ir.diagnostics import CompileError
from blocklang.ir.layout import LinearLayout
from blocklang.ir.location import SYNTHETIC
from blocklang.ir.op import IRError
from blocklang.ir.ops.control import Condition, For, If, Return, While, Yield
from blocklang.ir.ops.shared import Barrier, SharedAlloc, SharedLoad, SharedStore
from blocklang.ir.passes.allocate_shared import AllocateShared, buffers
from blocklang.ir.passes.insert_barriers import InsertBarriers
from blocklang.ir.passes.prove_barriers import ProveBarriers
from blocklang.ir.printer import print_module
from blocklang.ir.types import BlockType, SharedType, i1, i8, i32

AT: dict[str, Any] = {"loc": SYNTHETIC}
BLOCK = LinearLayout.of([32], register=[], lane=[1, 2, 4, 8, 16], warp=[])
OFFSETS = LinearLayout.of([32], offset=[1, 2, 4, 8, 16])


class Generator:
    """Draws a kernel that stores to some buffers and loads from them, in and around loops."""

    def __init__(self, seed: int, offsets: list[int]) -> None:
        self.random = Random(seed)
        self.module = Module({"stage": "shared"})
        function = self.module.add(IRFunction("k", SYNTHETIC))
        function.attributes["num_warps"] = 1
        self.condition = function.block.add_argument(i1, SYNTHETIC, "c")
        self.bound = function.block.add_argument(i32, SYNTHETIC, "n")
        self.builder = Builder(function.block)
        self.values = {
            kind: self.builder.constant(1, BlockType((32,), kind, BLOCK)) for kind in (i8, i32)
        }
        shared = SharedType((32,), i32, OFFSETS)
        self.buffers = [
            self.builder.insert(SharedAlloc(offset, **AT, result_types=[shared])).result
            for offset in offsets
        ]
        function.attributes["shared_bytes"] = max(offsets) + shared.bytes

    def steps(self, count: int, depth: int = 0) -> None:
        actions = [self.store, self.load, self.store, self.load]
        if depth < 2:
            actions += [self.loop, self.branch, self.repeat]
        for _ in range(count):
            action = self.random.choice(actions)
            if action in (self.store, self.load):
                action(self.random.choice(self.buffers))
            else:
                action(depth)
        if self.random.random() < 0.1:
            self.builder.insert(Barrier(**AT))

    def store(self, buffer: Value) -> None:
        assert isinstance(buffer.type, SharedType)
        value = self.values[buffer.type.element]
        self.builder.insert(SharedStore(buffer, value=value, **AT))

    def load(self, buffer: Value) -> None:
        assert isinstance(buffer.type, SharedType)
        type = self.values[buffer.type.element].type
        self.builder.insert(SharedLoad(buffer, **AT, result_types=[type]))

    def inner(self, depth: int, last: Any) -> Region:
        region = Region()
        with self.builder.inside(region.block):
            self.steps(self.random.randint(0, 3), depth + 1)
            self.builder.insert(last)
        return region

    def loop(self, depth: int) -> None:
        region = self.inner(depth, Yield((), **AT))
        region.block.add_argument(i32, SYNTHETIC)
        self.builder.insert(For(self.bound, self.bound, self.bound, **AT, regions=[region]))

    def repeat(self, depth: int) -> None:
        before = self.inner(depth, Condition(self.condition, (), **AT))
        body = self.inner(depth, Yield((), **AT))
        self.builder.insert(While(**AT, regions=[before, body]))

    def branch(self, depth: int) -> None:
        arms = [self.inner(depth, Yield((), **AT)) for _ in range(2)]
        self.builder.insert(If(self.condition, **AT, result_types=[], regions=arms))

    def finish(self) -> Module:
        self.builder.insert(Return((), **AT))
        return self.module


def barriers(module: Module) -> list[Barrier]:
    return [op for op in module.walk() if isinstance(op, Barrier)]


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 12), st.integers(1, 3))
def test_barriers_are_enough_and_none_is_idle(seed: int, steps: int, count: int) -> None:
    generator = Generator(seed, [0, 128, 256][:count])
    generator.steps(steps)
    module = generator.finish()
    given = set(barriers(module))
    InsertBarriers()(module)
    ProveBarriers()(module)
    for barrier in barriers(module):
        if barrier in given:
            continue
        block, index = barrier.parent, barrier.parent.ops.index(barrier)
        barrier.detach()
        with pytest.raises(CompileError, match="without a barrier"):
            ProveBarriers()(module)
        block.insert(index, barrier)
    again = print_module(module)
    InsertBarriers()(module)
    assert print_module(module) == again


class Conversions(Generator):
    """Draws a kernel that stores to each buffer where it makes it, and loads from it later on."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, [0])
        self.buffers[0].owner.erase()
        self.buffers = []

    def steps(self, count: int, depth: int = 0) -> None:
        visible = list(self.buffers)
        self.make()
        super().steps(count, depth)
        self.buffers = visible

    def make(self) -> None:
        element = self.random.choice([i8, i32])
        shared = SharedType((32,), element, OFFSETS)
        buffer = self.builder.insert(SharedAlloc(**AT, result_types=[shared])).result
        self.buffers.append(buffer)
        super().store(buffer)

    def store(self, buffer: Value) -> None:
        self.make()


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(0, 8))
def test_buffers_that_share_bytes_keep_their_data(seed: int, steps: int) -> None:
    generator = Conversions(seed)
    generator.steps(steps)
    module = generator.finish()
    AllocateShared(spare=0)(module)
    InsertBarriers()(module)
    ProveBarriers()(module)
    found = buffers(module.kernel)
    assert module.kernel.attributes["shared_bytes"] <= sum(max(16, b.bytes) for b in found)
    assert all(b.offset % 16 == 0 for b in found)


def test_overwritten_buffers_are_found() -> None:
    generator = Generator(0, [0, 64])
    first, second = generator.buffers
    for step, buffer in (
        (generator.store, first),
        (generator.store, second),
        (generator.load, first),
    ):
        step(buffer)
    module = generator.finish()
    InsertBarriers()(module)
    with pytest.raises(IRError, match="overwritten"):
        ProveBarriers()(module)
