"""Matrix products on a GPU, against cuBLAS and Triton, in one run.

    python -m benchmarks.gemm results.json [--sections bf16 narrow tf32 mma pointers]
        [--shapes 4096x4096x4096 ...] [--ctas 1 2]

bfloat16 comes in two layouts: NT, where b is transposed in memory, meets Triton's persistent kernel
with descriptors, NN its kernel with pointers. Ours and Triton's are tuned over lists of
configurations. `narrow` are 8-bit floats and integers; `mma` is our kernel with pointers, compiled
to PTX for GPUs before sm_90a, which the driver assembles, and `pointers` (if asked for) the same
for sm_90a. The bound is the peak of the tensor cores, or the time in which memory can bring both
matrices and take the result, whichever is longer; `of_bound` is the share of it that is reached.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

import torch

import blocklang
from benchmarks.record import Results, finalist, gpu_milliseconds, in_turns, parser
from blocklang import compile as pipeline
from blocklang.codegen.targets import gpu_target
from blocklang.runtime import cuda
from examples import gemm

SHAPES = (
    "4096x4096x4096",
    "8192x8192x8192",
    "1024x1024x1024",
    "2048x2048x2048",
    "4096x4096x16384",
    "512x8192x4096",
    "16x8192x8192",
    "8192x8192x512",
)
SECTIONS = ("bf16", "narrow", "tf32", "mma", "pointers")
# Of one H200: operations a second of dense matrices, bytes a second.
PEAKS = {"bf16": 989e12, "tf32": 494.5e12, "fp8": 1979e12, "int8": 1979e12}
BANDWIDTH = 4.8e12
# What rounding of factors, sums and results may make of the relative error of a whole matrix.
ERRORS = {"bf16": 4e-3, "tf32": 2e-3, "fp8": 2e-2, "int8": 1e-9}
TURNS = 9
# A kernel that waits forever is the end of a run, which keeps the results so far.
LONGEST_CASE = 120

Launch = Callable[[], object]


class Case:
    """One product: the matrices, and what is right."""

    def __init__(self, dtype: str, m: int, n: int, k: int, transposed: bool) -> None:
        self.dtype, self.m, self.n, self.k, self.transposed = dtype, m, n, k, transposed
        self.a, b = self.random(m, k), self.random(n, k)
        self.b = b if transposed else b.t().contiguous()
        kinds = {"bf16": torch.bfloat16, "fp8": torch.bfloat16, "tf32": torch.float32}
        self.c = torch.empty(m, n, device="cuda", dtype=kinds.get(dtype, torch.int32))
        self.reference = self.a.double() @ b.double().t()
        self.operations = 2.0 * m * n * k
        matrices = (self.a, self.b, self.c)
        size = sum(each.numel() * each.element_size() for each in matrices)
        self.bound = 1e3 * max(self.operations / PEAKS[dtype], size / BANDWIDTH)

    def random(self, rows: int, columns: int) -> torch.Tensor:
        """A matrix of the case's dtype."""
        if self.dtype == "int8":
            return torch.randint(-128, 128, (rows, columns), device="cuda", dtype=torch.int8)
        found = torch.randn(rows, columns, device="cuda")
        if self.dtype == "tf32":
            return found
        return found.to(torch.bfloat16 if self.dtype == "bf16" else torch.float8_e4m3fn)

    @property
    def title(self) -> str:
        """The case in words."""
        layout = "NT" if self.transposed else "NN"
        return f"{self.dtype} {self.m}x{self.n}x{self.k} {layout}"

    @property
    def right(self) -> torch.Tensor:
        """b as the right factor, k x n."""
        return self.b.t() if self.transposed else self.b

    def error(self, launch: Launch) -> float:
        """The relative error of a launch, over poisoned output."""
        self.c.fill_(float("nan") if self.c.is_floating_point() else 7)
        returned = launch()
        found = (returned if isinstance(returned, torch.Tensor) else self.c).double()
        if not bool(torch.isfinite(found).all()):
            return float("inf")
        return float((found - self.reference).norm() / self.reference.norm())


def cublas(case: Case, exact: bool = False) -> Launch:
    """The vendor's library, through torch; `exact` sums 8-bit floats in full float32."""
    if case.dtype == "fp8":
        one = torch.ones((), device="cuda")
        return lambda: torch._scaled_mm(
            case.a, case.right, one, one, out_dtype=torch.bfloat16, use_fast_accum=not exact
        )
    if case.dtype == "int8":
        return lambda: torch._int_mm(case.a, case.right)
    return lambda: torch.mm(case.a, case.right, out=case.c)


