"""Matrix products of runtime values: what `dot` and the operator `@` check and build."""

from __future__ import annotations

from typing import Any

from blocklang.ir.ops.dot import Dot, accumulators
from blocklang.ir.types import BlockType, DType, i32

from . import emission
from .conversion import tensor
from .errors.operations import DotAccumulator, DotOperands, DotShapes
from .values import Tensor, describe, element_text, known


def matrix_product(
    left: Any,
    right: Any,
    acc: Any = None,
    *,
    precision: str = "tf32",
    max_imprecise: int = 0,
    out_dtype: DType | None = None,
) -> Tensor:
    """`left` x `right` + `acc`, in `out_dtype`, else the dtype of `acc`, else the usual one.

    Raises DotShapes, DotOperands and DotAccumulator.
    """
    left, right = tensor(left, "the left matrix"), tensor(right, "the right matrix")
    shape = _shape(left, right)
    allowed = _accumulators(left, right)
    wanted = acc.dtype if out_dtype is None and isinstance(acc, Tensor) else out_dtype
    dtype = allowed[0] if wanted is None else wanted
    expected = " or ".join(each.language_name for each in allowed)
    operands = f"{element_text(left.dtype)} and {element_text(right.dtype)}"
    if dtype not in allowed:
        raise DotAccumulator(
            what=f"products of {operands} are summed in {expected}, not in {element_text(dtype)}",
            instead=f"sum in {expected}, and convert the result with .to()",
        )
    assert isinstance(dtype, DType)
    total = BlockType(shape, dtype)
    start = known(0, total) if acc is None else acc
    if not isinstance(start, Tensor) or start.type != total:
        raise DotAccumulator(
            what=f"'acc' is {describe(start)}; expected a block {list(shape)} of "
            f"{dtype.language_name}",
            instead=f"start with zeros({shape}, {dtype.language_name})",
        )
    a, b, c = map(emission.ir, (left, right, start))
    op = Dot(a, b, c, precision, max_imprecise, loc=emission.location())
    return emission.emit(op)


def _shape(left: Tensor, right: Tensor) -> tuple[int, ...]:
    """The shape of the product."""
    a, b = left.shape, right.shape
    if len(a) != len(b) or len(a) not in (2, 3):
        problem = "both need two dimensions, or three for a batch of matrices"
        instead = "add dimensions with x[:, None], or reshape()"
    elif a[-1] != b[-2]:
        problem = f"the left one has {a[-1]} columns, and the right one {b[-2]} rows"
        swaps = a[-1] == b[-1]
        instead = "transpose the right one: dot(a, trans(b))" if swaps else "these must be equal"
    elif a[:-2] != b[:-2]:
        problem = f"the batches have {a[0]} and {b[0]} matrices"
        instead = "these must be equal; broadcast_to() repeats the matrices of a batch"
    else:
        return (*a[:-1], b[-1])
    raise DotShapes(left=list(a), right=list(b), problem=problem, instead=instead)


def _accumulators(left: Tensor, right: Tensor) -> tuple[DType, ...]:
    """The dtypes in which the products can be summed."""
    a, b = left.dtype, right.dtype
    both_float8 = all(isinstance(k, DType) and k.is_float8 for k in (a, b))
    if a != i32 and accumulators(a) and (a == b or both_float8):
        return accumulators(a)
    if i32 not in (a, b) and accumulators(a) and accumulators(b):
        instead = f"convert one of them: .to({element_text(a)})"
    else:
        instead = "convert them to floats, or to int8"
    raise DotOperands(left=element_text(a), right=element_text(b), instead=instead)
