"""What a target cannot do (BL6xx): the classes of the catalogue that code generation raises.

The classes hold texts only; see `blocklang/ir/diagnostics.py`.
"""

from __future__ import annotations

from blocklang.ir.diagnostics import UserError


class TargetFamily(UserError):
    """Any of the errors below."""


class NotOnTarget(TargetFamily, code="BL601"):
    """Some ops exist on some targets only, or for some dtypes only.

    Nothing is replaced by something else that is merely similar: what a target lacks is either
    expanded exactly or refused.
    """

    message = "{what} is not available on {target}"
    help = "compile for another target, or convert to a dtype for which it is"
    example = "argmax() of a reduction inside a reduction, on a CPU"


class AtomicNotOnTarget(TargetFamily, code="BL602"):
    """Hardware has atomic additions for some dtypes only, older hardware for fewer."""

    message = "{operation} on {dtype} is not available on {target}"
    help = "{instead}"
    example = "atomic_add(bfloat16_pointer, 1.0)  # before sm_90"


class UnknownTarget(TargetFamily, code="BL603"):
    """A target is `cpu`, or an NVIDIA architecture by its name, such as `sm_90a`."""

    message = "unknown target {name!r}"
    help = "known targets: cpu, {known}"
    example = 'kernel.compile(target="sm_9")'


class DeviceTooOld(TargetFamily, code="BL604"):
    """GPUs from Turing on are supported."""

    message = "devices of compute capability {major}.{minor} are not supported"
    help = "7.5 or later is needed"
    example = "a launch on a GPU of 2017"


class UnknownMachine(TargetFamily, code="BL605"):
    """A CPU target names a machine by LLVM's triple, and this LLVM cannot generate code for it."""

    message = "LLVM does not know the machine {triple}: {problem}"
    help = (
        "use the triple of a machine for which llvmlite's LLVM is built, such as x86_64-linux-gnu"
    )
    example = 'cpu_target("z80-unknown-cpm")'


class CodeNotLoadable(TargetFamily, code="BL606"):
    """The compiled code for the CPU could not be linked into this process."""

    message = "the code for {symbol} cannot be loaded: {problem}"
    help = "code for another machine only runs there; clear the cache if this machine has changed"
    example = "loading an object file that was compiled for another CPU architecture"
