"""The registry of lowerings: which function writes LLVM IR for an op, on which back end, for which
dtypes.

    @lowers(Exp2, on=("nvptx",), dtypes=("f32",))
    def _(e: Emitter, op: Exp2) -> str: ...

The registry also answers `is_native`, from which `expand-math` learns what it must rewrite; there
is no other list.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from blocklang.ir.op import Op
from blocklang.ir.types import DType

from .targets import GpuTarget, Target

BACKENDS = ("nvptx", "cpu")


@dataclass(frozen=True)
class Lowering:
    """How an op becomes LLVM IR. `dtypes` limits it to element types (None: any), `capability` to
    GPUs from that one on, `feature` to CPUs that have it (a property of `CpuTarget`).
    """

    function: Callable[..., Any]
    dtypes: tuple[str, ...] | None
    capability: int
    feature: str


_LOWERINGS: dict[tuple[str, type[Op]], list[Lowering]] = {}


def lowers(
    *ops: type[Op],
    on: tuple[str, ...] = BACKENDS,
    dtypes: tuple[str, ...] | None = None,
    capability: int = 0,
    feature: str = "",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a lowering of `ops`. Several may exist for one op if their dtypes differ."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        for op in ops:
            for backend in on:
                _LOWERINGS.setdefault((backend, op), []).append(
                    Lowering(function, dtypes, capability, feature)
                )
        return function

    return register


def find_lowering(target: Target, op: type[Op], dtype: DType | None = None) -> Lowering | None:
    """The lowering of `op` on elements of `dtype` for `target`, or None."""
    capability = target.capability if isinstance(target, GpuTarget) else 1000
    for lowering in _LOWERINGS.get((target.backend, op), ()):
        fits = lowering.dtypes is None or dtype is None or dtype.name in lowering.dtypes
        has_feature = not lowering.feature or getattr(target, lowering.feature, True)
        if fits and has_feature and capability >= lowering.capability:
            return lowering
    return None


def is_native(target: Target, op: type[Op], dtype: DType) -> bool:
    """Whether `target` executes `op` on elements of `dtype` without `expand-math`."""
    return find_lowering(target, op, dtype) is not None
