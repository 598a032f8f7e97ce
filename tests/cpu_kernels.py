"""Kernels on the CPU for tests: compile `.bl` text, run it, compare with the evaluator."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Sequence
from typing import Any

import numpy

from blocklang.codegen.cpu import CpuCode, compile_cpu, host_target
from blocklang.codegen.targets import CpuTarget
from blocklang.compile import simplify
from blocklang.frontend.lower import lower_kernel
from blocklang.frontend.text import load_text
from blocklang.ir.core import Module
from blocklang.ir.evaluate import evaluate
from blocklang.ir.parser import parse
from blocklang.ir.passes.manager import PassManager
from blocklang.ir.printer import print_module
from blocklang.runtime.cpu import HostFunction
from blocklang.signature import bind_signature


def lower(text: str, **constexprs: Any) -> Module:
    """The block IR of the last kernel of a `.bl` text."""
    scope = load_text(text, "kernel.bl")
    kernel = [f for f in scope.values() if getattr(f, "is_kernel", False)][-1]
    bound = bind_signature(kernel, {}, constexprs)
    return lower_kernel(kernel, bound.types, constexprs=bound.constexprs)


def compile_module(module: Module, target: CpuTarget | None = None) -> CpuCode:
    """Compile a copy of `module`."""
    copy = parse(print_module(module))
    target = target or host_target()
    PassManager().run(copy, simplify(target))
    return compile_cpu(parse(print_module(copy)), target)


def launch(
    code: CpuCode, grid: Sequence[int], arguments: Sequence[Any], threads: int | None = 1
) -> None:
    """Run a kernel on NumPy arrays and numbers."""
    slots = numpy.zeros(max(1, len(arguments)), numpy.uint64)
    for index, (value, type) in enumerate(zip(arguments, code.parameters, strict=True)):
        if isinstance(value, numpy.ndarray):
            slots[index] = value.ctypes.data
        else:
            one = numpy.array([value], type.numpy)  # type: ignore[union-attr]
            slots[index : index + 1].view(numpy.uint8)[: one.nbytes] = one.view(numpy.uint8)
    x, y, z = (*grid, 1, 1)[:3]
    function = HostFunction(code.name, code.address, code.scratch_bytes, code.explain, code)
    function.run((x, y, z), slots.ctypes.data, threads)
    ctypes.CDLL(None).fflush(None)


def check(
    source: str | Module,
    *arguments: Any,
    grid: Sequence[int] = (1,),
    tolerance: float = 0.0,
    absolute: float = 0.0,
    **constexprs: Any,
) -> CpuCode:
    """Compile and run a kernel, and compare all arrays with what the evaluator leaves in them.

    Arrays stand between memory that must not be touched; `tolerance` is relative to each element.
    """
    module = lower(source, **constexprs) if isinstance(source, str) else source
    code = compile_module(module)
    expected = [a.copy() if isinstance(a, numpy.ndarray) else a for a in arguments]
    evaluate(module, expected, grid)
    found = [guarded(a) if isinstance(a, numpy.ndarray) else a for a in arguments]
    launch(code, grid, found)
    for index, (mine, right) in enumerate(zip(found, expected, strict=True)):
        if isinstance(right, numpy.ndarray):
            compare(mine, right, tolerance, absolute, f"argument {index}\n{code.plan}")
    return code


def compare(
    found: numpy.ndarray, expected: numpy.ndarray, tolerance: float, absolute: float, text: str
) -> None:
    """Assert that two arrays are equal, NaNs alike, or close."""
    if tolerance == 0 and absolute == 0:
        numpy.testing.assert_array_equal(found, expected, text)
    else:
        wide = numpy.asarray(found, numpy.float64), numpy.asarray(expected, numpy.float64)
        numpy.testing.assert_allclose(*wide, rtol=tolerance, atol=absolute, err_msg=text)


_pages: list[mmap.mmap] = []


def guarded(array: numpy.ndarray, before: bool = False) -> numpy.ndarray:
    """A copy of `array` that ends where memory ends (begins, with `before`): reading on kills the
    process.
    """
    page = mmap.PAGESIZE
    size = -(-array.nbytes // page) * page
    pages = mmap.mmap(-1, size + 2 * page)
    _pages.append(pages)
    start = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    libc = ctypes.CDLL(None, use_errno=True)
    for edge in (start, start + page + size):
        assert libc.mprotect(ctypes.c_void_p(edge), page, 0) == 0
    offset = page if before else page + size - array.nbytes
    copy = numpy.frombuffer(pages, array.dtype, array.size, offset).reshape(array.shape)
    copy[...] = array
    return copy
