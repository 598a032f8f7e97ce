"""What code generation makes of small kernels, and what it knows of targets."""

from __future__ import annotations

import linecache

from blocklang import compile as pipelines
from blocklang.codegen.cpu import cpu_target
from blocklang.codegen.cpu.kernel import CpuOptions
from blocklang.codegen.cpu.kernel import emit_kernel as emit_cpu_kernel
from blocklang.codegen.cpu.show import show
from blocklang.codegen.lower import is_native
from blocklang.codegen.nvptx.kernel import emit_kernel
from blocklang.codegen.targets import GPU_TARGETS, gpu_target
from blocklang.ir.op import REGISTRY
from blocklang.ir.ops.elementwise import Elementwise
from blocklang.ir.passes.manager import PassManager
from blocklang.ir.types import dtype
from blocklang.runtime.launcher import Launcher
from blocklang.runtime.specialise import Parameter

from .intermediate import block_ir
from .markdown import ROOT, fenced, table

# Fixed, so that the page is the same on every machine.
_GPU = gpu_target("sm_90a")
_CPU = cpu_target("x86_64-unknown-linux-gnu", "x86-64-v3", "+avx2")
_FLOATS = ("f16", "bf16", "f32", "f64")


def nvptx(path: str, *, num_warps: int = 4) -> str:
    """The LLVM IR text of the kernel of a .bl file, as it goes to LLVM."""
    module = block_ir(ROOT / path)
    module.kernel.attributes.update(num_warps=num_warps, num_stages=3)
    passes = PassManager()
    lists = pipelines.simplify, pipelines.layouts, pipelines.shared_memory, pipelines.instructions
    for each in lists:
        passes.run(module, each(_GPU))
    text = emit_kernel(module, _GPU, line_info=False)
    start, end = text.index("define "), text.index("\n}\n") + 2
    return fenced(text[start:end], "llvm")


def cpu_plan(path: str) -> str:
    """The loop nests that the kernel of a .bl file becomes on a CPU."""
    module = block_ir(ROOT / path)
    PassManager().run(module, pipelines.simplify(_CPU))
    plan = emit_cpu_kernel(module, _CPU, CpuOptions())[1]
    return fenced(show(plan, module.kernel), "text")


def native_ops() -> str:
    """Elementwise ops and the floats on which each back end executes them by itself."""
    rows = []
    for name, op in REGISTRY.items():
        if not issubclass(op, Elementwise):
            continue
        cells = [
            " ".join(f for f in _FLOATS if is_native(target, op, dtype(f)))
            for target in (gpu_target("sm_80"), _GPU, _CPU)
        ]
        if any(cells) and len({*cells, " ".join(_FLOATS)}) > 1:
            rows.append((f"`{name}`", *cells))
    return table(("Op", "sm_80", "sm_90a", "CPU"), rows)


def targets() -> str:
    """The GPU targets and what is known of each."""
    rows = [
        (
            f"`{t.name}`",
            f"{t.ptx // 10}.{t.ptx % 10}",
            f"{t.shared_bytes // 1024} KiB",
            str(t.threads_per_multiprocessor),
        )
        for t in GPU_TARGETS.values()
    ]
    header = ("Target", "PTX version", "Shared memory of a program", "Threads of a multiprocessor")
    return table(header, rows)


def launcher() -> str:
    """The function that is generated for the launches of a kernel."""
    parameters = [Parameter("x"), Parameter("n"), Parameter("BLOCK", constexpr=True)]

    def never(_: object) -> object:
        raise AssertionError("nothing is launched here")

    Launcher("add", parameters, {"num_warps": 4}, never)  # type: ignore[arg-type]
    return fenced("".join(linecache.getlines("<launcher of add>")), "python source")
