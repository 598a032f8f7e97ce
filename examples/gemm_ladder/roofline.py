"""What bounds a stage of the ladder, from its tile; and what its PTX says about that.

Three things can be the bound: the units that multiply; memory, which brings every matrix once at
best; and what a multiprocessor reads and writes on chip, in shared memory or the cache beside it.
A reader (a thread, a warp or a warpgroup) that multiplies r rows by s columns reads r + s numbers
for r * s products, so on chip the size of its part decides.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

# Of one H200: operations a second by multiply-add in float32 and by tensor cores in bfloat16, bytes
# a second of memory, and of its 132 multiprocessors with 128 bytes a cycle each at 1.98 GHz.
ARITHMETIC = {"multiply-add": 67e12, "tensor cores": 989e12}
MEMORY = 4.8e12
ON_CHIP = 132 * 128 * 1.98e9
# What one thread of 32 takes of a cycle of on-chip memory, however little it reads.
LEAST_READ = 4


@dataclass(frozen=True)
class Roofline:
    """A stage's work for a product of some size, and the rates that bound it."""

    operations: float
    memory_bytes: float
    read_bytes: float
    written_bytes: float
    arithmetic: str

    @property
    def intensity(self) -> float:
        """Operations for each byte of memory, if every matrix is moved once."""
        return self.operations / self.memory_bytes

    @property
    def on_chip_intensity(self) -> float:
        """Operations for each byte read or written on chip."""
        return self.operations / (self.read_bytes + self.written_bytes)

    @property
    def bounds(self) -> dict[str, float]:
        """Operations a second that each part allows."""
        return {
            self.arithmetic: ARITHMETIC[self.arithmetic],
            "memory": MEMORY * self.intensity,
            "on-chip bytes": ON_CHIP * self.on_chip_intensity,
        }

    @property
    def bound(self) -> tuple[str, float]:
        """The part that allows least, and its operations a second."""
        return min(self.bounds.items(), key=lambda item: item[1])


def roofline(stage: Any, m: int, n: int, k: int) -> Roofline:
    """The roofline of a stage for sizes that its tile divides."""
    operations = 2.0 * m * n * k
    size = max(stage.factor_bytes, LEAST_READ) if stage.reader == "thread" else stage.factor_bytes
    # What comes on chip is written there once for each tile; nobody writes what is only cached.
    shared = "BLOCK_K" in stage.tile
    written = sum(1 / stage.tile[f"BLOCK_{axis}"] for axis in "MN") if shared else 0.0
    return Roofline(
        operations,
        memory_bytes=2.0 * (m * k + k * n + m * n),
        read_bytes=operations / 2 * size * sum(1 / part for part in stage.part),
        written_bytes=operations / 2 * stage.factor_bytes * written,
        arithmetic="tensor cores" if stage.tensor_cores else "multiply-add",
    )


COUNTED = {
    "loads": r"\bld\.global\S*",
    "multiply-adds": r"\bfma\.rn\.f32",
    "shared loads": r"\bld\.shared\S*|\bldmatrix\S*",
    "copies": r"\bcp\.async\.c[ag]\.",
    "warp products": r"\bmma\.sync\S*",
    "bulk copies": r"\bcp\.async\.bulk\.tensor\.\dd\.shared",
    "warpgroup products": r"\bwgmma\.mma_async\S*",
    "register moves": r"\bsetmaxnreg\.",
}
"""What to look for in PTX, as it stands there, not as often as it runs."""


def instructions(ptx: str) -> dict[str, int]:
    """How often each kind of instruction of `COUNTED` stands in PTX."""
    return {name: len(re.findall(pattern, ptx)) for name, pattern in COUNTED.items()}


def widths(ptx: str, opcode: str) -> set[int]:
    """How many bytes a thread moves by one `opcode`, such as "ld.global", of each kind there is."""
    found = re.findall(rf"\b{re.escape(opcode)}\S*?((?:\.v\d)?)\.[bfu](\d+)\b", ptx)
    return {int(vector[2:] or 1) * int(bits) // 8 for vector, bits in found}


def product_block(ptx: str) -> str:
    """The piece of straight code with the most products."""
    kinds = ("multiply-adds", "warp products", "warpgroup products")
    pieces = re.split(r"^\$\w+:", ptx, flags=re.MULTILINE)
    return max(pieces, key=lambda piece: sum(instructions(piece)[kind] for kind in kinds))


def counted_reads(ptx: str) -> float:
    """Bytes read on chip for each operation, from the instructions around the products."""
    block = product_block(ptx)
    groups = Counter(map(int, re.findall(r"\bwgmma\.mma_async\S*?\.m64n(\d+)k16", block)))
    if groups:
        columns = next(iter(groups))
        return 2 * (64 + columns) / (2 * 64 * columns)
    count = instructions(block)
    # A warp's product has 16 x 8 x 16 multiply-adds; an `ldmatrix.x4` gives each thread 16 bytes.
    operations = 2 * count["multiply-adds"] + 2 * 16 * 8 * 16 / 32 * count["warp products"]
    kind = "ld.shared" if count["shared loads"] else "ld.global"
    found = re.findall(rf"\b{re.escape(kind)}\S*?((?:\.v\d)?)\.b(\d+)\b", block)
    read = sum(max(LEAST_READ, int(v[2:] or 1) * int(bits) // 8) for v, bits in found)
    return (read + 16 * block.count("ldmatrix.sync.aligned.m8n8.x4")) / operations
