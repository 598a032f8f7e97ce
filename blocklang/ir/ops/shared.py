"""Shared memory, explicit after `lower_conversions`: buffers, accesses, barriers."""

from __future__ import annotations

from blocklang.ir.core import Value
from blocklang.ir.op import Effect, Op, attribute, operand, output, require
from blocklang.ir.types import BlockType, SharedType, Type


class SharedAlloc(Op, mnemonic="shared_alloc", effects=Effect.OBSERVABLE):
    """A buffer of its own in shared memory.

    `offset` is its first byte, -1 until `allocate_shared` has placed it.
    """

    offset: int = attribute(default=-1)
    result = output()

    def check(self) -> None:
        require(isinstance(self.results[0].type, SharedType), "the result is a shared buffer")


class SharedAccess(Op):
    """Base of stores and loads of a whole block; `vector` elements go at once."""

    buffer: Value = operand()
    vector: int = attribute(default=1)

    def check_types(self, block: Type) -> None:
        """Buffer and block have one shape and element type."""
        kind = self.buffer.type
        require(
            isinstance(kind, SharedType) and isinstance(block, BlockType), "a buffer and a block"
        )
        assert isinstance(kind, SharedType)
        assert isinstance(block, BlockType)
        require(
            (kind.shape, kind.element) == (block.shape, block.element), "buffer and block agree"
        )


class SharedStore(SharedAccess, mnemonic="shared_store", effects=Effect.WRITE_SHARED):
    """Writes a block to a buffer; of replicated elements one owner writes."""

    value: Value = operand(kw_only=True)

    def check(self) -> None:
        self.check_types(self.value.type)


class SharedLoad(SharedAccess, mnemonic="shared_load", effects=Effect.READ_SHARED):
    """Reads a block from a buffer."""

    result = output()

    def check(self) -> None:
        self.check_types(self.results[0].type)


class Barrier(Op, mnemonic="barrier", effects=Effect.SYNCHRONIZE):
    """All threads of the program wait for each other; shared memory written before is seen
    after.
    """
