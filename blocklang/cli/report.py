"""Reports of a compilation: what a kernel uses, and how long each step took."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from blocklang.codegen.targets import CpuTarget, GpuTarget
from blocklang.compiled import CompiledKernel
from blocklang.ir.ops.memory import AtomicRMW, MemoryAccess
from blocklang.ir.parser import parse
from blocklang.ir.types import element_type

from . import terminal


def resources(kernel: CompiledKernel) -> None:
    """Print what the kernel uses."""
    target = kernel.target
    if isinstance(target, GpuTarget):
        terminal.table(f"{kernel.name} for {target.name}", ("", ""), _gpu_rows(kernel, target))
        _accesses(kernel)
    else:
        terminal.table(f"{kernel.name} for cpu", ("", ""), _cpu_rows(kernel, target))


def _gpu_rows(kernel: CompiledKernel, target: GpuTarget) -> Iterator[tuple[str, str]]:
    found = kernel.resources
    yield "threads", f"{found.threads} ({kernel.options.num_warps} warps)"
    if "resources" in kernel.metadata:
        yield "registers per thread", f"{found.registers} of {target.registers_per_thread}"
        spills = f"{found.spill_stores} bytes stored, {found.spill_loads} bytes loaded"
        yield "spills per thread", spills if found.spill_stores or found.spill_loads else "none"
        yield "stack per thread", f"{found.stack_bytes} bytes"
    else:
        yield "registers", "not known without ptxas"
    yield "shared memory", f"{found.shared_bytes} of {target.shared_bytes} bytes"
    for place, size in kernel.metadata["buffers"]:
        yield "", f"{size} bytes for {_short(place)}"
    if "resources" in kernel.metadata:
        share = found.occupancy(target)
        programs = round(share * target.threads_per_multiprocessor / found.threads)
        yield "occupancy", f"{share:.0%}: {programs} programs at a time on each multiprocessor"


def _cpu_rows(kernel: CompiledKernel, target: CpuTarget) -> Iterator[tuple[str, str]]:
    yield "processor", target.name or "any"
    yield "vectors", f"{target.vector_bits} bits"
    yield "scratch memory per thread", f"{kernel.metadata.get('scratch_bytes', 0)} bytes"
    yield "object file", f"{len(kernel.asm['object'])} bytes"


def _accesses(kernel: CompiledKernel) -> None:
    """How wide the accesses to global memory are, from the IR that code was generated from."""
    rows = []
    for op in parse(kernel.asm["shared"]).walk():
        if isinstance(op, MemoryAccess):
            element = element_type(op.accessed)
            kind = "atomic" if isinstance(op, AtomicRMW) else type(op).__name__.lower()
            width = f"{op.vector * element.bytes} bytes"
            rows.append((_short(str(op.loc)), kind, f"{op.vector} x {element}", width))
    if rows:
        terminal.table(
            "accesses to global memory", ("place", "kind", "each", "width"), rows, numbers=(3,)
        )


def _short(place: str) -> str:
    return os.path.basename(place)


def times(steps: Sequence[tuple[str, float]]) -> None:
    """Print the milliseconds of each step, and their share."""
    total = sum(milliseconds for _, milliseconds in steps)
    rows = [
        (name, f"{milliseconds:.2f}", f"{milliseconds / total:.0%}" if total else "")
        for name, milliseconds in [*steps, ("total", total)]
    ]
    terminal.table("time of each step", ("step", "ms", "share"), rows, numbers=(1, 2))
