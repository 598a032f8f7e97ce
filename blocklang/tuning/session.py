"""One choice of the autotuner: prune, look into the disk cache, compile, measure, compare, store.

Configurations are compiled in threads: ptxas is a process of its own, the rest takes turns. They
are measured one after the other, each run with the same contents of the arrays. A configuration
that the target refuses is left out with the reason; whatever else goes wrong is the caller's.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

from blocklang import cache
from blocklang.errors import NoConfigWorks
from blocklang.ir.diagnostics import CompileError
from blocklang.runtime import cpu, cuda
from blocklang.runtime.arrays import HOST
from blocklang.runtime.errors import CudaError, GridError, LaunchError, ModuleLoadError
from blocklang.runtime.specialise import typed_key
from blocklang.testing.measure import graph_samples, samples
from blocklang.tuning.config import Config
from blocklang.tuning.contents import Contents
from blocklang.tuning.trial import Launch, Run, Settings, Trial

# What the driver says of a launch that is too large for the GPU, and that leaves it intact.
_TOO_LARGE = ("CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "CUDA_ERROR_OUT_OF_MEMORY")
_ENTRY = "tuning"


@dataclass
class Session:
    """The search for the best of `configs` for one launch: `trials` has what was measured, `stored`
    the choice that the disk cache had instead.
    """

    launch: Launch
    configs: Sequence[Config]
    settings: Settings
    trials: list[Trial] = field(default_factory=list)
    stored: Config | None = None

    def best(self) -> Config:
        """The configuration to launch with. Raises CompileError where none works, and whatever
        the launch, hooks and pruning raise.
        """
        configs = self.candidates()
        if len(configs) == 1:
            return configs[0]
        key = self._cache_key(configs)
        self.stored = self._load(key, configs)
        if self.stored is not None:
            return self.stored
        self.trials = self.compile(configs)
        self._measure()
        if all(trial.milliseconds is None for trial in self.trials):
            raise self.nothing_works(self.trials)
        best = min(self.trials, key=lambda trial: trial.rank)
        self._store(key, best)
        return best.config

    def candidates(self) -> list[Config]:
        """The configurations that pruning leaves."""
        launch = self.launch
        name = launch.kernel.__name__
        return self.settings.pruning.apply(self.configs, name, launch.named, launch.keywords)

    def compile(self, configs: Sequence[Config]) -> list[Trial]:
        """Compile all of them at a time."""
        _ = self.launch.kernel.parameters  # Parsed once, before the threads ask for it.
        with ThreadPoolExecutor(min(len(configs), os.cpu_count() or 1)) as pool:
            return list(pool.map(self._compile, configs))

    def _compile(self, config: Config) -> Trial:
        try:
            return Trial(config, self.launch.compile(config))
        except CompileError as error:
            return Trial(config, problem=error)

    @cached_property
    def device(self) -> int:
        """The GPU that the launch is for, or HOST."""
        named = {**self.launch.named, **self.configs[0].keywords}
        return int(self.launch.kernel.specialise(named).device)

    def _measure(self) -> None:
        settings, launch = self.settings, self.launch
        # The arguments may still be written, on a stream other than that of the runs.
        self._synchronize()
        contents = Contents(
            launch.kernel.__name__, launch.named, settings.reset_to_zero, settings.restore_value
        )
        try:
            for trial in self.trials:
                if trial.problem is None:
                    self._measure_one(trial, contents)
        finally:
            contents.reset()
            if settings.pre_hook is not None:
                settings.pre_hook(dict(launch.named), reset_only=True)
            self._synchronize()

    def _synchronize(self) -> None:
        if self.device != HOST:
            with cuda.activated(self.device):
                cuda.synchronize()

    def _measure_one(self, trial: Trial, contents: Contents) -> None:
        run = Run(self.launch, trial.config, self.settings, contents)
        try:
            # The first run loads the code, and says whether the launch is possible at all.
            run.whole()
            trial.milliseconds = self._time(run)
        except (GridError, ModuleLoadError) as error:
            trial.problem = error
        except CudaError as error:
            if error.name not in _TOO_LARGE:
                raise
            trial.problem = error

    def _time(self, run: Run) -> float:
        settings = self.settings
        if settings.do_bench is not None:
            found = settings.do_bench(run.whole, quantiles=(0.5, 0.2, 0.8))
            return float(found[0] if isinstance(found, Sequence) else found)
        has_hooks = run.has_hooks
        hooks = (run.before, run.after) if has_hooks else (None, None)
        if settings.use_cuda_graph and self.device != HOST:
            return statistics.median(
                graph_samples(run.on_stream, self.device, settings.rep, *hooks)
            )
        return statistics.median(
            samples(run.alone, self.device, settings.warmup, settings.rep, *hooks)
        )

    def nothing_works(self, trials: Sequence[Trial]) -> CompileError | LaunchError:
        """The error where every configuration failed."""
        problems = [trial.problem for trial in trials if trial.problem is not None]
        if len({str(problem) for problem in problems}) == 1:
            return problems[0]
        reasons = "\n".join(f"    {trial.config}: {trial.reason}" for trial in trials)
        name = self.launch.kernel.__name__
        return NoConfigWorks(kernel=name, count=len(trials), reasons=reasons)

    def _cache_key(self, configs: Sequence[Config]) -> str | None:
        """The key of this choice on disk; None where it must not be stored.

        Each configuration's address stands for its IR (the kernel, what it calls and captures,
        dtypes, divisibility), its options, the target and the compiler.
        """
        settings = self.settings
        hooks = [settings.pre_hook, settings.post_hook, settings.do_bench]
        hooks += [config.pre_hook for config in configs]
        # What a hook does cannot be told from its text.
        if not settings.cache_results or any(hook is not None for hook in hooks):
            return None
        named = self.launch.named
        values = [(name, typed_key(named[name])) for name in self.launch.key if name in named]
        how = (settings.use_cuda_graph, settings.reset_to_zero, settings.restore_value)
        addresses = [part for config in configs for part in (str(config), self._address(config))]
        return cache.key("autotune 1", _place(self.device), repr(values), repr(how), *addresses)

    def _address(self, config: Config) -> str:
        kernel = self.launch.kernel
        try:
            specialisation = kernel.specialise({**self.launch.named, **config.keywords})
            address: str = kernel.address(specialisation)
        except CompileError as error:
            return str(error)
        return address

    def _load(self, key: str | None, configs: Sequence[Config]) -> Config | None:
        contents = cache.Cache().get(key, _ENTRY) if key else None
        if contents is None:
            return None
        position = json.loads(contents)["best"]
        return configs[position] if position < len(configs) else None

    def _store(self, key: str | None, best: Trial) -> None:
        if key is None:
            return
        times = {str(trial.config): trial.milliseconds for trial in self.trials}
        found = {"best": self.trials.index(best), "milliseconds": times}
        cache.Cache().put(key, {_ENTRY: json.dumps(found).encode()})


def _place(device: int) -> str:
    """What the times depend on besides the code."""
    if device == HOST:
        return f"CPU, {cpu.thread_count()} threads"
    found = cuda.device(device)
    return f"{found.name}, {found.multiprocessors} multiprocessors, driver {found.driver_version}"
