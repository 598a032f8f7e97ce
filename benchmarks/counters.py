"""What the hardware counts while matrix products and attention run, by Nsight Compute (`ncu`).

    python -m benchmarks.counters results.json [--commit HASH] [--size 4096] [--ncu PATH]

The launches are the stages of examples/gemm_ladder, cuBLAS's product of the same matrices, our
fastest, and attention of 4 x 4096 positions with 16 heads of 128 elements, by cuDNN and by us. Each
is run once to warm up and once under the profiler. Rows of section `counters` have one number for
each entry of `COUNTERS`; shares are percent of what the unit can do. Those of stages are in section
`ladder_counters`. Clocks are left as they are, and caches are flushed before each pass.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.record import Results, parser

PERCENT = "avg.pct_of_peak_sustained_active"
STALL = "smsp__average_warps_issue_stalled_{}_per_issue_active.ratio"
# Names of each counter, in the order of preference: they differ from one architecture to the next.
COUNTERS = {
    "nanoseconds": ("gpu__time_duration.sum",),
    "multiply-add units": (f"sm__pipe_fma_cycles_active.{PERCENT}",),
    "tensor cores": (
        f"sm__pipe_tensor_op_hmma_cycles_active.{PERCENT}",
        f"sm__pipe_tensor_cycles_active.{PERCENT}",
    ),
    "load and store unit": (
        f"l1tex__data_pipe_lsu_wavefronts.{PERCENT}",
        "l1tex__data_pipe_lsu_wavefronts.avg.pct_of_peak_sustained_elapsed",
    ),
    "issue slots": (f"smsp__issue_active.{PERCENT}", f"sm__issue_active.{PERCENT}"),
    "warps": (f"sm__warps_active.{PERCENT}",),
    "instructions": ("smsp__inst_executed.sum",),
    "bank conflicts": (
        "l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum",
        "l1tex__data_bank_conflicts_pipe_lsu.sum",
    ),
    "memory bytes": ("dram__bytes.sum",),
    "second-level cache bytes": ("lts__t_bytes.sum",),
    "waiting for memory": (STALL.format("long_scoreboard"),),
    "waiting for shared memory": (STALL.format("short_scoreboard"),),
    "waiting for the load and store queue": (STALL.format("lg_throttle"),),
    "waiting for the shared memory queue": (STALL.format("mio_throttle"),),
    "waiting for barriers": (STALL.format("barrier"),),
    "waiting for the unit": (STALL.format("math_pipe_throttle"),),
    "waiting for warpgroups": (STALL.format("gmma"),),
}
UNITS = {"byte": 1.0, "Kbyte": 1e3, "Mbyte": 1e6, "Gbyte": 1e9, "ns": 1.0, "nsecond": 1.0,
         "us": 1e3, "usecond": 1e3, "ms": 1e6, "msecond": 1e6}  # fmt: skip

Launch = Callable[[], object]


def launches(size: int) -> dict[tuple[str, str, str], Launch]:
    """What is counted, by section, case and provider; each launches one kernel."""
    import torch

    from examples import gemm
    from examples.gemm_ladder.ladder import STAGES

    a, b = (torch.randn(size, size, device="cuda").bfloat16() for _ in range(2))
    c = torch.empty_like(a)
    title = f"bf16 {size}x{size}x{size} NN"
    found: dict[tuple[str, str, str], Launch] = {
        ("ladder_counters", stage.title, "blocklang"): stage.ready(a, b, c) for stage in STAGES
    }
    tile = {"BLOCK_M": 128, "BLOCK_N": 256, "BLOCK_K": 64, "GROUP": 8, "TRANSPOSED": False}
    product = gemm.gemm[gemm.programs]
    found["counters", title, "cublas"] = lambda: torch.mm(a, b, out=c)
    found["counters", title, "blocklang"] = lambda: product(
        a, b, c, size, size, size, **tile, num_warps=8, num_stages=4
    )
    return {**found, **attention()}


def attention() -> dict[tuple[str, str, str], Launch]:
    """Full attention by both."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention

    from examples import flash_attention

    q, k, v = (torch.randn(4, 16, 4096, 128, device="cuda").bfloat16() for _ in range(3))
    o, lse = torch.empty_like(q), torch.empty(64, 4096, device="cuda")
    title = "attention, 4x4096, 16 heads of 128"

    def library() -> object:
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            return scaled_dot_product_attention(q, k, v)

    blocks = {"D": 128, "CAUSAL": False, "EVEN": True, "BM": 128, "BN": 128}
    run = flash_attention.attention[flash_attention.by_queries]
    return {
        ("counters", title, "cudnn"): library,
        ("counters", title, "blocklang"): lambda: run(
            q, k, v, o, lse, 64, 1, 4096, 4096, 128**-0.5, **blocks, num_warps=8, num_stages=2
        ),
    }


