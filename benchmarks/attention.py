"""Attention on a GPU, against cuDNN, FlashAttention-2 and Triton, in one run.

    python -m benchmarks.attention results.json [--sections forward wide backward]
        [--lengths 1024 4096 16384]

bfloat16, 16384 positions in all, heads of 64 (32 of them), 128 (16) and, in `wide`, 256 (8). cuDNN
and FlashAttention-2 are those of torch; Triton's kernel and ours are tuned over lists of
configurations. Operations are counted as 4 for each pair of query and key and element of a head,
half of that under a causal mask, 2.5 times as many for the backward pass. The bound is the peak of
the tensor cores, or the time that the exponentials take, whichever is longer; `of_bound` is the
share of it that is reached.
"""

from __future__ import annotations

import faulthandler
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.record import Results, finalist, gpu_milliseconds, in_turns, parser
from examples import flash_attention as ours

SECTIONS = ("forward", "wide", "backward")
LENGTHS = (1024, 4096, 16384)
POSITIONS = 16384
HEADS = {64: 32, 128: 16, 256: 8}
# Of one H200: operations a second of dense 16-bit matrices; exponentials, 16 a clock on each of 132
# multiprocessors, at the clock of that peak.
PEAK = 989e12
EXPONENTIALS = 16 * 132 * 1.83e9
# Rounding of probabilities and results to bfloat16, of what the gradients are made of three times.
ERRORS = {"attention": 5e-3, "attention_backward": 1.5e-2}
TURNS = 9
# A kernel that waits forever is the end of a run, which keeps the results so far.
LONGEST_CASE = 120
BACKENDS = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash2": SDPBackend.FLASH_ATTENTION}

Launch = Callable[[], object]
# What is launched, how it was configured, and the results that a launch returns or has written.
Made = tuple[str, Launch, Callable[[], list[torch.Tensor]]]


