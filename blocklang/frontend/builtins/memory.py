"""Loads, stores and atomics."""

from __future__ import annotations

from typing import Any

from blocklang.frontend import emission
from blocklang.frontend.constexpr import Static
from blocklang.frontend.conversion import bitcast, cast, tensor
from blocklang.frontend.descriptors import BlockPointer
from blocklang.frontend.errors.descriptors import MaskWithBlockPointer
from blocklang.frontend.errors.operations import (
    AtomicType,
    BlockThroughScalarPointer,
    MaskNotBoolean,
    NotAPointer,
    OtherWithoutMask,
    UnknownOption,
)
from blocklang.frontend.errors.types import BadCast
from blocklang.frontend.shapes import broadcast, broadcast_to
from blocklang.frontend.values import Tensor, describe, element_text
from blocklang.ir.ops.memory import AtomicRMW, Load, Store
from blocklang.ir.types import DType, Element, PointerType, i1, i8

from .descriptor import load_block_pointer, store_block_pointer
from .registry import blame, blaming, builtin

LOAD_CACHE = {"": "", ".ca": "ca", ".cg": "cg", ".cv": "cv"}
STORE_CACHE = {"": "", ".wb": "wb", ".cg": "cg", ".cs": "cs", ".wt": "wt"}
EVICTION = {"": "", "evict_normal": "", "evict_first": "evict_first", "evict_last": "evict_last"}
SEMANTICS = {None: "acq_rel", "acquire": "acquire", "release": "release"} | {
    "acq_rel": "acq_rel",
    "relaxed": "relaxed",
}
SCOPES = {None: "gpu", "gpu": "gpu", "cta": "cta", "sys": "sys"}


def _option(argument: str, option: str, choices: dict[Any, str], value: Any) -> str:
    # A dict looks None and "" up alike; unhashable values cannot reach this.
    if value in choices:
        return choices[value]
    listed = ", ".join(repr(choice) for choice in choices if choice)
    raise blame(argument, UnknownOption(found=value, option=option, choices=listed))


def _pointer(function: str, value: Any) -> tuple[Tensor, Element]:
    """The pointer, ready for access, and the element type that the kernel sees."""
    if not isinstance(value, Tensor) or not isinstance(value.dtype, PointerType):
        instead = "the arrays given to the kernel are pointers: load(x + offsets)"
        raise blame(
            "pointer", NotAPointer(function=function, found=describe(value), instead=instead)
        )
    element = value.dtype.element
    # A bool takes a byte in memory.
    return (bitcast(value, PointerType(i8)), element) if element == i1 else (value, element)


def _scalar_access(argument: str, value: Tensor | None) -> None:
    if value is not None and value.is_block:
        raise blame(argument, BlockThroughScalarPointer(argument=argument, found=describe(value)))


def _mask(value: Any) -> Tensor | None:
    if value is None:
        return None
    with blaming("mask"):
        mask = tensor(value, "the mask")
        if mask.dtype != i1:
            raise MaskNotBoolean(found=describe(mask))
    return mask


def _value_as(value: Tensor, element: Element, argument: str) -> Tensor:
    with blaming(argument):
        if isinstance(element, PointerType) != isinstance(value.dtype, PointerType) and not (
            value.dtype.bits == element.bits
        ):
            raise BadCast(
                source=describe(value),
                target=element_text(element),
                instead="memory holds another kind of value",
            )
        return cast(value, element)


@builtin
def load(
    pointer: Any,
    mask: Any = None,
    other: Any = None,
    boundary_check: Static[Any] = (),
    padding_option: Static[str] = "",
    cache_modifier: Static[str] = "",
    eviction_policy: Static[str] = "",
    volatile: Static[bool] = False,
) -> Tensor:
    """Read the elements that `pointer` points to; the result has its shape and element type.

    Where the block `mask` (int1) is false, nothing is read and the result is `other`, converted to
    the element type; without `other` it is undefined. Pointer, mask and other are broadcast
    together; a scalar pointer takes a scalar mask and other. `cache_modifier` is ".ca", ".cg" or
    ".cv", `eviction_policy` is "evict_first" or "evict_last".

    A block pointer reads its block. `boundary_check` lists the axes along which the block may reach
    out of the tensor; what lies outside is zero, or NaN with `padding_option="nan"`.

    Example: `x = bl.load(x_pointer + offsets, mask=offsets < n, other=0.0)`
    """
    cache = _option("cache_modifier", "cache modifier of a load", LOAD_CACHE, cache_modifier)
    eviction = _option("eviction_policy", "eviction policy", EVICTION, eviction_policy)
    if isinstance(pointer, BlockPointer):
        # Hints about caches are for pointers: where the block is copied as a whole, there are none.
        _no_masks(mask=mask, other=other)
        return load_block_pointer(pointer, boundary_check, padding_option)
    _no_block_pointers(boundary_check, padding_option)
    place, element = _pointer("load", pointer)
    stored = i8 if element == i1 else element
    condition = _mask(mask)
    if other is not None and condition is None:
        raise blame("other", OtherWithoutMask())
    filler = None
    if other is not None:
        with blaming("other"):
            filler = _value_as(tensor(other, "'other'"), stored, "other")
    if not place.is_block:
        _scalar_access("mask", condition)
        _scalar_access("other", filler)
    if condition is not None:
        with blaming("mask"):
            place, condition = broadcast(place, condition)
    if filler is not None:
        with blaming("other"):
            place, filler = broadcast(place, filler)
        assert condition is not None
        condition = broadcast_to(condition, place.shape)
    loaded = emission.emit(
        Load(
            emission.ir(place),
            mask=None if condition is None else emission.ir(condition),
            other=None if filler is None else emission.ir(filler),
            cache=cache,
            eviction=eviction,
            volatile=bool(volatile),
            loc=emission.location(),
        )
    )
    return cast(loaded, element)


