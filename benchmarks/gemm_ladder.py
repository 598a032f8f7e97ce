"""The stages of examples/gemm_ladder at 4096 x 4096 x 4096, and cuBLAS, in one run.

    python -m benchmarks.gemm_ladder results.json [--commit HASH] [--size 4096]

Each row of section `ladder` has the time of a stage, and of its roofline the work and the bound:
operations, bytes of memory at best, bytes on chip from the shape of the tile, and which of
arithmetic, memory and on-chip bytes allows least. `of_bound` is the share that is reached. Rows of
`ladder_code` have what the assembler and the PTX of the same stage say.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.record import Results, gpu_milliseconds, parser
from examples.gemm_ladder.ladder import STAGES, Stage
from examples.gemm_ladder.roofline import (
    ARITHMETIC,
    MEMORY,
    ON_CHIP,
    Roofline,
    counted_reads,
    instructions,
    roofline,
    widths,
)

# What rounding of results may make of the relative error of the whole matrix.
ERROR = 4e-3
TURNS = 3
PEAKS = {"arithmetic": ARITHMETIC, "memory": MEMORY, "on_chip": ON_CHIP}


class Case:
    """The matrices, and what is right."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.a, self.b = (
            torch.randn(size, size, device="cuda").to(torch.bfloat16) for _ in range(2)
        )
        self.c = torch.empty_like(self.a)
        self.reference = self.a.double() @ self.b.double()

    def error(self, launch: Callable[[], object]) -> float:
        """The relative error of a launch, over poisoned output."""
        self.c.fill_(float("nan"))
        launch()
        found = self.c.double()
        if not bool(torch.isfinite(found).all()):
            return float("inf")
        return float((found - self.reference).norm() / self.reference.norm())


def work(found: Roofline) -> dict[str, Any]:
    """A roofline as entries of a row."""
    by, bound = found.bound
    return {
        "operations": found.operations, "memory_bytes": found.memory_bytes,
        "read_bytes": found.read_bytes, "written_bytes": found.written_bytes,
        "intensity": found.intensity, "on_chip_intensity": found.on_chip_intensity,
        "arithmetic": found.arithmetic, "bounds": found.bounds, "bound": bound, "bound_by": by,
    }  # fmt: skip


def code(stage: Stage, compiled: Any) -> dict[str, Any]:
    """What the machine code of a stage uses, and what stands in its PTX."""
    ptx, uses = compiled.asm["ptx"], compiled.resources
    threads = compiled.target.threads_per_multiprocessor
    return {
        "target": compiled.target.name, "tile": dict(stage.tile), "num_warps": stage.num_warps,
        "num_stages": stage.num_stages, "part": list(stage.part), "reader": stage.reader,
        "program_threads": compiled.threads, "registers": uses.registers,
        "shared_bytes": uses.shared_bytes,
        "spilled_bytes": uses.spill_stores + uses.spill_loads,
        "programs": round(uses.occupancy(compiled.target) * threads / compiled.threads),
        "instructions": instructions(ptx), "load_bytes": max(widths(ptx, "ld.global"), default=0),
        "counted_reads": counted_reads(ptx),
    }  # fmt: skip


def main() -> None:
    """Measure all stages in turns, so that a moment's clock is everybody's."""
    arguments = parser(__doc__.splitlines()[0])
    arguments.add_argument("--size", type=int, default=4096)
    chosen = arguments.parse_args()
    torch.manual_seed(0)
    results, case, start = Results(chosen.commit), Case(chosen.size), time.perf_counter()
    sizes = 3 * (chosen.size,)
    launches: dict[str, Callable[[], Any]] = {
        "cublas": lambda: torch.mm(case.a, case.b, out=case.c)
    }
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BLOCKLANG_CACHE_DIR"] = folder
        for stage in STAGES:
            launches[stage.title] = stage.ready(case.a, case.b, case.c)
        errors = {name: case.error(launch) for name, launch in launches.items()}
        times: dict[str, list[float]] = {name: [] for name in launches}
        for _ in range(TURNS):
            for name, launch in launches.items():
                times[name].append(gpu_milliseconds(launch, 60))
    stages = {stage.title: stage for stage in STAGES}
    title = f"bf16 {'x'.join(map(str, sizes))}"
    for name, launch in launches.items():
        stage = stages.get(name)
        ms = statistics.median(times[name])
        # The library has no tile that we know of: what all share is arithmetic and memory.
        known = work(roofline(stage or STAGES[-1], *sizes))
        rate = known["operations"] / ms * 1e3
        if stage is None:
            known = {key: known[key] for key in ("operations", "memory_bytes", "intensity")}
        else:
            known |= {"stage": stage.number, "of_bound": rate / known["bound"], "peaks": PEAKS}
            results.add("ladder_code", name, "blocklang", stage=stage.number,
                        **code(stage, launch()))  # fmt: skip
        results.add("ladder", name, "cublas" if stage is None else "blocklang", size=title, ms=ms,
                    turns=times[name], rate=rate, error=errors[name], correct=errors[name] < ERROR,
                    **known)  # fmt: skip
    results.write(chosen.output)
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
