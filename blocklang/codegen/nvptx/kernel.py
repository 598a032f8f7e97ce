"""A whole kernel: from a module at stage "shared" to the text of an LLVM module."""

from __future__ import annotations

import re

from blocklang.codegen import elementwise  # noqa: F401  (registers lowerings)
from blocklang.codegen.debug_info import DebugInfo
from blocklang.codegen.targets import GpuTarget
from blocklang.ir.core import Argument, Function, Module
from blocklang.ir.ops.asynchronous import MBarrierAlloc, TmaSend, WarpSpecialize, Wgmma
from blocklang.ir.types import PointerType

from . import (  # noqa: F401  (register lowerings)
    async_copy,
    debug,
    fma,
    mbarrier,
    memory,
    mma,
    partitions,
    program,
    reduce,
    shared,
    tma,
    wgmma,
)
from .control import emit_ops
from .emitter import CONVERGENT, NvptxEmitter

_DECLARATIONS = """\
@shared_memory = external addrspace(3) global [0 x i8], align 1024
declare i32 @vprintf(ptr, ptr)
declare void @__assertfail(ptr, ptr, i32, ptr, i64) noreturn
"""


def symbol(name: str) -> str:
    """The name of a kernel in PTX: letters, digits and underscores only."""
    return re.sub(r"[^A-Za-z0-9_]", "_", name)


def emit_kernel(
    module: Module, target: GpuTarget, fp_fusion: bool = True, line_info: bool = True
) -> str:
    """LLVM IR text of the module's kernel for `target`."""
    kernel = module.kernel
    num_warps = int(kernel.attributes["num_warps"])
    info = DebugInfo(kernel.name, kernel.loc) if line_info else None
    e = NvptxEmitter(target, num_warps, fp_fusion, info)
    e.num_ctas = cluster_size(kernel)
    parameters = [_parameter(e, argument) for argument in kernel.arguments]
    parameters += tma.parameters(e, kernel)
    e.location = kernel.loc
    e.prologue(threads(kernel), _needs_warp(kernel))
    emit_ops(e, kernel.block)
    e.location = kernel.block.terminator.loc
    if e.num_ctas > 1:
        # The others may still copy to this one, or arrive at its barriers.
        partitions.meet_cluster(e)
    e.line("ret void")
    scope = f" !dbg !{info.kernel_scope}" if info else ""
    lines = [
        _DECLARATIONS,
        *e.globals,
        f"define ptx_kernel void @{symbol(kernel.name)}({', '.join(parameters)}) #0{scope} {{",
        "entry:",
        *_print_buffer(e),
        *e.lines,
        "}",
        f"attributes #0 = {{ nounwind {_bounds(kernel)} }}",
        f"attributes {CONVERGENT} = {{ convergent nounwind }}",
        info.text() if info else "",
    ]
    return "\n".join(lines) + "\n"


def threads(kernel: Function) -> int:
    """The threads of one program: those of its warps, and the warpgroup of a producer."""
    has_producer = any(isinstance(op, WarpSpecialize) for op in kernel.walk())
    warps = int(kernel.attributes["num_warps"])
    return 32 * (warps + partitions.PRODUCER_WARPS * has_producer)


def cluster_size(kernel: Function) -> int:
    """Blocks of threads that execute one program."""
    return int(kernel.attributes.get("num_ctas", 1))


def _needs_warp(kernel: Function) -> bool:
    kinds = MBarrierAlloc | TmaSend | WarpSpecialize | Wgmma
    return any(isinstance(op, kinds) for op in kernel.walk())


def _bounds(kernel: Function) -> str:
    """The launch bounds. Without `minctasm`, ptxas spills at 32 registers where it could use 64 or
    255.
    """
    count = cluster_size(kernel)
    cluster = f' "nvvm.cluster_dim"="{count},1,1"' if count > 1 else ""
    return f'"nvvm.reqntid"="{threads(kernel)}" "nvvm.minctasm"="1"{cluster}'


def _print_buffer(e: NvptxEmitter) -> list[str]:
    # At the entry: elsewhere an alloca takes more of the stack each time it is passed.
    if not e.print_bytes:
        return []
    return [f"  %print_buffer = alloca [{e.print_bytes} x i8], align 8"]


def _parameter(e: NvptxEmitter, argument: Argument) -> str:
    name = f"%argument{argument.index}"
    e.names[argument] = name
    divisible = argument.facts.get("divisible", 1)
    align = ""
    if isinstance(argument.type, PointerType) and divisible > 1:
        align = f" align {divisible & -divisible}"
    return f"{e.type(argument.type)}{align} {name}"
