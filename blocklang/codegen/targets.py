"""Facts about targets: what each sm_NN and the host can do. The one place where they are written
down.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .errors import DeviceTooOld, UnknownTarget


@dataclass(frozen=True)
class GpuTarget:
    """An NVIDIA architecture. `shared_bytes` is the most shared memory that one program can ask
    for.
    """

    name: str
    capability: int
    ptx: int
    shared_bytes: int
    threads_per_multiprocessor: int
    shared_bytes_per_multiprocessor: int

    backend = "nvptx"
    threads_per_warp = 32
    registers_per_multiprocessor = 65536
    registers_per_thread = 255

    @property
    def has_warpgroups(self) -> bool:
        """Four warps together multiply matrices in shared memory, and pass registers on."""
        return self.name == "sm_90a"

    @property
    def has_bulk_tensor_copies(self) -> bool:
        """There is a tensor memory accelerator, with instructions for programs without cluster."""
        return self.capability >= 90 and self.ptx >= 86

    @property
    def features(self) -> str:
        """LLVM's feature string: the PTX version."""
        return f"+ptx{self.ptx}"


@dataclass(frozen=True)
class CpuTarget:
    """The host, or a CPU of another kind when `name` and `features` say so. `unroll` vectors of
    `vector_bits` are computed at a time.
    """

    name: str
    triple: str
    features: str
    vector_bits: int
    unroll: int = 2

    backend = "cpu"

    @property
    def has_float16(self) -> bool:
        """Conversions between float16 and float32 are instructions; else they would be calls of a
        library that may not be there.
        """
        is_x86 = self.triple.startswith(("x86_64", "i386", "i686"))
        return not is_x86 or "+f16c" in self.features.split(",")


Target = GpuTarget | CpuTarget

MAX_GRID = (2**31 - 1, 65535, 65535)
"""The most programs along each axis of a grid on a GPU."""

_KB = 1024
# PTX 7.4 is the first with eviction priorities, which any kernel may ask for.
GPU_TARGETS = {
    name: GpuTarget(name, capability, ptx, shared * _KB, threads, shared_all * _KB)
    for name, capability, ptx, shared, threads, shared_all in (
        ("sm_75", 75, 74, 64, 1024, 64),
        ("sm_80", 80, 74, 163, 2048, 164),
        ("sm_86", 86, 74, 99, 1536, 100),
        ("sm_87", 87, 74, 163, 1536, 164),
        ("sm_89", 89, 84, 99, 1536, 100),
        ("sm_90", 90, 80, 227, 2048, 228),
        ("sm_90a", 90, 87, 227, 2048, 228),
        ("sm_100", 100, 87, 227, 2048, 228),
        ("sm_100a", 100, 87, 227, 2048, 228),
        ("sm_103", 103, 88, 227, 2048, 228),
        ("sm_103a", 103, 88, 227, 2048, 228),
        ("sm_110", 110, 90, 227, 1536, 228),
        ("sm_110a", 110, 90, 227, 1536, 228),
        ("sm_120", 120, 87, 99, 1536, 100),
        ("sm_120a", 120, 87, 99, 1536, 100),
        ("sm_121", 121, 88, 99, 1536, 100),
        ("sm_121a", 121, 88, 99, 1536, 100),
    )
}


def gpu_target(name: str) -> GpuTarget:
    """The GPU target of that name. Raises CompileError, with the known names, for others."""
    if name not in GPU_TARGETS:
        raise UnknownTarget(name=name, known=", ".join(GPU_TARGETS))
    return GPU_TARGETS[name]


def target_of_capability(major: int, minor: int) -> GpuTarget:
    """The target for a device of compute capability major.minor, or the newest that it can run."""
    wanted = 10 * major + minor
    names = [f"sm_{wanted}a", f"sm_{wanted}"]
    for name in names:
        if name in GPU_TARGETS:
            return GPU_TARGETS[name]
    older = [
        t
        for t in GPU_TARGETS.values()
        if t.capability <= wanted and re.fullmatch(r"sm_\d+", t.name)
    ]
    if not older:
        raise DeviceTooOld(major=major, minor=minor)
    return max(older, key=lambda t: t.capability)
