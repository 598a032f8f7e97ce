"""What passes refuse, and mistakes in IR text (BL8xx).

The classes hold texts only; see `diagnostics.py`.
"""

from __future__ import annotations

from .diagnostics import UserError


class IrFamily(UserError):
    """Any of the errors below."""


class NotIrText(IrFamily, code="BL801"):
    """A `.blir` file does not follow the text form of the IR."""

    message = "{problem}"
    example = "kernel @k(%x: i32) { %y = plus %x, %x : i32 }"


class TooMuchSharedMemory(IrFamily, code="BL802"):
    """Conversions between layouts and reductions across warps go through shared memory.

    A program can have a limited amount of it, which depends on the target.
    """

    message = "kernel {kernel} needs {total} bytes of shared memory, the target has {limit}"
    help = "use smaller blocks, or fewer stages"
    example = "trans() of a block of 512 x 512 floats"


class UnorderedSharedMemory(IrFamily, code="BL803"):
    """The proof of the barriers in a kernel has failed: a defect of blocklang, not of the kernel.

    Nothing is compiled rather than something that may go wrong on hardware, now and then.
    """

    message = "{bytes} of shared memory are {first}, then {second} without a barrier"
    help = "this is a mistake in the compiler: please report it with the kernel"
    example = "shared_store %a, %x; shared_load %a  # no barrier between"


class UnorderedAsyncMemory(IrFamily, code="BL804"):
    """The proof of what runs beside the threads of a kernel has failed: copies by the tensor memory
    accelerator, products of warpgroups, and the barriers between them.

    It is a defect of blocklang, not of the kernel. Nothing is compiled rather than something that
    may go wrong, or hang, on hardware.
    """

    message = "{problem}"
    help = "this is a mistake in the compiler: please report it with the kernel"
    example = "mbarrier_wait %full, %i, %phase  # with the phase of the slot before"
