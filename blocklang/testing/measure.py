"""How long something takes: on a GPU by CUDA events or CUDA graphs, on the CPU by the clock.

Times are in milliseconds. On a GPU each measured run finds a cold second-level cache; a CUDA graph
repeats without pause and finds it warm. `samples` and `graph_samples` are what the autotuner uses.
"""

from __future__ import annotations

import inspect
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from time import perf_counter
from typing import Any, Final, Literal

import numpy as np

from blocklang.runtime import cuda
from blocklang.runtime.arrays import HOST, classify
from blocklang.runtime.errors import LaunchError, StreamError
from blocklang.runtime.timing import Action, CacheFlush, Graph, side_stream, time_runs

ReturnMode = Literal["mean", "median", "min", "max", "all"]

_RETURNED: Final[dict[str, Callable[[list[float]], Any]]] = {
    "mean": statistics.fmean,
    "median": statistics.median,
    "min": min,
    "max": max,
    "all": list,
}
_ESTIMATING_RUNS: Final = 5
_GRAPH_REPLAYS: Final = 10


def do_bench(
    fn: Callable[[], Any],
    warmup: float = 25,
    rep: float = 100,
    grad_to_none: Iterable[Any] | None = None,
    quantiles: Sequence[float] | None = None,
    return_mode: ReturnMode = "mean",
    device: int | None = None,
) -> Any:
    """The run time of `fn()`, measured for about `rep` milliseconds after `warmup` milliseconds.

    Returns the mean, median, minimum or maximum of the runs as `return_mode` says, or the list of
    `all`; with `quantiles` those instead (one quantile as a number). `.grad` of each tensor in
    `grad_to_none` is set to None before each run. `device` is a GPU's number, or -1 for the CPU;
    without it, the place of what `fn` returns (a launch returns its kernel, which knows), else the
    current GPU, else the CPU.
    """
    summary = _summary(quantiles, return_mode)
    result = fn()
    where = _place(result) if device is None else device
    tensors = list(grad_to_none or ())

    def forget_gradients() -> None:
        for tensor in tensors:
            tensor.grad = None

    return summary(samples(fn, where, warmup, rep, before_each=forget_gradients))


def do_bench_cudagraph(
    fn: Callable[..., Any],
    rep: float = 20,
    grad_to_none: Iterable[Any] | None = None,
    quantiles: Sequence[float] | None = None,
    return_mode: ReturnMode = "mean",
    device: int | None = None,
) -> Any:
    """The run time of `fn` within a CUDA graph that repeats it: without the host's overhead.

    The graph captures what `fn` launches on a stream of its own, which is torch's and CuPy's
    current stream meanwhile; where `fn` has a parameter `stream`, it is given the handle. For the
    other arguments see `do_bench`. Raises LaunchError where there is no GPU, and StreamError where
    `fn` has no way to launch on that stream.
    """
    summary = _summary(quantiles, return_mode)
    run = _on_stream(fn)
    cuda.driver()
    tensors = list(grad_to_none or ())

    def forget_gradients_and_run(stream: int) -> None:
        for tensor in tensors:
            tensor.grad = None
        run(stream)

    where = cuda.current_device() if device is None else device
    return summary(graph_samples(forget_gradients_and_run, where, rep))


def samples(
    run: Action,
    device: int,
    warmup: float,
    rep: float,
    before_each: Action | None = None,
    after_each: Action | None = None,
) -> list[float]:
    """Times of single runs: `warmup` milliseconds of them unmeasured, then `rep` milliseconds.

    At least one run is measured. `run` has run before, and so has compiled whatever it needs.
    """
    flush = None if device == HOST else CacheFlush(device)

    def prepare() -> None:
        if before_each is not None:
            before_each()
        # Last: what comes before would warm the cache again.
        if flush is not None:
            flush()

    def timed(repetitions: int) -> list[float]:
        return time_runs(
            run, repetitions, device=device, before_each=prepare, after_each=after_each
        )

    # By the clock, since flushing and hooks take their time as well.
    start, runs = perf_counter(), 0
    first: list[float] = []
    while runs < _ESTIMATING_RUNS and 1000 * (perf_counter() - start) <= warmup + rep:
        first += timed(1)
        runs += 1
    each = 1000 * (perf_counter() - start) / max(runs, 1)
    if each >= warmup + rep:
        return first
    timed(int(warmup / max(each, 1e-6)))
    return timed(max(1, int(rep / max(each, 1e-6))))


def graph_samples(
    run: Callable[[int], object],
    device: int,
    rep: float,
    before_each: Action | None = None,
    after_each: Action | None = None,
) -> list[float]:
    """Times of `run(stream)` replayed from CUDA graphs, measured for about `rep` milliseconds.

    Something to do before or after each run makes graphs of a single run, replayed one by one.
    """
    with side_stream(device) as stream:
        # What was done on other streams is not waited for by this one.
        cuda.synchronize()
        run(stream)
        cuda.synchronize(stream)

        def replay(graph: Graph, replays: int) -> list[float]:
            return time_runs(
                graph.launch, replays, device=device, stream=stream,
                before_each=before_each, after_each=after_each,
            )  # fmt: skip

        single = Graph(run, stream)
        each = statistics.fmean(replay(single, _ESTIMATING_RUNS))
        runs = max(1, int(rep / max(each, 1e-6)))
        if before_each is not None or after_each is not None:
            return replay(single, runs)
        repetitions = max(1, runs // _GRAPH_REPLAYS)
        graph = Graph(run, stream, repetitions)
        return [time / repetitions for time in replay(graph, _GRAPH_REPLAYS)]


def _summary(
    quantiles: Sequence[float] | None, return_mode: str
) -> Callable[[list[float]], float | list[float]]:
    if return_mode not in _RETURNED:
        raise ValueError(f"return_mode is {return_mode!r}; expected {', '.join(_RETURNED)}")
    if quantiles is None:
        return _RETURNED[return_mode]

    def at_quantiles(times: list[float]) -> float | list[float]:
        found = np.quantile(times, quantiles).tolist()
        return found[0] if len(found) == 1 else found

    return at_quantiles


def _place(result: Any) -> int:
    """Where a function that returned `result` has worked."""
    known = getattr(result, "device", None)
    if type(known) is int:
        return known
    if result is not None:
        try:
            argument = classify(result)
        except LaunchError:
            pass
        else:
            if argument.kind == "array":
                return argument.device
    return cuda.current_device() if cuda.available() else HOST


def _on_stream(fn: Callable[..., Any]) -> Callable[[int], Any]:
    if "stream" in inspect.signature(fn).parameters:
        return lambda stream: fn(stream=stream)
    if not {"torch", "cupy"} & set(sys.modules):
        raise StreamError(
            "without torch or CuPy, a function has no current stream that a graph could capture",
            "give it a parameter stream, and launch with kernel[grid](..., stream=stream)",
        )
    return lambda stream: fn()
