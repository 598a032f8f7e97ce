"""Writes the LLVM IR text of one function: SSA names, types, metadata, and the helpers that
lowerings share.

A scalar is an LLVM scalar; a block is a vector, whose length the back end decides with `lanes`
(registers a thread on GPUs, a chunk of a row on CPUs). Elementwise lowerings know no more than
that, and so serve both.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Sequence

from blocklang.ir.core import Value
from blocklang.ir.diagnostics import located
from blocklang.ir.location import Location
from blocklang.ir.op import Op
from blocklang.ir.types import BlockType, DType, PointerType, Type, element_type

from .debug_info import DebugInfo
from .errors import NotOnTarget
from .lower import find_lowering
from .targets import Target

_SCALARS = {"f16": "half", "bf16": "bfloat", "f32": "float", "f64": "double"}
_SUFFIXES = {scalar: name for name, scalar in _SCALARS.items()} | {"ptr": "p0"}


def overload(scalar: str, lanes: int | None) -> str:
    """The suffix of an intrinsic's name for an LLVM scalar, or vectors of it: `f32`, `v4p0`."""
    suffix = _SUFFIXES.get(scalar, scalar)
    return suffix if lanes is None else f"v{lanes}{suffix}"


class Emitter:
    """LLVM IR of one function under construction. Back ends subclass it."""

    pointer = "ptr"

    def __init__(
        self, target: Target, contract: bool = True, debug: DebugInfo | None = None
    ) -> None:
        self.target = target
        self.lines: list[str] = []
        self.names: dict[Value, str] = {}
        self.counter = 0
        self.block_label = "entry"
        self.contract = contract
        self.debug = debug
        self.location: Location | None = None

    # ------------------------------------------------------------ types

    def lanes(self, type: Type) -> int | None:
        """Length of the vector that stands for a block type; None for scalars."""
        raise NotImplementedError

    def type(self, type: Type) -> str:
        """The LLVM type of an IR type."""
        lanes = self.lanes(type)
        scalar = self.scalar_type(type)
        return scalar if lanes is None else f"<{lanes} x {scalar}>"

    def scalar_type(self, type: Type) -> str:
        """The LLVM type of one element; 8-bit floats are kept as their bits."""
        element = element_type(type)
        if isinstance(element, PointerType):
            return self.pointer
        return _SCALARS.get(element.name, f"i{element.bits}")

    # ------------------------------------------------------------ text

    def fresh(self) -> str:
        """A new SSA name."""
        self.counter += 1
        return f"%v{self.counter}"

    def emit(self, text: str) -> str:
        """An instruction with a result; returns its name."""
        name = self.fresh()
        self.line(f"{name} = {text}")
        return name

    def line(self, text: str) -> None:
        """An instruction without a result."""
        if self.debug is not None and self.location is not None:
            text += f", !dbg !{self.debug.location(self.location)}"
        self.lines.append(f"  {text}")

    def label(self, name: str) -> None:
        """Start the basic block `name`."""
        self.lines.append(f"{name}:")
        self.block_label = name

    def new_label(self, hint: str) -> str:
        """A label that is not used yet."""
        self.counter += 1
        return f"{hint}{self.counter}"

    def __getitem__(self, value: Value) -> str:
        return self.names[value]

    # ------------------------------------------------------------ constants

    def constant(self, value: float, type: Type) -> str:
        """A number as a constant of the LLVM type of `type` (all lanes alike)."""
        element = element_type(type)
        assert isinstance(element, DType)
        text = literal(value, element)
        lanes = self.lanes(type)
        if lanes is None:
            return text
        return f"splat ({self.scalar_type(type)} {text})"

    def splat(self, scalar: str, type: Type) -> str:
        """A vector of the LLVM type of `type` whose lanes are all `scalar`."""
        lanes = self.lanes(type)
        if lanes is None:
            return scalar
        vector, kind = self.type(type), self.scalar_type(type)
        first = self.emit(f"insertelement {vector} poison, {kind} {scalar}, i32 0")
        return self.emit(
            f"shufflevector {vector} {first}, {vector} poison, <{lanes} x i32> zeroinitializer"
        )

    # ------------------------------------------------------------ vectors

    def extract(self, vector: str, type: str, index: int) -> str:
        """Element `index` of a vector of LLVM type `type`."""
        return self.emit(f"extractelement {type} {vector}, i32 {index}")

    def build_vector(self, elements: Sequence[str], scalar: str) -> str:
        """The vector of `elements`, each of LLVM type `scalar`."""
        vector = f"<{len(elements)} x {scalar}>"
        current = "poison"
        for index, element in enumerate(elements):
            current = self.emit(
                f"insertelement {vector} {current}, {scalar} {element}, i32 {index}"
            )
        return current

    def shuffle(self, vector: str, scalar: str, length: int, indices: Sequence[int]) -> str:
        """Elements `indices` of a vector of `length`; the vector itself where that changes
        nothing.
        """
        if list(indices) == list(range(length)):
            return vector
        kind = f"<{length} x {scalar}>"
        mask = ", ".join(f"i32 {i}" for i in indices)
        return self.emit(
            f"shufflevector {kind} {vector}, {kind} poison, <{len(indices)} x i32> <{mask}>"
        )

    def for_each_element(
        self, type: Type, operands: Sequence[str], call: Callable[..., str]
    ) -> str:
        """`call(element, ...)` on each lane; for instructions that have no vector form."""
        lanes = self.lanes(type)
        if lanes is None:
            return call(*operands)
        kind = self.type(type)
        results = [call(*(self.extract(o, kind, i) for o in operands)) for i in range(lanes)]
        return self.build_vector(results, self.scalar_type(type))

    def intrinsic(self, name: str, type: Type, *operands: str) -> str:
        """Calls an LLVM intrinsic that is overloaded on one type, on whole vectors."""
        kind, scalar, lanes = self.type(type), self.scalar_type(type), self.lanes(type)
        full = f"{name}.{overload(scalar, lanes)}"
        flags = "contract " if self.contract and scalar in _SCALARS.values() else ""
        return self.emit(
            f"call {flags}{kind} @{full}({', '.join(f'{kind} {o}' for o in operands)})"
        )

    # ------------------------------------------------------------ ops

    def op(self, op: Op) -> None:
        """Lower one op with the registered lowering."""
        element = element_type(op.operands[0].type) if op.operands else None
        lowering = find_lowering(
            self.target, type(op), element if isinstance(element, DType) else None
        )
        if lowering is None:
            raise NotOnTarget(op.loc, what=f"`{op.mnemonic}` on {element}", target=self.target.name)
        self.location = op.loc
        with located(op.loc):
            result = lowering.function(self, op)
        if isinstance(result, str):
            self.names[op.results[0]] = result
        elif result is not None:
            for value, name in zip(op.results, result, strict=True):
                self.names[value] = name


def literal(value: float, kind: DType) -> str:
    """A number as LLVM writes it: floats as the bits of the exactly equal double (half and bfloat
    as their own bits).
    """
    if kind.is_integer:
        return str(value if not kind.is_bool else {0: "false", 1: "true"}[int(value)])
    if kind.is_float8:
        import numpy

        return str(int(numpy.asarray(value, kind.numpy).view(numpy.uint8)))
    if kind.bits == 16:
        import numpy

        bits = int(numpy.asarray(value, kind.numpy).view(numpy.uint16))
        return f"0x{'H' if kind.name == 'f16' else 'R'}{bits:04X}"
    if kind.bits == 32:
        with contextlib.suppress(OverflowError):
            value = struct.unpack("<f", struct.pack("<f", value))[0]
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


def is_block(value: Value) -> bool:
    """Whether a value is a block (and so a vector in LLVM IR)."""
    return isinstance(value.type, BlockType)
