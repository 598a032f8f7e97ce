"""Compiling cases for a target without running them: one by one, or all at once in processes."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from blocklang.ir.types import DTYPES
from blocklang.runtime.arrays import classify
from tests.suite.case import Array, Case, guarded


def signature(case: Case) -> dict[str, Any]:
    """The types and values of the arguments, as a launch of the case would see them."""
    arguments = case.launch().arguments
    return {
        p.name: _entry(p, arguments[p.name])
        for p in case.kernel.parameters
        if not p.constexpr and p.name in arguments
    }


def _entry(parameter: Any, argument: Any) -> Any:
    if isinstance(argument, Array):
        buffer, first = guarded(argument)
        aligned = buffer[first + argument.start :].ctypes.data % 16 == 0
        element = next(d for d in DTYPES.values() if d.numpy == buffer.dtype)
        return f"*{element.name}" + ":16" * (
            aligned and parameter.specialize and parameter.specialize_alignment
        )
    found = classify(argument)
    if found.kind == "none":
        return None
    if found.kind == "integer" and parameter.dtype is None and parameter.specialize:
        if found.value == 1:
            return 1
        if found.value % 16 == 0 and parameter.specialize_alignment:
            return f"{found.dtype}:16"
    return parameter.dtype or found.dtype


def compile_case(case: Case, target: str) -> Any:
    """The compiled kernel of a case. Raises CompileError."""
    return case.kernel.compile(signature(case), case.constexprs, target, **case.options)


def _compile_named(name: str, target: str) -> str:
    from tests.suite import CASES

    try:
        compile_case(CASES[name], target)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def compile_all(names: Iterable[str], target: str) -> dict[str, str]:
    """Compile cases in parallel, so that launches find them in the cache; errors by name."""
    names = list(names)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max(1, (os.cpu_count() or 2)), mp_context=context) as pool:
        results = pool.map(_compile_named, names, [target] * len(names), chunksize=8)
        return {name: error for name, error in zip(names, results, strict=True) if error}