def child(size: int, names: Path) -> None:
    """Run every launch once outside and once inside of what the profiler looks at, and write down
    which they are.
    """
    import torch

    runtime, found = torch.cuda.cudart(), launches(size)
    names.write_text(json.dumps(list(found)))
    for launch in found.values():
        launch()
        torch.cuda.synchronize()
        runtime.cudaProfilerStart()
        launch()
        torch.cuda.synchronize()
        runtime.cudaProfilerStop()


def available(ncu: str) -> dict[str, str]:
    """The name of each counter that this profiler knows for this GPU."""
    listed = subprocess.run(
        [ncu, "--query-metrics"], capture_output=True, text=True, check=True
    ).stdout.split()
    known = set(listed)
    found = {}
    for label, names in COUNTERS.items():
        name = next((each for each in names if each.split(".")[0] in known), None)
        if name is None:
            print(f"no counter for {label!r}: none of {', '.join(names)}", flush=True)
        else:
            found[label] = name
    return found


def profile(ncu: str, size: int) -> tuple[list[tuple[str, str, str]], list[dict[str, Any]]]:
    """What was launched, and the counters of each launch."""
    chosen = available(ncu)
    with tempfile.TemporaryDirectory() as folder:
        log, names = Path(folder) / "log.csv", Path(folder) / "names.json"
        command = [
            ncu, "--csv", "--page", "raw", "--log-file", str(log), "--clock-control", "none",
            "--profile-from-start", "off", "--metrics", ",".join(chosen.values()),
            sys.executable, "-m", "benchmarks.counters", "--child", str(size), str(names),
        ]  # fmt: skip
        subprocess.run(command, check=True)
        lines, launched = log.read_text().splitlines(), json.loads(names.read_text())
    start = next(i for i, line in enumerate(lines) if line.startswith('"ID"'))
    header, units, *rows = csv.reader(lines[start:])
    measured = []
    for row in rows:
        by_name = dict(zip(header, zip(row, units, strict=True), strict=True))
        values: dict[str, Any] = {"kernel": by_name["Kernel Name"][0]}
        for label, name in chosen.items():
            text, unit = by_name[name]
            values[label] = float(text.replace(",", "")) * UNITS.get(unit, 1.0)
        measured.append(values)
    return launched, measured


def main() -> None:
    """Count for everything that is launched, or be the process that launches it."""
    if sys.argv[1:2] == ["--child"]:
        child(int(sys.argv[2]), Path(sys.argv[3]))
        return
    arguments = parser(__doc__.splitlines()[0])
    arguments.add_argument("--size", type=int, default=4096)
    arguments.add_argument("--ncu", default="ncu", help="the profiler")
    chosen = arguments.parse_args()
    results = Results(chosen.commit)
    cases, measured = profile(chosen.ncu, chosen.size)
    if len(cases) != len(measured):
        kernels = ", ".join(each["kernel"] for each in measured)
        raise SystemExit(f"{len(cases)} launches, but the profiler saw these kernels: {kernels}")
    for (section, case, provider), values in zip(cases, measured, strict=True):
        results.add(section, case, provider, **values)
    results.write(chosen.output)


if __name__ == "__main__":
    main()
