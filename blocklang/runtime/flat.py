"""The native path of launches with tensor descriptors: launches of what they are made of.

A descriptor becomes its array, sizes and strides, in the order in which machine code takes them,
and at the end of all arguments what the kernel is compiled for: block shape and padding. To the
native path these are arguments like others. Descriptors of other ranks are other signatures, each
with a fast path of its own. What is wrong with a descriptor is left to the general path.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from blocklang.runtime.descriptor import TensorDescriptor
from blocklang.runtime.errors import DescriptorError
from blocklang.runtime.fast import FastPath
from blocklang.runtime.specialise import DESCRIPTOR, Parameter


class FlatPaths:
    """The fast paths of one kernel with `parameters` and this number of `options`."""

    def __init__(self, parameters: Sequence[Parameter], options: int) -> None:
        self._parameters = parameters
        self._options = options
        self._paths: dict[tuple[int, ...], FastPath] = {}

    def prepare(self, values: Sequence[Any]) -> tuple[FastPath, list[Any]] | None:
        """The fast path of a launch with `values`, arguments and options, and what it is given.

        None where no argument is a descriptor, or one is wrong.
        """
        if TensorDescriptor not in map(type, values):
            return None
        ranks: list[int] = []
        flat: list[Any] = []
        fixed: list[Any] = []
        for parameter, value in zip(self._parameters, values, strict=False):
            if type(value) is not TensorDescriptor or parameter.constexpr:
                ranks.append(0)
                flat.append(value)
                continue
            try:
                shape, strides, block_shape = value.check()
            except DescriptorError:
                return None
            ranks.append(len(shape))
            flat += (value.base, *shape, *strides[:-1])
            fixed += (*block_shape, value.padding == "nan")
        if not fixed:
            return None
        flat += values[len(self._parameters) :]
        flat += fixed
        signature = tuple(ranks)
        path = self._paths.get(signature)
        if path is None:
            path = self._paths[signature] = self._make(signature)
        return path, flat

    def _make(self, ranks: Sequence[int]) -> FastPath:
        parameters: list[Parameter] = []
        fixed = 0
        for parameter, rank in zip(self._parameters, ranks, strict=True):
            if not rank:
                parameters.append(parameter)
                continue
            declared = None if parameter.dtype == DESCRIPTOR else parameter.dtype
            parameters += [dataclasses.replace(parameter, dtype=declared)] * 2 * rank
            fixed += rank + 1
        return FastPath(parameters, self._options + fixed)
