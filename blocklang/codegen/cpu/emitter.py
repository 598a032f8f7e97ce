"""Writes the LLVM IR of a kernel for CPUs: the state, loops, and values chunk by chunk.

Inside a nest a block value is computed for one chunk at a time: `width` elements along the nest's
vector dimension, one along the others. What stands for them is a `Lanes`: one scalar if all are
equal or evenly spaced, a vector otherwise. `evaluate` computes a value at a place (one
`Coordinate` for each dimension) from its operands at theirs; lowerings of elementwise ops are
shared with GPUs and see either scalars or vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy

from blocklang.codegen.emit import Emitter
from blocklang.codegen.errors import NotOnTarget
from blocklang.codegen.lower import find_lowering
from blocklang.codegen.targets import CpuTarget
from blocklang.ir.core import Result, Value
from blocklang.ir.op import Op
from blocklang.ir.ops.debug import DeviceAssert
from blocklang.ir.ops.elementwise import And, Elementwise
from blocklang.ir.ops.program import Constant, Hint, Splat
from blocklang.ir.types import BlockType, DType, PointerType, Type, element_type, u16, with_element

from .places import ZERO, Place
from .plan import Buffer, Control
from .strides import Strides, elementwise_stride


@dataclass(frozen=True)
class Coordinate:
    """The indices of a chunk along dimension `dimension` of the nest: `base` (an i64), `base` +
    `step`, ....
    """

    dimension: int
    base: str
    step: int


@dataclass(frozen=True)
class Lanes:
    """The elements of a chunk: element i is `text` + i * `stride`; with stride None `text` is a
    vector. Pointers are counted in what they point to.
    """

    text: str
    stride: int | None = None

    @property
    def is_uniform(self) -> bool:
        """Whether all elements are equal."""
        return self.stride == 0


def uniform(text: str) -> Lanes:
    """Lanes that are all `text`."""
    return Lanes(text, 0)


ReadBuffer = Callable[["CpuEmitter", Buffer, Type, Place], Lanes]


class CpuEmitter(Emitter):
    """LLVM IR of one kernel under construction. `read` writes the load of a value from its buffer.

    `true` are the comparisons, with the dimensions at which they are needed, that hold for every
    element of the chunks now written.
    """

    def __init__(
        self,
        target: CpuTarget,
        strides: Strides,
        buffers: Mapping[Value, Buffer],
        controls: Mapping[Op, Control],
        read: ReadBuffer,
        contract: bool = True,
    ) -> None:
        super().__init__(target, contract)
        self.cpu = target
        self.strides = strides
        self.buffers = buffers
        self.controls = controls
        self.read = read
        self.slots: list[str] = []
        self.globals: list[str] = []
        self.asserts: list[DeviceAssert] = []
        self.addresses: dict[Buffer, str] = {}
        self.width = 1
        self.place: Place = ()
        self.reads: Mapping[Value, Buffer] = {}
        self.work: Sequence[Buffer] = ()
        self.true: frozenset[tuple[Value, tuple[int, ...]]] = frozenset()
        self.memo: dict[tuple[Value, Place], Lanes] = {}
        self._vectors = False
        self._scalars_too = False

    # ------------------------------------------------------------ vectors

    def lanes(self, type: Type) -> int | None:
        if not self._vectors:
            return None
        return self.width if self._scalars_too or isinstance(type, BlockType) else None

    @contextmanager
    def vectors(self, on: bool = True, scalars_too: bool = False) -> Iterator[None]:
        """Blocks are vectors of `width` elements inside (or scalars, with `on` False); with
        `scalars_too` everything is.
        """
        before = self._vectors, self._scalars_too
        self._vectors, self._scalars_too = on, scalars_too
        try:
            yield
        finally:
            self._vectors, self._scalars_too = before

    def vector_type(self, type: Type) -> str:
        """The LLVM vector type of a chunk of `type`."""
        return f"<{self.width} x {self.scalar_type(type)}>"

    def vector(self, lanes: Lanes, type: Type) -> str:
        """The elements of a chunk as a vector."""
        if lanes.stride is None:
            return lanes.text
        kind = self.scalar_type(type)
        if not lanes.text.startswith("%"):
            if lanes.stride:
                return self._steps(kind, lanes.stride, int(lanes.text))
            return f"splat ({kind} {lanes.text})"
        vector = self.vector_type(type)
        element = element_type(type)
        if lanes.stride and isinstance(element, PointerType):
            steps = self._steps("i64", lanes.stride)
            size = self.memory_type(element.element)
            return self.emit(
                f"getelementptr {size}, ptr {lanes.text}, <{self.width} x i64> {steps}"
            )
        first = self.emit(f"insertelement {vector} poison, {kind} {lanes.text}, i32 0")
        zeros = f"<{self.width} x i32> zeroinitializer"
        text = self.emit(f"shufflevector {vector} {first}, {vector} poison, {zeros}")
        if lanes.stride:
            text = self.emit(f"add {vector} {text}, {self._steps(kind, lanes.stride)}")
        return text

    def _steps(self, kind: str, stride: int, start: int = 0) -> str:
        return "<" + ", ".join(f"{kind} {start + i * stride}" for i in range(self.width)) + ">"

    def scalar_type(self, type: Type) -> str:
        kind = super().scalar_type(type)
        has_type = kind not in ("half", "bfloat") or (kind == "half" and self.cpu.has_float16)
        # Without instructions for them LLVM may call a library for merely moving narrow floats.
        return kind if has_type else "i16"

    def constant(self, value: float, type: Type) -> str:
        element = element_type(type)
        if self.scalar_type(type) == "i16" and isinstance(element, DType) and element.is_float:
            bits = numpy.asarray(value, element.numpy).view(numpy.uint16)
            return super().constant(int(bits), with_element(type, u16))
        return super().constant(value, type)

    def memory_type(self, type: Type) -> str:
        """The LLVM type of one element in memory: an i1 takes a byte, and integers of 16 bits have
        masked accesses where floats have none.
        """
        kind = self.scalar_type(type)
        return {"i1": "i8", "half": "i16"}.get(kind, kind)

    # ------------------------------------------------------------ code

    def slot(self, kind: str) -> str:
        """Memory for one value of LLVM type `kind`; LLVM turns it into registers."""
        name = self.fresh()
        self.slots.append(f"  {name} = alloca {kind}")
        return name

    def jump(self, label: str) -> None:
        """End the basic block with a jump, and start the one it jumps to."""
        self.line(f"br label %{label}")
        self.label(label)

    @contextmanager
    def loop(self, start: str, stop: str, step: int, kind: str = "i64") -> Iterator[str]:
        """A loop over start, start + step, ... below `stop` (unsigned); gives the index."""
        header, body, end = (self.new_label(name) for name in ("loop", "body", "end"))
        before = self.block_label
        self.jump(header)
        index = self.fresh()
        position = len(self.lines)
        self.lines.append("")
        more = self.emit(f"icmp ult {kind} {index}, {stop}")
        self.line(f"br i1 {more}, label %{body}, label %{end}")
        self.label(body)
        yield index
        following = self.emit(f"add nuw nsw {kind} {index}, {step}")
        self.lines[position] = (
            f"  {index} = phi {kind} [ {start}, %{before} ], [ {following}, %{self.block_label} ]"
        )
        self.line(f"br label %{header}")
        self.label(end)

    @contextmanager
    def when(self, condition: str) -> Iterator[None]:
        """Code that runs if `condition` holds."""
        then, end = self.new_label("then"), self.new_label("endif")
        self.line(f"br i1 {condition}, label %{then}, label %{end}")
        self.label(then)
        yield
        self.jump(end)

    def choose(
        self, condition: str, then: Callable[[], str], otherwise: Callable[[], str], kind: str
    ) -> str:
        """The value of LLVM type `kind` that one of two pieces of code computes."""
        labels = [self.new_label(name) for name in ("then", "otherwise")]
        end = self.new_label("endif")
        self.line(f"br i1 {condition}, label %{labels[0]}, label %{labels[1]}")
        made = []
        for label, compute in zip(labels, (then, otherwise), strict=True):
            self.label(label)
            made.append(f"[ {compute()}, %{self.block_label} ]")
            self.line(f"br label %{end}")
        self.label(end)
        return self.emit(f"phi {kind} {', '.join(made)}")

    def address(self, buffer: Buffer) -> str:
        """Where a buffer begins."""
        buffer = buffer.storage
        if buffer in self.addresses:
            return self.addresses[buffer]
        return self.emit(f"getelementptr i8, ptr %scratch, i64 {buffer.offset}")

    def global_string(self, text: str) -> str:
        """The name of a constant that holds `text`, ended by a zero."""
        data = text.encode() + b"\0"
        escaped = "".join(
            chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\{b:02X}" for b in data
        )
        name = f"@text{len(self.globals)}"
        kind = f"[{len(data)} x i8]"
        self.globals.append(f'{name} = private constant {kind} c"{escaped}"')
        return name

    # ------------------------------------------------------------ values

    def scalar_op(self, op: Op) -> None:
        """An op on scalars, in straight-line code."""
        with self.vectors(False):
            self.op(op)

    def evaluate(self, value: Value, place: Place) -> Lanes:
        """The elements of `value` at `place`."""
        if not isinstance(value.type, BlockType):
            return uniform(self.names[value])
        key = value, place
        if key not in self.memo:
            self.memo[key] = self._compute(value, place)
        return self.memo[key]

    def _compute(self, value: Value, place: Place) -> Lanes:
        if value in self.reads:
            return self.read(self, self.reads[value], value.type, place)
        assert isinstance(value, Result), f"{value} is not in a buffer"
        if (value, dimensions(place)) in self.true:
            return uniform("true")
        op = value.op
        assert isinstance(op, Op)
        if isinstance(op, Elementwise | Constant | Splat | Hint):
            return self._elementwise(op, place)
        before, self.place = self.place, place
        lowering = find_lowering(self.target, type(op))
        if lowering is None:
            raise NotOnTarget(op.loc, what=f"`{op.mnemonic}`", target=self.target.name)
        result = lowering.function(self, op)
        self.place = before
        assert isinstance(result, Lanes)
        return result

    def _elementwise(self, op: Op, place: Place) -> Lanes:
        operands = [self.evaluate(v, place) for v in op.operands]
        if isinstance(op, And) and uniform("true") in operands:
            return operands[1 - operands.index(uniform("true"))]
        stride = 0
        if operands and isinstance(op, Elementwise | Hint):
            known = [o.stride for o in operands]
            if None in known:
                return self._on_vectors(op, operands)
            found = elementwise_stride(op, [s for s in known if s is not None])
            if not isinstance(found, int):
                return self._on_vectors(op, operands)
            stride = found
        with self.vectors(False):
            return Lanes(self.apply(op, [o.text for o in operands]), stride)

    def _on_vectors(self, op: Op, operands: Sequence[Lanes]) -> Lanes:
        texts = [self.vector(o, v.type) for o, v in zip(operands, op.operands, strict=True)]
        with self.vectors():
            return Lanes(self.apply(op, texts))

    def apply(self, op: Op, operands: Sequence[str]) -> str:
        """Lower `op` on operands that are LLVM values of the present kind."""
        before = {v: self.names.get(v) for v in op.operands}
        self.names.update(zip(op.operands, operands, strict=True))
        self.op(op)
        for value, name in before.items():
            if name is not None:
                self.names[value] = name
        return self.names[op.results[0]]


def dimensions(place: Place) -> tuple[int, ...]:
    """The dimension of the nest behind each index of a place; -1 for dimensions of size 1."""
    return tuple(-1 if c is ZERO else c.dimension for c in place)
