"""What all benchmarks share: timing on a GPU as the peers are timed, and results written as raw
JSON with their provenance.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

PACKAGES = (
    "blocklang",
    "llvmlite",
    "cuda-bindings",
    "torch",
    "triton",
    "numpy",
    "nvidia-cuda-nvcc",
)


def environment(commit: str) -> dict[str, Any]:
    """Versions, device and commit of this run."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    import blocklang

    versions["blocklang"] = blocklang.__version__
    return {
        "commit": commit or _commit(),
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "versions": versions,
        "host": _host(),
        "gpu": _gpu(),
    }


def _commit() -> str:
    try:
        command = ["git", "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _host() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()


def _gpu() -> str | None:
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


class Results:
    """The rows of one run. Each has what was measured, its bound, and the ratio to the bound."""

    def __init__(self, commit: str = "") -> None:
        self.environment = environment(commit)
        self.rows: list[dict[str, Any]] = []

    def add(self, section: str, case: str, provider: str, **values: Any) -> None:
        """Keep and print one row."""
        self.rows.append({"section": section, "case": case, "provider": provider, **values})
        shown = " ".join(
            f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in values.items()
        )
        print(f"{section:10s} {case:24s} {provider:20s} {shown}", flush=True)

    def write(self, path: Path) -> None:
        """Write everything so far as JSON."""
        path.write_text(
            json.dumps({"environment": self.environment, "rows": self.rows}, indent=1) + "\n"
        )


def parser(description: str) -> argparse.ArgumentParser:
    """The arguments of every benchmark."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("output", type=Path, help="where the JSON goes")
    made.add_argument("--commit", default="", help="the commit measured, where git cannot tell")
    return made


FLUSHED_BYTES = 256 << 20
SHORT_RUN = 0.2
"""Milliseconds below which launching may take longer than running."""
BATCH = 10
PAUSE = 2_000_000
"""Clocks of a GPU, about a millisecond, in which the host launches a batch of short runs."""


def gpu_milliseconds(function: Callable[[], object], repetitions: int = 100) -> float:
    """The median time of `function` on the GPU, in about `repetitions` milliseconds of runs, with
    the second-level cache flushed before each, as `triton.testing.do_bench` does it.

    Of short runs the GPU waits until the host has launched a batch, so that nobody's time is that
    of launches.
    """
    import torch

    cache = torch.empty(FLUSHED_BYTES // 4, dtype=torch.int32, device="cuda")
    function()
    first = _event_times(function, 5, cache, pause=False)
    each = statistics.median(first) + 0.06  # and the time that flushing takes
    for _ in range(max(1, int(25 / each))):
        function()
    count = max(5, int(repetitions / each))
    return statistics.median(_event_times(function, count, cache, pause=each < SHORT_RUN))


def _event_times(
    function: Callable[[], object], count: int, cache: Any, pause: bool
) -> list[float]:
    """The times of `count` runs between two events each."""
    import torch

    pairs = [tuple(torch.cuda.Event(enable_timing=True) for _ in range(2)) for _ in range(count)]
    for number, (start, end) in enumerate(pairs):
        if pause and number % BATCH == 0:
            torch.cuda._sleep(PAUSE)
        cache.zero_()
        start.record()
        function()
        end.record()
    torch.cuda.synchronize()
    return [start.elapsed_time(end) for start, end in pairs]


Key = TypeVar("Key")


def in_turns(launches: Mapping[Key, Callable[[], object]], turns: int) -> dict[Key, list[float]]:
    """The milliseconds of each launch in each turn, there and back, so that a moment's clock is
    everybody's.
    """
    times: dict[Key, list[float]] = {key: [] for key in launches}
    for turn in range(turns):
        order = list(launches) if turn % 2 == 0 else list(reversed(launches))
        for key in order:
            times[key].append(gpu_milliseconds(launches[key], 15))
    return times


FINALISTS, FINAL_TURNS = 4, 8


def finalist(tuner: Any, launch: Callable[[Any], Callable[[], object]]) -> Any:
    """Of the few configurations that were fastest when `tuner` measured them briefly, the one that
    is fastest in turns; `launch` makes what launches one of them. Where nothing was measured, the
    tuner's choice.
    """
    measured = sorted((t for t in tuner.trials if t.milliseconds), key=lambda t: t.milliseconds)
    if not measured:
        return tuner.best_config
    runs = {trial.config: launch(trial.config) for trial in measured[:FINALISTS]}
    times = in_turns(runs, FINAL_TURNS)
    return min(times, key=lambda config: statistics.median(times[config]))
