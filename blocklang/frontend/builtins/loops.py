"""What `for` loops go over."""

from __future__ import annotations

from typing import Any

from blocklang.frontend.constexpr import Static
from blocklang.frontend.conversion import tensor
from blocklang.frontend.errors.operations import BadStep
from blocklang.frontend.errors.types import WrongArgumentType
from blocklang.frontend.values import Range, Tensor, describe
from blocklang.ir.types import DType

from .registry import blame, blaming, builtin


def _check_bound(value: Any, argument: str) -> Any:
    with blaming(argument):
        bound = tensor(value, "the bound of a range")
        if not isinstance(bound.type, DType) or not bound.type.is_integer:
            raise WrongArgumentType(
                what="the bound of a range",
                expected="an integer scalar",
                found=describe(value),
                instead="use // to divide integers, or .to(int32)",
            )
    if argument == "step" and (value == 0 or (isinstance(value, Tensor) and value.constant == 0)):
        raise blame(argument, BadStep())
    return value


def _range(arg1: Any, arg2: Any, step: Any, **options: Any) -> Range:
    start, end = (0, arg1) if arg2 is None else (arg1, arg2)
    _check_bound(start, "arg1")
    _check_bound(end, "arg1" if arg2 is None else "arg2")
    _check_bound(1 if step is None else step, "step")
    return Range(start, end, 1 if step is None else step, **options)


@builtin(name="range")
def range_(
    arg1: Any,
    arg2: Any = None,
    step: Any = None,
    num_stages: Static[int | None] = None,
    loop_unroll_factor: Static[int | None] = None,
    disallow_acc_multi_buffer: Static[bool] = False,
    flatten: Static[bool] = False,
    warp_specialize: Static[bool | None] = None,
    disable_licm: Static[bool] = False,
) -> Range:
    """Go from `arg1` to below `arg2` by `step`, or from 0 to below `arg1`, as Python's range does.

    `num_stages` asks for software pipelining of the loop, `warp_specialize` for warps of their own
    for the copies (False forbids them, None leaves it to the compiler; where True cannot be, on a
    target that has them, the compiled kernel's `metadata["warnings"]` say why). The other keywords
    are accepted for Triton's sake: the compiler decides by itself. So warps of their own for copies
    always bring what the next iteration needs while the results of this one leave, which is what
    `flatten` would ask for. A step that is not known at compile time must be positive.

    Example: `for k in bl.range(0, n, BLOCK, num_stages=3):`
    """
    return _range(
        arg1,
        arg2,
        step,
        num_stages=num_stages or 0,
        warp_specialize=-1 if warp_specialize is None else int(warp_specialize),
    )


@builtin
def static_range(
    arg1: Static[int], arg2: Static[int | None] = None, step: Static[int | None] = None
) -> Range:
    """Go over compile-time integers as `range` does; the loop is unrolled, its variable constant.

    Example: `for i in bl.static_range(4):`
    """
    return _range(arg1, arg2, step, static=True)
