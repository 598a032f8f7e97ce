"""Softmax and LayerNorm on a GPU, against Triton and a copy of the same size, in one run.

    python -m benchmarks.rowwise results.json [--kernels softmax layernorm] [--shapes 4096x1024 ...]

The plain kernels of `examples/` (one row a program) meet the same kernels in Triton; both take the
best of 1 to 32 warps. The kernels for awkward shapes meet the copy. The bound is memory bandwidth:
each element is read once and written once, and a device copy shows what that costs; `of_copy` is
the share of the copy's speed.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Iterable
from typing import Any

import torch

from benchmarks import triton_rows
from benchmarks.record import Results, gpu_milliseconds, parser
from blocklang import cdiv, next_power_of_2
from examples import layernorm, softmax
from examples.resident import pieces

SHAPES = (
    "4096x1024",
    "4096x4096",
    "4096x8192",
    "4096x12345",
    "4096x16384",
    "65536x1024",
    "131072x256",
    "1024x65536",
)
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
TURNS = 3
WARPS = (1, 2, 4, 8, 16, 32)
# Twice the rounding error of the result's dtype, as a relative error of the whole matrix.
BOUNDS = {"f32": 2e-6, "bf16": 4e-3}


class Case:
    """One matrix, its reference results, and the launches of every kernel on it."""

    def __init__(self, kernel: str, rows: int, n: int, dtype: str) -> None:
        kind = DTYPES[dtype]
        self.rows, self.n, self.dtype = rows, n, dtype
        self.x = torch.randn(rows, n, device="cuda", dtype=kind)
        self.y = torch.empty_like(self.x)
        self.bytes = 2 * self.x.numel() * self.x.element_size()
        self.piece = 16 // self.x.element_size()
        self.arguments: tuple[Any, ...] = (self.x, self.y)
        if kernel == "layernorm":
            w, b = (torch.randn(n, device="cuda", dtype=kind) for _ in range(2))
            mean, rstd = (torch.empty(rows, device="cuda") for _ in range(2))
            self.arguments += (w, b, mean, rstd)
        self.tail = (1e-5,) if kernel == "layernorm" else ()
        # In slices, since float64 takes eight bytes an element.
        self.checked = slice(0, max(1, min(rows, (1 << 25) // n)))
        part = self.x[self.checked].double()
        if kernel == "softmax":
            self.reference = torch.softmax(part, -1)
        else:
            self.reference = torch.nn.functional.layer_norm(
                part, (n,), w.double(), b.double(), 1e-5
            )

    def error(self, launch: Callable[[], object]) -> float:
        """The relative error of a launch, over poisoned output."""
        self.y.fill_(float("nan"))
        launch()
        difference = self.y[self.checked].double() - self.reference
        finite = bool(torch.isfinite(self.y).all())
        return float(difference.norm() / self.reference.norm()) if finite else float("inf")


def plain(case: Case, kernel: Any, warps: int) -> Callable[[], object]:
    """One row a program, the row in one block."""
    run = kernel[(case.rows,)]
    block = next_power_of_2(case.n)
    arguments = (*case.arguments, case.n, case.n, *case.tail)
    return lambda: run(*arguments, BLOCK=block, num_warps=warps)


def short(case: Case, kernel: Any, warps: int, rows: int) -> Callable[[], object]:
    """Several rows a program."""
    run = kernel[(cdiv(case.rows, rows),)]
    block = next_power_of_2(case.n)
    arguments = (*case.arguments, case.n, case.rows, case.n, *case.tail)
    return lambda: run(*arguments, ROWS=rows, BLOCK=block, num_warps=warps)


def unaligned(case: Case, kernel: Any, warps: int) -> Callable[[], object]:
    """Aligned pieces of unaligned rows."""
    run = kernel[(case.rows,)]
    block = next_power_of_2(case.n + case.piece)
    arguments = (*case.arguments, case.n, case.n, *case.tail)
    return lambda: run(*arguments, BLOCK=block, PIECE=case.piece, num_warps=warps)


def resident(case: Case, kernel: Any, warps: int) -> Callable[[], object]:
    """Programs that stay, one on each multiprocessor as far as alignment allows, and share the
    rows.
    """
    sizes = pieces(case.n, case.x.element_size(), warps, align=32)
    count = torch.cuda.get_device_properties(0).multi_processor_count
    run = kernel[(count // sizes[0] * sizes[0],)]
    arguments = (*case.arguments, case.n, case.rows, case.n, *case.tail)
    return lambda: run(*arguments, PIECES=sizes, num_warps=warps)


def long(case: Case, kernel: Any, warps: int, block: int) -> Callable[[], object]:
    """Steps along long rows."""
    run = kernel[(case.rows,)]
    arguments = (*case.arguments, case.n, case.n, *case.tail)
    return lambda: run(*arguments, BLOCK=block, num_warps=warps)


def awkward(case: Case, name: str) -> dict[str, Callable[[], object]]:
    """The further kernels that fit the shape, by description."""
    module = {"softmax": softmax, "layernorm": layernorm}[name]
    kernel = lambda form: getattr(module, f"{name}_{form}")  # noqa: E731
    found: dict[str, Callable[[], object]] = {}
    if case.n <= 1024:
        for rows, warps in ((2, 2), (4, 4), (8, 4), (8, 8), (4, 1), (16, 4)):
            found[f"short {rows}r w{warps}"] = short(case, kernel("short"), warps, rows)
    if case.n % case.piece:
        for warps in (4, 8, 16, 32) if name == "layernorm" else ():
            found[f"unaligned w{warps}"] = unaligned(case, kernel("unaligned"), warps)
        for warps in (8, 16):
            found[f"resident w{warps}"] = resident(case, kernel("resident"), warps)
    if case.n > 16384:
        for block, warps in (
            (4096, 8),
            (8192, 16),
            (8192, 32),
            (16384, 32),
            (4096, 16),
            (16384, 16),
        ):
            found[f"long {block} w{warps}"] = long(case, kernel("long"), warps, block)
    return found


def best(launches: Iterable[tuple[str, Callable[[], object]]]) -> tuple[str, Callable[[], object]]:
    """The fastest of several launches, by a short measurement; those that cannot run are left
    out.
    """
    timed = []
    for label, launch in launches:
        try:
            launch()
            timed.append((gpu_milliseconds(launch, 30), label, launch))
        except Exception as problem:  # a configuration too large for the device
            print(f"   {label}: {str(problem).splitlines()[0][:100]}", flush=True)
    _, label, launch = min(timed, key=lambda t: t[0])
    return label, launch


def measure(results: Results, name: str, rows: int, n: int, dtype: str) -> None:
    """All providers on one matrix."""
    case = Case(name, rows, n, dtype)
    title = f"{dtype} {rows}x{n}"
    copied = gpu_milliseconds(lambda: case.y.copy_(case.x))
    results.add(name, title, "copy", ms=copied, bytes=case.bytes, rate=case.bytes / copied * 1e3)
    ours = {"softmax": softmax.softmax, "layernorm": layernorm.layernorm}[name]
    peer = getattr(triton_rows, name)
    # More than 256 elements a thread cannot stay in registers, and Triton then compiles for 20 s.
    warps = [w for w in WARPS if n <= 256 * 32 * w]
    groups = {
        "triton": [(f"w{w}", plain(case, peer, w)) for w in warps],
        "blocklang": [(f"w{w}", plain(case, ours, w)) for w in warps],
        "blocklang-shaped": list(awkward(case, name).items()),
    }
    chosen = {provider: best(launches) for provider, launches in groups.items() if launches}
    times: dict[str, list[float]] = {provider: [] for provider in chosen}
    # In turns, so that a moment's clock or neighbour is everybody's.
    for _ in range(TURNS):
        for provider, (_, launch) in chosen.items():
            times[provider].append(gpu_milliseconds(launch))
    for provider, (label, launch) in chosen.items():
        error, ms = case.error(launch), statistics.median(times[provider])
        results.add(
            name, title, provider, configuration=label, ms=ms, turns=times[provider],
            rate=case.bytes / ms * 1e3, of_copy=copied / ms, error=error,
            correct=error < BOUNDS[dtype],
        )  # fmt: skip


def main() -> None:
    """Measure what the command line asks for."""
    arguments = parser(__doc__.splitlines()[0])
    arguments.add_argument("--kernels", nargs="*", default=["softmax", "layernorm"])
    arguments.add_argument("--shapes", nargs="*", default=SHAPES)
    arguments.add_argument("--dtypes", nargs="*", default=list(DTYPES))
    chosen = arguments.parse_args()
    torch.manual_seed(0)
    results = Results(chosen.commit)
    for name in chosen.kernels:
        for dtype in chosen.dtypes:
            for shape in chosen.shapes:
                rows, n = map(int, shape.split("x"))
                measure(results, name, rows, n, dtype)
                results.write(chosen.output)
    summarize(results)


def summarize(results: Results) -> None:
    """Print our speed as a multiple of Triton's."""
    by_case: dict[tuple[str, str], dict[str, float]] = {}
    for row in results.rows:
        by_case.setdefault((row["section"], row["case"]), {})[row["provider"]] = row["ms"]
    for section in dict.fromkeys(s for s, _ in by_case):
        ratios = [t["triton"] / t["blocklang"] for (s, _), t in by_case.items() if s == section]
        mean = functools.reduce(lambda a, b: a * b, ratios) ** (1 / len(ratios))
        print(f"{section}: {mean:.3f} x Triton in the geometric mean, {min(ratios):.3f} at worst")


if __name__ == "__main__":
    main()
