"""Arguments of `blc run`: arrays from files or made on the spot, and numbers.

x=in.npy            an array from a file
x=in.npy:bf16       the same, its elements taken as bf16, which .npy files have no name for
y=zeros:512x1000    an array of zeros, of f32
y=random:64:f16     random numbers, the same in every run; integers for integer types
y=empty:x           an array like that of the argument x
n=1000  s=0.5  p=none
"""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from blocklang.ir.types import DType, dtype, is_dtype_spelling
from blocklang.runtime.arrays import dtype_name

from .arguments import UsageError
from .values import number_or_word

Array = np.ndarray[Any, Any]

# The same numbers in every run.
_SEED = 20
_RANDOM_INTEGERS = 100


def _random(shape: tuple[int, ...], kind: Any) -> Array:
    generator = np.random.default_rng(_SEED)
    if np.issubdtype(kind, np.integer) or kind == np.bool_:
        least = 0 if kind == np.bool_ or np.issubdtype(kind, np.unsignedinteger) else -100
        highest = 2 if kind == np.bool_ else _RANDOM_INTEGERS
        return generator.integers(least, highest, shape).astype(kind)
    return generator.standard_normal(shape).astype(kind)


def _arange(shape: tuple[int, ...], kind: Any) -> Array:
    return np.arange(math.prod(shape)).reshape(shape).astype(kind)


MAKERS: dict[str, Callable[[tuple[int, ...], Any], Array]] = {
    "zeros": np.zeros,
    "ones": np.ones,
    "empty": np.empty,
    "random": _random,
    "arange": _arange,
}
"""Kinds of arrays that `blc run` makes, each by a function of shape and dtype."""


def argument_value(name: str, text: str, pairs: Mapping[str, str], found: dict[str, Any]) -> bool:
    """Put the value that `text` stands for into `found`; False while it waits for another argument.

    `pairs` are the texts of all arguments. UsageError where it is none.
    """
    maker, _, rest = text.partition(":")
    if maker in MAKERS and rest:
        model = rest if rest in pairs else ""
        if model and model not in found:
            return False
        if model and not isinstance(found[model], np.ndarray):
            raise UsageError(f"argument {name}={text}: {model} is not an array")
        shape, kind = _shape_and_type(name, text, rest, found.get(model))
        try:
            found[name] = MAKERS[maker](shape, kind)
        except (MemoryError, ValueError):
            raise UsageError(f"argument {name}={text}: the array is too large") from None
        return True
    value = number_or_word(text)
    found[name] = _load(name, text) if value is text else value
    return True


def _shape_and_type(name: str, text: str, rest: str, model: Any) -> tuple[tuple[int, ...], Any]:
    if model is not None:
        return model.shape, model.dtype
    sizes, _, kind = rest.partition(":")
    if not re.fullmatch(r"\d+(x\d+)*", sizes):
        raise _wrong(name, text, f"{sizes!r} is neither a shape nor an array argument")
    return tuple(map(int, sizes.split("x"))), _element_type(name, text, kind or "f32").numpy


def _element_type(name: str, text: str, spelling: str) -> DType:
    if not is_dtype_spelling(spelling):
        raise _wrong(name, text, f"{spelling!r} is not a type of elements")
    return dtype(spelling)


def _wrong(name: str, text: str, problem: str) -> UsageError:
    return UsageError(
        f"argument {name}={text}: {problem}",
        f"write for example {name}=in.npy, {name}=zeros:512x1000:f32, {name}=empty:x or "
        f"{name}=1000; arrays can be {', '.join(MAKERS)}",
    )


def _load(name: str, text: str) -> Array:
    path, colon, spelling = text.rpartition(":")
    if not colon or not path.endswith(".npy"):
        path, spelling = text, ""
    if not path.endswith(".npy"):
        raise _wrong(name, text, "it is neither a number nor a .npy file")
    if not os.path.isfile(path):
        raise UsageError(f"argument {name}={text}: there is no file {path}")
    try:
        array: Array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UsageError(f"argument {name}={text}: cannot be read as an array: {error}") from None
    if spelling:
        kind = _element_type(name, text, spelling).numpy
        if kind.itemsize != array.dtype.itemsize:
            raise UsageError(
                f"argument {name}={text}: its elements have {array.dtype.itemsize} bytes, those "
                f"of {spelling} {kind.itemsize}"
            )
        array = array.view(kind)
    elif array.dtype.kind == "V":
        raise UsageError(
            f"argument {name}={text}: the file does not name the type of its elements",
            f"name it: {name}={path}:bf16",
        )
    return array


def dtype_text(array: Array) -> str:
    """The type of an array's elements in the language's spelling."""
    return dtype_name(array.dtype)


def file_contents(array: Array) -> bytes:
    """The contents of the .npy file of an array."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
