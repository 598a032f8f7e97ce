"""Matrix products."""

from __future__ import annotations

from typing import Any

from blocklang.frontend.constexpr import Static
from blocklang.frontend.errors.operations import DotAccumulator, UnknownOption
from blocklang.frontend.products import matrix_product
from blocklang.frontend.values import Tensor

from .creation import check_dtype
from .registry import blame, builtin

PRECISIONS = ("tf32", "tf32x3", "ieee")


@builtin
def dot(
    input: Any,
    other: Any,
    acc: Any = None,
    input_precision: Static[str | None] = None,
    allow_tf32: Static[bool | None] = None,
    max_num_imprecise_acc: Static[int | None] = None,
    out_dtype: Static[Any] = None,
) -> Tensor:
    """Return the matrix product of two blocks, plus `acc` if that is given.

    Shapes are (M, K) and (K, N), giving (M, N), or the same with one dimension before, for a batch.
    `input @ other` is the same as `dot(input, other)`.

    Operands are float16, bfloat16, float32, float64, int8 or uint8, both of one dtype, or any two
    8-bit floats. Products are summed in float32, those of float64 in float64, integers in int32;
    `out_dtype`, or the dtype of `acc`, can be float16 for float16 and 8-bit floats. Products of
    float32 are made as `input_precision` says: "tf32" (the default) rounds both factors to 10 bits
    of mantissa (on sm_90a the rest is cut off of what threads put into shared memory),
    "tf32x3" sums three such products and is nearly as exact as float32, "ieee" rounds nothing;
    `allow_tf32=False` is an older spelling of "ieee". `max_num_imprecise_acc` is how many products
    of 8-bit floats GPUs may sum with fewer bits than float32 before they are added to the result.

    Example: `acc = bl.dot(a, b, acc)`
    """
    precision = input_precision
    if precision is None:
        precision = "ieee" if allow_tf32 is False else "tf32"
    if precision not in PRECISIONS:
        raise blame(
            "input_precision",
            UnknownOption(found=precision, option="input precision", choices=", ".join(PRECISIONS)),
        )
    imprecise = 0 if max_num_imprecise_acc is None else max(1, int(max_num_imprecise_acc))
    dtype = None if out_dtype is None else check_dtype(out_dtype, "out_dtype")
    try:
        return matrix_product(
            input, other, acc, precision=precision, max_imprecise=imprecise, out_dtype=dtype
        )
    except DotAccumulator as error:
        raise blame("out_dtype" if acc is None else "acc", error) from None
