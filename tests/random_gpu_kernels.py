"""Random kernels for GPUs: those of the CPU's tests, with blocks of powers of two, arrays that do
not overlap, and a barrier wherever a thread may read what another one has written.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any
from unittest import mock

import numpy as np

from blocklang import compile as pipeline
from blocklang.codegen.targets import gpu_target
from blocklang.ir.core import Module, Value
from blocklang.ir.evaluate import evaluate
from blocklang.ir.ops.shape import Broadcast, ExpandDims
from blocklang.ir.ops.shared import Barrier
from blocklang.ir.parser import parse
from blocklang.ir.printer import print_module
from blocklang.ir.types import BlockType, element_type, i1, shape_of
from blocklang.options import Options
from tests.property import test_cpu_programs as programs

SIZE = programs.SIZE
SHAPES = [(1,), (2,), (16,), (64,), (256,), (4, 8), (8, 64), (64, 4), (1, 32), (2, 4, 16), (32, 16)]


class Generator(programs.Generator):
    """Writes one random kernel for one program."""

    def __init__(self, random: Random) -> None:
        with mock.patch.object(programs, "SHAPES", SHAPES):
            super().__init__(random)

    def index(self, shape: tuple[int, ...]) -> Value:
        for argument in self.kernel.block.arguments[:3]:
            argument.facts["divisible"] = 16
        return super().index(shape)

    def store(self) -> None:
        self.builder.insert(Barrier(loc=self.location()))
        super().store()
        self.builder.insert(Barrier(loc=self.location()))

    def atomic(self) -> Value | None:
        self.builder.insert(Barrier(loc=self.location()))
        old = super().atomic()
        self.builder.insert(Barrier(loc=self.location()))
        return old

    def stretch(self) -> Value:
        value = self.pick(*programs.NUMBERS, i1)
        shape = shape_of(value.type)
        if not shape:
            kind = BlockType(self.random.choice(SHAPES), element_type(value.type))
            return self.builder.splat(value, kind)
        axis = self.random.randint(0, len(shape))
        value = self.insert(ExpandDims, value, axis)
        assert isinstance(value.type, BlockType)
        if len(shape) > 2 or value.type.size > 1000:
            return value
        size = self.random.choice([1, 2, 4])
        target = BlockType((*shape[:axis], size, *shape[axis:]), element_type(value.type))
        return self.insert(Broadcast, value, result_types=[target])


@dataclass(frozen=True)
class Program:
    """A random kernel, what it is launched with, and what that must leave in its arrays."""

    seed: int
    module: Module
    num_warps: int
    arguments: tuple[Any, ...]
    expected: tuple[np.ndarray, ...]

    def compile(self, target: str) -> dict[str, bytes]:
        """The files of the compiled kernel."""
        copy = parse(print_module(self.module))
        return pipeline.compile_module(copy, gpu_target(target), Options(self.num_warps))


def program(seed: int) -> Program:
    """The random program of that number."""
    random = Random(seed)
    module = Generator(random).module
    floats = np.array([random.randint(-8, 8) for _ in range(2 * SIZE)], np.float32)
    integers = np.array([random.randint(-600, 600) for _ in range(SIZE)], np.int32)
    bound = random.choice([0, 1, 16, 50, 100, 256, 1000])
    arguments = (floats[:SIZE].copy(), floats[SIZE:].copy(), integers, bound)
    expected = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
    with np.errstate(all="ignore"):
        evaluate(module, expected, (1,))
    return Program(seed, module, random.choice([1, 2, 4, 8]), arguments, tuple(expected[:3]))