class Ours:
    """The kernels of `examples/gemm.py`, tuned quickly; choices are kept for this process."""

    def __init__(self, ctas: Sequence[int] = (1,)) -> None:
        self.ctas = ctas
        self.tuners: dict[Any, Any] = {}

    def tuner(self, kernel: Any) -> Any:
        """The kernel, tuned by short measurements."""
        if kernel not in self.tuners:
            # Only what reads by descriptors has anything to share between blocks of threads.
            ctas = self.ctas if kernel is gemm.gemm else (1,)
            self.tuners[kernel] = gemm.tune(kernel, ctas, warmup=1, rep=8, cache_results=False)
        return self.tuners[kernel]

    def tuned(
        self, kernel: Any, grid: Callable[[Any], Any], *arguments: Any, **keywords: Any
    ) -> tuple[str, Launch]:
        """The fastest configuration, and a launch with it. What could not run is printed."""
        tuner = self.tuner(kernel)
        tuner[grid](*arguments, **keywords)
        for trial in tuner.trials:
            if trial.problem is not None:
                print(f"   {kernel.__name__} {trial.config}: {trial.reason[:100]}", flush=True)
        sizes = dict(zip(tuner._names, arguments, strict=False))

        def launch(config: Any) -> Launch:
            chosen = {**keywords, **config.keywords}
            run = kernel[grid({**sizes, **chosen})]
            return lambda: run(*arguments, **chosen)

        config = finalist(tuner, launch)
        return str(config), launch(config)

    def plain(self, case: Case, kernel: Any = gemm.gemm) -> tuple[str, Launch]:
        """Programs that walk over tiles."""
        return self.tuned(
            kernel, gemm.programs, case.a, case.b, case.c, case.m, case.n, case.k,
            TRANSPOSED=case.transposed,
        )  # fmt: skip

    def pointers(self, case: Case, kernel: Any = gemm.gemm_pointers) -> tuple[str, Launch]:
        """One tile a program, by pointers."""
        n, k = case.n, case.k
        strides = (k, 1, 1, k, n, 1) if case.transposed else (k, 1, n, 1, n, 1)
        label, launch = self.tuned(
            kernel, gemm.tiles, case.a, case.b, case.c, case.m, n, k, *strides
        )
        return f"pointers, {label}", launch

    def split(self, case: Case, splits: int) -> tuple[str, Launch]:
        """Several programs share each sum."""
        size = case.m * case.n
        parts = torch.empty(splits, case.m, case.n, device="cuda")
        label, first = self.tuned(
            gemm.gemm_split, gemm.programs, case.a, case.b, parts, case.m, case.n, case.k, splits,
            TRANSPOSED=case.transposed, ADD=False,
        )  # fmt: skip
        run = gemm.add_parts[(blocklang.cdiv(size, 1024),)]

        def launch() -> None:
            first()
            run(parts, case.c, splits, size, BLOCK=1024)

        return f"split {splits}, {label}", launch

    def best(self, case: Case) -> tuple[str, Launch]:
        """The fastest of the kernels that suit the shape."""
        found = [self.plain(case)]
        tiles = blocklang.cdiv(case.m, 128) * blocklang.cdiv(case.n, 128)
        if case.dtype == "bf16" and tiles < gemm.gpu(case.a).multiprocessors and case.k >= 1024:
            found += [self.split(case, splits) for splits in (2, 4)]
        return min(found, key=lambda each: gpu_milliseconds(each[1], 20))


def triton(case: Case) -> tuple[str, Launch]:
    """Triton's kernel for the layout."""
    from benchmarks import triton_gemm

    if case.transposed:
        tuner, launch = triton_gemm.tuned_persistent, triton_gemm.launch_persistent
    else:
        tuner, launch = triton_gemm.tuned_pointers, triton_gemm.launch_pointers
    found = launch(case.a, case.b, case.c)
    found()
    kind = "descriptors" if case.transposed else "pointers"
    return f"{kind}, {tuner.best_config}", found


