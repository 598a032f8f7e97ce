"""Global memory: loads, stores, atomics."""

from __future__ import annotations

from blocklang.ir.core import Value
from blocklang.ir.layout import LinearLayout
from blocklang.ir.op import Effect, Op, attribute, operand, output, require
from blocklang.ir.types import PointerType, Type, element_type, i1, shape_of, with_element


class MemoryAccess(Op):
    """Base: one access for each element of `pointer`, where `mask` (an i1, absent: everywhere)
    holds.

    `layout` is the wish of `coalesce`, which `assign_layouts` fulfils and removes. `vector`
    consecutive elements of a thread are accessed as one; `vectorize` sets it from what is known of
    pointer and mask.
    """

    pointer: Value = operand()
    mask: Value | None = operand(optional=True, default=None)
    vector: int = attribute(default=1)
    layout: LinearLayout | None = attribute(default=None)

    @property
    def accessed(self) -> Type:
        """The type of what is loaded or stored."""
        pointer = element_type(self.pointer.type)
        assert isinstance(pointer, PointerType)
        return with_element(self.pointer.type, pointer.element)

    def check(self) -> None:
        pointer = element_type(self.pointer.type)
        require(isinstance(pointer, PointerType), "the first operand is a pointer")
        if self.mask is not None:
            require(
                self.mask.type == with_element(self.pointer.type, i1),
                "the mask has the pointer's shape",
            )
        require(
            self.vector == 1 or bool(shape_of(self.pointer.type)),
            "only blocks are accessed in vectors",
        )


class Load(MemoryAccess, mnemonic="load", effects=Effect.READ):
    """Reads from global memory; where the mask fails the result is `other` (absent: undefined)."""

    other: Value | None = operand(optional=True, default=None)
    cache: str = attribute(default="")  # "", ca, cg, cv
    eviction: str = attribute(default="")  # "", evict_first, evict_last
    volatile: bool = attribute(default=False)
    result = output()

    def infer(self) -> list[Type]:
        return [self.accessed]

    def check(self) -> None:
        super().check()
        if self.other is not None:
            require(self.mask is not None, "`other` needs a mask")
            require(self.other.type == self.accessed, "`other` has the loaded type")


class Store(MemoryAccess, mnemonic="store", effects=Effect.WRITE):
    """Writes `value` to global memory where the mask holds."""

    value: Value = operand(kw_only=True)
    cache: str = attribute(default="")  # "", wb, cg, cs, wt
    eviction: str = attribute(default="")

    def check(self) -> None:
        super().check()
        require(
            self.value.type == self.accessed, "the value has the pointer's element type and shape"
        )


class AtomicRMW(MemoryAccess, mnemonic="atomic_rmw", effects=Effect.READ | Effect.WRITE):
    """Replaces memory by `kind`(memory, value) as one indivisible step and returns the old value
    (undefined where masked).
    """

    value: Value = operand(kw_only=True)
    kind: str = attribute(kw_only=True)  # add
    semantics: str = attribute(default="acq_rel")  # relaxed, acquire, release, acq_rel
    scope: str = attribute(default="gpu")  # cta, gpu, sys
    result = output()

    def infer(self) -> list[Type]:
        return [self.accessed]

    def check(self) -> None:
        super().check()
        require(
            self.value.type == self.accessed, "the value has the pointer's element type and shape"
        )
        require(self.kind in ("add",), f"unknown kind {self.kind}")
