"""A whole kernel for CPUs: from a module at stage "block" to code that runs a range of programs."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from functools import partial

from blocklang.codegen import elementwise  # noqa: F401  (registers lowerings)
from blocklang.codegen.lower import is_native
from blocklang.codegen.targets import CpuTarget
from blocklang.ir.core import Module
from blocklang.ir.ops.debug import DeviceAssert
from blocklang.ir.types import Type

from . import atomics, debug, division, dot, memory, program  # noqa: F401  (register lowerings)
from .control import emit_plan
from .emitter import CpuEmitter, uniform
from .host import LoadedCode, object_code
from .memory import EVERYWHERE, load, load_buffer
from .plan import Plan
from .planner import plan_kernel
from .prepare import prepare
from .scratch import allocate
from .show import show


@dataclass(frozen=True)
class CpuOptions:
    """`fp_fusion` allows a * b + c to be rounded once."""

    fp_fusion: bool = True


@dataclass
class CpuCode:
    """A compiled kernel, which can be pickled. `address` loads it into the process when first
    asked.

    The function `symbol` has the type of `range` in `blocklang/runtime/cpu.py`. Argument i is at
    byte 8 * i of its parameters, in its own type. It returns 0, or n if assertion n - 1 of
    `asserts` (place and message) failed.
    """

    name: str
    symbol: str
    llvm: str
    code: bytes
    parameters: tuple[Type, ...]
    scratch_bytes: int
    asserts: tuple[tuple[str, str], ...]
    plan: str
    _loaded: LoadedCode | None = field(default=None, repr=False, compare=False)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_loaded": None}

    @property
    def address(self) -> int:
        """The address of the function, valid while this object lives."""
        with _loading:
            if self._loaded is None:
                self._loaded = LoadedCode(self.code, self.symbol)
            return self._loaded.address

    def explain(self, status: int) -> str:
        """What a status that is not 0 means."""
        place, message = self.asserts[status - 1]
        return f"assertion failed at {place}: {message}"


_loading = threading.Lock()


def compile_cpu(module: Module, target: CpuTarget, options: CpuOptions | None = None) -> CpuCode:
    """Compile the kernel of `module`, whose math has been expanded for `target`.

    The module is changed. Raises CompileError, with the op's place, for what CPUs cannot do.
    """
    kernel = module.kernel
    prepare(module, partial(is_native, target))
    text, plan, scratch, asserts = emit_kernel(module, target, options or CpuOptions())
    code, optimised = object_code(text, target)
    return CpuCode(
        name=kernel.name,
        symbol=symbol(kernel.name),
        llvm=optimised,
        code=code,
        parameters=tuple(a.type for a in kernel.arguments),
        scratch_bytes=scratch,
        asserts=tuple((str(op.loc), op.message) for op in asserts),
        plan=show(plan, kernel),
    )


def symbol(name: str) -> str:
    """The name of a kernel in object code: letters, digits and underscores only."""
    return "blocklang_" + re.sub(r"[^A-Za-z0-9_]", "_", name)


def emit_kernel(
    module: Module, target: CpuTarget, options: CpuOptions
) -> tuple[str, Plan, int, list[DeviceAssert]]:
    """LLVM IR text of the kernel, its plan, its scratch memory in bytes, its assertions."""
    kernel = module.kernel
    plan, context = plan_kernel(kernel)
    scratch = allocate(plan, context)
    e = CpuEmitter(
        target,
        context.costs.strides,
        context.buffers,
        context.controls,
        load_buffer,
        options.fp_fusion,
    )
    for argument in kernel.arguments:
        slot = uniform(e.emit(f"getelementptr i64, ptr %parameters, i64 {argument.index}"))
        e.names[argument] = load(e, argument.type, slot, EVERYWHERE, None).text
    arguments, e.lines = e.lines, []
    e.label("program")
    emit_plan(e, plan)
    e.line("br label %next")
    lines = [
        "declare i32 @printf(ptr, ...)",
        *e.globals,
        f"define i32 @{symbol(kernel.name)}({_PARAMETERS}) #0 {{",
        "entry:",
        *e.slots,
        *arguments,
        _NEXT_PROGRAM,
        *e.lines,
        _END,
    ]
    return "\n".join(lines) + "\n", plan, scratch, e.asserts


_PARAMETERS = (
    "ptr noalias readonly %parameters, i64 %grid_x, i64 %grid_y, i64 %grid_z, "
    "i64 %begin, i64 %end, ptr noalias align 64 %scratch"
)
_NEXT_PROGRAM = """\
  %programs_x = trunc i64 %grid_x to i32
  %programs_y = trunc i64 %grid_y to i32
  %programs_z = trunc i64 %grid_z to i32
  br label %head
head:
  %index = phi i64 [ %begin, %entry ], [ %following, %next ]
  %more = icmp slt i64 %index, %end
  br i1 %more, label %start, label %done
start:
  %row = udiv i64 %index, %grid_x
  %index_x = urem i64 %index, %grid_x
  %index_y = urem i64 %row, %grid_y
  %index_z = udiv i64 %row, %grid_y
  %program_x = trunc i64 %index_x to i32
  %program_y = trunc i64 %index_y to i32
  %program_z = trunc i64 %index_z to i32
  br label %program"""
_END = """\
next:
  %following = add nsw i64 %index, 1
  br label %head
done:
  ret i32 0
}
attributes #0 = { nounwind "no-builtins" }"""