class Case:
    """One size: arrays, and what is right for a part of the results."""

    section = "attention"
    factor = 1.0

    def __init__(self, length: int, size: int, causal: bool) -> None:
        self.length, self.size, self.causal = length, size, causal
        shape = (POSITIONS // length, HEADS[size], length, size)
        self.q, self.k, self.v = (self.random(shape) for _ in range(3))
        self.o = torch.empty_like(self.q)
        self.lse = torch.empty(shape[:3], device="cuda")
        pairs = shape[0] * shape[1] * length * length * (0.5 if causal else 1)
        self.operations = 4 * pairs * size * self.factor
        self.bound = 1e3 * max(self.operations / PEAK, pairs / EXPONENTIALS)
        self.reference = self.exact()

    def random(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Random normal numbers."""
        return torch.randn(shape, device="cuda", dtype=torch.bfloat16)

    @property
    def title(self) -> str:
        """The case in words."""
        batch, heads = self.q.shape[:2]
        mask = "causal" if self.causal else "full"
        return f"{batch}x{self.length}, {heads} heads of {self.size}, {mask}"

    def exact(self) -> list[torch.Tensor]:
        """The first and the last queries of the last head, in float64."""
        rows = self.checked
        q, k, v = (x[-1, -1].double() for x in (self.q, self.k, self.v))
        scores = q[rows] @ k.T * self.size**-0.5
        if self.causal:
            seen = torch.arange(self.length, device="cuda") <= rows[:, None]
            scores = scores.masked_fill(~seen, -float("inf"))
        return [torch.softmax(scores, -1) @ v]

    @property
    def checked(self) -> torch.Tensor:
        """The numbers of the queries that are checked."""
        every = torch.arange(self.length, device="cuda")
        return torch.cat([every[:256], every[-256:]])

    def part(self, results: list[torch.Tensor]) -> list[torch.Tensor]:
        """Of results, what there is a reference for."""
        return [x[-1, -1][self.checked] for x in results]

    def error(self, launch: Launch, results: Callable[[], list[torch.Tensor]]) -> float:
        """The largest relative error of a result, over poisoned arrays."""
        for x in self.written():
            x.fill_(float("nan"))
        launch()
        found = results()
        if not all(bool(torch.isfinite(x).all()) for x in found):
            return float("inf")
        pairs = zip(self.part(found), self.reference, strict=True)
        return max(float((x.double() - y).norm() / y.norm()) for x, y in pairs)

    def written(self) -> list[torch.Tensor]:
        """The arrays that our kernels write."""
        return [self.o, self.lse]

    def library(self, backend: SDPBackend) -> Made:
        """A kernel of torch's libraries."""
        held: list[torch.Tensor] = []

        def launch() -> None:
            with sdpa_kernel(backend):
                held[:] = [
                    scaled_dot_product_attention(self.q, self.k, self.v, is_causal=self.causal)
                ]

        return "", launch, lambda: held

    def triton(self) -> Made:
        """Triton's kernel."""
        from benchmarks import triton_attention as peer

        launch = peer.launch(self.q, self.k, self.v, self.o, self.lse, self.causal)
        launch()
        return str(peer.tuned.best_config), launch, lambda: [self.o]

    def blocklang(self, tuned: Tuned) -> Made:
        """Our kernel."""
        *counts, size = ours.sizes(self.q, self.k, None)
        label, launch = tuned.launch(
            ours.attention, ours.FORWARD, ours.by_queries, self.q, self.k, self.v, self.o, self.lse,
            *counts, D=size, CAUSAL=self.causal,
        )  # fmt: skip
        return label, launch, lambda: [self.o]


class BackwardCase(Case):
    """The backward pass of one size."""

    section = "attention_backward"
    factor = 2.5

    def exact(self) -> list[torch.Tensor]:
        """The gradients of the last head, in float64."""
        self.do = self.random(self.q.shape)
        self.gradients = [torch.empty_like(self.q) for _ in range(3)]
        q, k, v = (x[-1, -1].double().requires_grad_() for x in (self.q, self.k, self.v))
        scores = q @ k.T * self.size**-0.5
        if self.causal:
            scores = scores.masked_fill(
                torch.ones_like(scores, dtype=torch.bool).triu(1), -float("inf")
            )
        o = torch.softmax(scores, -1) @ v
        return list(torch.autograd.grad(o, (q, k, v), self.do[-1, -1].double()))

    def part(self, results: list[torch.Tensor]) -> list[torch.Tensor]:
        """Of results, what there is a reference for."""
        return [x[-1, -1] for x in results]

    def written(self) -> list[torch.Tensor]:
        """The arrays that our kernels write."""
        return self.gradients

    def library(self, backend: SDPBackend) -> Made:
        """The backward pass of torch's libraries."""
        leaves = [x.detach().requires_grad_() for x in (self.q, self.k, self.v)]
        with sdpa_kernel(backend):
            o = scaled_dot_product_attention(*leaves, is_causal=self.causal)
        held: list[torch.Tensor] = []

        def launch() -> None:
            held[:] = torch.autograd.grad(o, leaves, self.do, retain_graph=True)

        return "", launch, lambda: held

    def blocklang(self, tuned: Tuned) -> Made:
        """Our three kernels, the last two tuned by themselves."""
        ours.launch(self.q, self.k, self.v, self.o, self.lse, self.causal)
        heads, group, rows, keys, scale, size = ours.sizes(self.q, self.k, None)
        room = ours.padded(rows)
        stats = torch.empty(heads, 2, room, device="cuda")
        prepare = ours.attention_backward_rows[(room // 32, heads)]
        first = (self.o, self.do, self.lse, stats, rows, room)
        prepare(*first, D=size, BM=32)
        counts = (stats, heads, group, rows, room, keys, scale)
        inputs, (dq, dk, dv) = (self.q, self.k, self.v, self.do), self.gradients
        options = {"D": size, "CAUSAL": self.causal}
        of_keys, run_keys = tuned.launch(
            ours.attention_backward_keys, ours.BACKWARD_KEYS, ours.by_keys,
            *inputs, dk, dv, *counts, **options,
        )  # fmt: skip
        of_queries, run_queries = tuned.launch(
            ours.attention_backward_queries, ours.BACKWARD_QUERIES, ours.by_queries,
            *inputs, dq, *counts, **options,
        )  # fmt: skip

        def launch() -> None:
            prepare(*first, D=size, BM=32)
            run_keys()
            run_queries()

        parts = {"keys": run_keys, "queries": run_queries}
        times = ", ".join(f"{name} {gpu_milliseconds(f, 20):.3f} ms" for name, f in parts.items())
        print(f"   {self.title}: {times}", flush=True)
        return f"keys {of_keys}; queries {of_queries}", launch, lambda: self.gradients


class Tuned:
    """Our kernels, tuned quickly; choices are kept for this process."""

    def __init__(self) -> None:
        self.tuners: dict[Any, Any] = {}

    def launch(
        self, kernel: Any, table: Any, grid: Callable[[Any], Any], *arguments: Any, **keywords: Any
    ) -> tuple[str, Launch]:
        """The fastest configuration, and a launch with it. What could not run is printed."""
        if kernel not in self.tuners:
            self.tuners[kernel] = ours.tune(kernel, table, warmup=1, rep=8, cache_results=False)
        tuner = self.tuners[kernel]
        tuner[grid](*arguments, **keywords)
        for trial in tuner.trials:
            if trial.problem is not None:
                print(f"   {kernel.__name__} {trial.config}: {trial.reason[:100]}", flush=True)
        run = tuner.fn[grid]

        def made(config: Any) -> Launch:
            return lambda: run(*arguments, **keywords, **config.keywords)

        config = finalist(tuner, made)
        return str(config), made(config)


def measure(results: Results, case: Case, makers: dict[str, Callable[[], Made]]) -> None:
    """All providers on one size, in turns."""
    faulthandler.dump_traceback_later(LONGEST_CASE, exit=True)
    chosen: dict[str, Made] = {}
    for provider, make in makers.items():
        try:
            chosen[provider] = make()
            chosen[provider][1]()
            torch.cuda.synchronize()
        except Exception as problem:  # it cannot do this size: the others still count
            chosen.pop(provider, None)
            lines = str(problem).splitlines() or [type(problem).__name__]
            print(f"   {case.title} {provider}: {lines[0][:200]}", flush=True)
    times = in_turns({provider: made[1] for provider, made in chosen.items()}, TURNS)
    for provider, (label, launch, found) in chosen.items():
        error, ms = case.error(launch, found), statistics.median(times[provider])
        results.add(
            case.section, case.title, provider, configuration=label, ms=ms, turns=times[provider],
            rate=case.operations / ms * 1e3, of_bound=case.bound / ms,
            bound=case.operations / case.bound * 1e3, error=error,
            correct=error < ERRORS[case.section],
        )  # fmt: skip
    faulthandler.cancel_dump_traceback_later()


def providers(case: Case, tuned: Tuned, with_triton: bool) -> dict[str, Callable[[], Made]]:
    """Who takes part in a case."""
    found: dict[str, Callable[[], Made]] = {
        name: lambda backend=backend: case.library(backend)  # type: ignore[misc]
        for name, backend in BACKENDS.items()
    }
    if with_triton:
        found["triton"] = case.triton
    found["blocklang"] = lambda: case.blocklang(tuned)
    return found


def measure_section(name: str, results: Results, tuned: Tuned, lengths: list[int]) -> None:
    """The cases of one section."""
    masks, form = (False, True), BackwardCase if name == "backward" else Case
    if name == "wide":
        made = [(4096, 256, False)]
    elif name == "backward":
        made = [(4096, 128, causal) for causal in masks]
    else:
        made = [(n, size, causal) for size in (128, 64) for n in lengths for causal in masks]
    for each in made:
        case = form(*each)
        measure(results, case, providers(case, tuned, with_triton=name == "forward"))


def main() -> None:
    """Measure what the command line asks for."""
    arguments = parser(__doc__.splitlines()[0])
    arguments.add_argument("--sections", nargs="*", choices=SECTIONS, default=SECTIONS)
    arguments.add_argument("--lengths", nargs="*", type=int, default=LENGTHS)
    chosen = arguments.parse_args()
    torch.manual_seed(0)
    results, tuned, start = Results(chosen.commit), Tuned(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(BLOCKLANG_CACHE_DIR=folder, TRITON_CACHE_DIR=folder)
        for name in chosen.sections:
            measure_section(name, results, tuned, chosen.lengths)
            results.write(chosen.output)
            print(f"{name}: {time.perf_counter() - start:.0f} s so far", flush=True)
    summarize(results)


def summarize(results: Results) -> None:
    """Print our speed as a multiple of the others'."""
    by_case: dict[tuple[str, str], dict[str, float]] = {}
    for row in results.rows:
        if row["section"] in ERRORS:
            by_case.setdefault((row["section"], row["case"]), {})[row["provider"]] = row["ms"]
    for section in ERRORS:
        for peer in (*BACKENDS, "triton"):
            ratios = [
                times[peer] / times["blocklang"]
                for (which, _), times in by_case.items()
                if which == section and peer in times and "blocklang" in times
            ]
            if ratios:
                mean = statistics.geometric_mean(ratios)
                print(f"{section}: {mean:.3f} x {peer} in the mean, {min(ratios):.3f} at worst")


if __name__ == "__main__":
    main()