@builtin
def store(
    pointer: Any,
    value: Any,
    mask: Any = None,
    boundary_check: Static[Any] = (),
    cache_modifier: Static[str] = "",
    eviction_policy: Static[str] = "",
) -> None:
    """Write `value`, converted to the element type of `pointer`, where the block `mask` holds.

    Value and mask are broadcast to the shape of `pointer`; a scalar pointer takes a scalar value
    and mask. `cache_modifier` is ".wb", ".cg", ".cs" or ".wt", `eviction_policy` is "evict_first"
    or "evict_last".

    A block pointer writes its block; `boundary_check` lists the axes along which the block may
    reach out of the tensor, where nothing is written.

    Example: `bl.store(y_pointer + offsets, x * 2, mask=offsets < n)`
    """
    cache = _option("cache_modifier", "cache modifier of a store", STORE_CACHE, cache_modifier)
    eviction = _option("eviction_policy", "eviction policy", EVICTION, eviction_policy)
    if isinstance(pointer, BlockPointer):
        _no_masks(mask=mask)
        store_block_pointer(pointer, value, boundary_check)
        return
    _no_block_pointers(boundary_check, "")
    place, element = _pointer("store", pointer)
    with blaming("value"):
        number = tensor(value, "the value of store()")
    condition = _mask(mask)
    if not place.is_block:
        _scalar_access("value", number)
        _scalar_access("mask", condition)
    number = _value_as(number, element, "value")
    if element == i1:
        number = cast(number, i8)
    with blaming("value"):
        number = broadcast_to(number, place.shape)
    if condition is not None:
        with blaming("mask"):
            condition = broadcast_to(condition, place.shape)
    emission.builder().insert(
        Store(
            emission.ir(place),
            value=emission.ir(number),
            mask=None if condition is None else emission.ir(condition),
            cache=cache,
            eviction=eviction,
            loc=emission.location(),
        )
    )


@builtin
def atomic_add(
    pointer: Any,
    val: Any,
    mask: Any = None,
    sem: Static[str | None] = None,
    scope: Static[str | None] = None,
) -> Tensor:
    """Add `val` to what `pointer` points to, in one indivisible step, and return the old values.

    Value and mask are broadcast to the shape of `pointer`; where the mask is false nothing happens
    and the result is undefined. `sem` is "acq_rel" (the default), "acquire", "release" or
    "relaxed"; `scope` is "gpu" (the default), "cta" or "sys".

    Example: `bl.atomic_add(counts + bucket, 1, sem="relaxed")`
    """
    place, element = _pointer("atomic_add", pointer)
    if not isinstance(element, DType) or element.bits < (16 if element.is_float else 32):
        raise blame("pointer", AtomicType(dtype=element_text(element)))
    with blaming("val"):
        number = tensor(val, "the value of atomic_add()")
    condition = _mask(mask)
    if not place.is_block:
        _scalar_access("val", number)
        _scalar_access("mask", condition)
    with blaming("val"):
        number = broadcast_to(_value_as(number, element, "val"), place.shape)
    if condition is not None:
        with blaming("mask"):
            condition = broadcast_to(condition, place.shape)
    return emission.emit(
        AtomicRMW(
            emission.ir(place),
            value=emission.ir(number),
            mask=None if condition is None else emission.ir(condition),
            kind="add",
            semantics=_option("sem", "memory semantics", SEMANTICS, sem),
            scope=_option("scope", "scope of an atomic", SCOPES, scope),
            loc=emission.location(),
        )
    )


def _no_masks(**given: Any) -> None:
    for argument, value in given.items():
        if value is not None:
            raise blame(argument, MaskWithBlockPointer(argument=argument))


def _no_block_pointers(boundary_check: Any, padding_option: Any) -> None:
    if boundary_check or padding_option:
        argument = "boundary_check" if boundary_check else "padding_option"
        raise blame(
            argument,
            UnknownOption(
                found=boundary_check or padding_option,
                option="option of an access through pointers",
                choices="mask and other, which say the same for each element",
            ),
        )