def measure(
    results: Results, case: Case, makers: dict[str, Callable[[Case], tuple[str, Launch]]],
    title: str = "",
) -> None:  # fmt: skip
    """All providers on one product, in turns."""
    faulthandler.dump_traceback_later(LONGEST_CASE, exit=True)
    chosen: dict[str, tuple[str, Launch]] = {}
    for provider, make in makers.items():
        try:
            chosen[provider] = make(case)
            chosen[provider][1]()
            torch.cuda.synchronize()
        except Exception as problem:  # none of its configurations works: the others still count
            chosen.pop(provider, None)
            lines = str(problem).splitlines() or [type(problem).__name__]
            print(f"   {case.title} {provider}: {lines[0][:200]}", flush=True)
    times = in_turns({provider: made[1] for provider, made in chosen.items()}, TURNS)
    for provider, (label, launch) in chosen.items():
        error, ms = case.error(launch), statistics.median(times[provider])
        results.add(
            "gemm", title or case.title, provider, configuration=label, ms=ms,
            turns=times[provider], rate=case.operations / ms * 1e3, of_bound=case.bound / ms,
            bound=case.operations / case.bound * 1e3, error=error,
            correct=error < ERRORS[case.dtype],
        )  # fmt: skip
    faulthandler.cancel_dump_traceback_later()


@contextmanager
def older_target(name: str) -> Iterator[None]:
    """Kernels are compiled to PTX for an older GPU, with configurations for which it has room:
    products by mma.sync, copies by cp.async. The driver assembles it for the one that is there.
    """
    room = gpu_target(name).shared_bytes
    device = dataclasses.replace(cuda.device(0), shared_bytes_per_block=room)
    with (
        mock.patch.object(gemm, "gpu", return_value=device),
        mock.patch.object(cuda.Device, "target", property(lambda device: name)),
        mock.patch.object(pipeline, "ptxas", return_value=None),
    ):
        yield


def measure_section(name: str, results: Results, ours: Ours, shapes: list[str]) -> None:
    """The cases of one section."""
    library = {"cublas": lambda case: ("", cublas(case))}
    both = {**library, "blocklang": ours.best}
    if name == "bf16":
        for shape in shapes:
            for transposed in (True, False):
                case = Case("bf16", *map(int, shape.split("x")), transposed)
                persistent = transposed and case.m >= 128
                peers = {"triton": triton} if persistent or not transposed else {}
                measure(results, case, {**library, **peers, "blocklang": ours.best})
    elif name == "narrow":
        exact = {"cublas-exact": lambda case: ("", cublas(case, exact=True))}
        for size in (8192, 4096):
            measure(results, Case("fp8", size, size, size, True), {**both, **exact})
        measure(results, Case("int8", 8192, 8192, 8192, True), both)
    elif name == "tf32":
        torch.backends.cuda.matmul.allow_tf32 = True
        for size in (8192, 4096):
            measure(results, Case("tf32", size, size, size, True), both)
        torch.backends.cuda.matmul.allow_tf32 = False
    elif name == "mma":
        case = Case("bf16", 4096, 4096, 4096, True)
        for target in ("sm_90", "sm_80"):
            fresh = blocklang.jit(gemm.gemm_pointers.__wrapped__)
            makers = {"blocklang": partial(ours.pointers, kernel=fresh)}
            with older_target(target):
                measure(results, case, {**library, **makers}, f"{case.title}, for {target}")
    else:
        case = Case("bf16", 4096, 4096, 4096, False)
        makers = {**library, "triton": triton, "blocklang": ours.pointers}
        measure(results, case, makers, f"{case.title}, pointers")


def main() -> None:
    """Measure what the command line asks for."""
    arguments = parser(__doc__.splitlines()[0])
    arguments.add_argument("--sections", nargs="*", choices=SECTIONS, default=SECTIONS[:-1])
    arguments.add_argument("--shapes", nargs="*", default=SHAPES)
    arguments.add_argument("--ctas", nargs="*", type=int, default=[1], help="blocks of a program")
    chosen = arguments.parse_args()
    torch.manual_seed(0)
    results, ours, start = Results(chosen.commit), Ours(chosen.ctas), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(BLOCKLANG_CACHE_DIR=folder, TRITON_CACHE_DIR=folder)
        for name in chosen.sections:
            measure_section(name, results, ours, chosen.shapes)
            results.write(chosen.output)
            print(f"{name}: {time.perf_counter() - start:.0f} s so far", flush=True)
    summarize(results)


def summarize(results: Results) -> None:
    """Print our speed as a multiple of the others'."""
    by_case: dict[str, dict[str, float]] = {}
    for row in results.rows:
        if row["section"] == "gemm":
            by_case.setdefault(row["case"], {})[row["provider"]] = row["ms"]
    for peer in ("cublas", "triton"):
        ratios = [
            t[peer] / t["blocklang"] for t in by_case.values() if peer in t and "blocklang" in t
        ]
        if ratios:
            mean = statistics.geometric_mean(ratios)
            print(f"{mean:.3f} x {peer} in the geometric mean, {min(ratios):.3f} at worst")


if __name__ == "__main__":
    main()
