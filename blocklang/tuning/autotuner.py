"""The autotuner: remembers for each key which configuration was fastest, and launches with it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cached_property
from typing import Any

from blocklang import environment
from blocklang.errors import KeyNotPlain
from blocklang.runtime.arrays import classify
from blocklang.runtime.specialise import MISSING, Specialisation, typed_key
from blocklang.tuning import table
from blocklang.tuning.config import Config, Hook
from blocklang.tuning.contents import describe
from blocklang.tuning.decorator import KernelDecorator
from blocklang.tuning.prune import Pruning
from blocklang.tuning.session import Session
from blocklang.tuning.trial import Launch, Settings, Trial

# Arguments that need no look to know that they are no arrays.
_PLAIN = frozenset({int, float, bool, type(None)})


class Autotuner(KernelDecorator):
    """A kernel whose launches choose the fastest of several configurations.

    `best_config` is that of the latest launch, `cache` has the choice for each key so far, and
    `trials` what was found when the latest choice was measured, in the order of `configs`.
    """

    decorator = "autotune"

    def __init__(
        self, fn: Any, configs: Sequence[Config], key: Sequence[str], settings: Settings
    ) -> None:
        super().__init__(fn)
        self.configs = list(configs) or [Config({})]
        self.key = tuple(key)
        self.settings = settings
        self.best_config: Config | None = None
        self.cache: dict[Hashable, Config] = {}
        self.trials: list[Trial] = []
        # Measurements at the same time would disturb each other.
        self._lock = threading.RLock()

    def _launch(self, grid: Any, *arguments: Any, **keywords: Any) -> Any:
        if len(arguments) > self._leading or not self._chosen.isdisjoint(keywords):
            self._reject_given(self._chosen, arguments, keywords)
        named = self.named(arguments, keywords)
        key = self._key_of(named)
        config = self.cache.get(key)
        if config is None:
            config = self._choose(key, self._session(grid, arguments, keywords))
        self.best_config = config
        if config.pre_hook is not None:
            config.pre_hook({**named, **config.all_kwargs()})
        return self.fn[grid](*arguments, **keywords, **config.keywords)

    def warmup(self, *arguments: Any, grid: Any = (1,), **keywords: Any) -> list[Any]:
        """Compile every configuration that pruning leaves for these arguments, without running.

        Returns the compiled kernels. Raises CompileError where none can be compiled.
        """
        self._reject_given(self._chosen, arguments, keywords)
        session = self._session(grid, arguments, keywords)
        trials = session.compile(session.candidates())
        kernels = [trial.kernel for trial in trials if trial.problem is None]
        if not kernels:
            raise session.nothing_works(trials)
        return kernels

    def specialise(self, arguments: Mapping[str, Any]) -> Specialisation:
        """What a launch with these arguments and options, by name, is compiled for.

        The options and values of a configuration are among them, or at their defaults.
        """
        found: Specialisation = self.fn.specialise(arguments)
        return found

    def _choose(self, key: Hashable, session: Session) -> Config:
        with self._lock:
            config = self.cache.get(key)
            if config is not None:
                return config
            try:
                config = self.cache[key] = session.best()
            finally:
                self.trials = session.trials
                if self._prints():
                    table.show(session)
        return config

    def _prints(self) -> bool:
        chosen = self.settings.verbose
        return environment.PRINT_AUTOTUNING.get() if chosen is None else chosen

    def _session(
        self, grid: Any, arguments: tuple[Any, ...], keywords: Mapping[str, Any]
    ) -> Session:
        # A stream is that of the launch alone: measuring has its own.
        given = {name: value for name, value in keywords.items() if name != self._stream}
        named = self.named(arguments, given)
        launch = Launch(self.fn, grid, arguments, given, named, self.key)
        return Session(launch, self.configs, self.settings)

    def _key_of(self, named: Mapping[str, Any]) -> Hashable:
        """The values of `key`, and dtype and place of every array."""
        parts: list[Hashable] = []
        try:
            for name in self.key:
                parts.append(typed_key(named.get(name, MISSING)))
        except TypeError:
            raise self._not_plain(name, named) from None
        for name in self._runtime:
            value = named.get(name)
            if value.__class__ in _PLAIN:
                continue
            argument = classify(value)
            if argument.kind == "array":
                if name in self.key:
                    raise self._not_plain(name, named)
                parts.append((name, argument.dtype, argument.device))
        return tuple(parts)

    def _not_plain(self, name: str, named: Mapping[str, Any]) -> KeyNotPlain:
        return KeyNotPlain(name=name, kernel=self.__name__, found=describe(named[name]))

    @cached_property
    def _chosen(self) -> frozenset[str]:
        """What configurations set; also the first look at what `autotune` was told."""
        settings = self.settings
        self._require_parameters(self.key, "the key of autotune")
        self._require_parameters(settings.reset_to_zero, "reset_to_zero of autotune")
        self._require_parameters(settings.restore_value, "restore_value of autotune")
        for config in self.configs:
            self._require_parameters(config.kwargs, f"the configuration {config}")
        return frozenset(name for config in self.configs for name in config.keywords)

    @cached_property
    def _leading(self) -> int:
        """How many arguments may be given by position before one that is chosen."""
        positions = [i for i, name in enumerate(self._names) if name in self._chosen]
        return min(positions, default=len(self._names))

    @cached_property
    def _runtime(self) -> list[str]:
        return [p.name for p in self.parameters if not p.constexpr and p.name not in self._chosen]

    @cached_property
    def _stream(self) -> str | None:
        return None if "stream" in self._names else "stream"


def autotune(
    configs: Sequence[Config],
    key: Sequence[str],
    prune_configs_by: Mapping[str, Any] | None = None,
    reset_to_zero: Sequence[str] | None = None,
    restore_value: Sequence[str] | None = None,
    pre_hook: Hook | None = None,
    post_hook: Hook | None = None,
    warmup: float | None = None,
    rep: float | None = None,
    use_cuda_graph: bool = False,
    do_bench: Callable[..., Any] | None = None,
    cache_results: bool = True,
    verbose: bool | None = None,
) -> Callable[[Any], Autotuner]:
    """Launch a kernel with the fastest of several configurations:

        @blocklang.autotune(
            [blocklang.Config({"BLOCK": block}, num_warps=warps)
             for block in (512, 1024) for warps in (4, 8)],
            key=["n"],
        )
        @blocklang.jit
        def kernel(x, n, BLOCK: bl.constexpr): ...

    The first launch for new values of the parameters in `key`, new dtypes of arrays or another
    device compiles and measures all `configs`; results are kept on disk for later processes, unless
    `cache_results` is false or there are hooks, which may do anything.

    Measuring runs the kernel many times on the caller's arrays. Those in `reset_to_zero` are zeroed
    before each run, those in `restore_value` get their contents back, and so do all of them before
    the launch that was asked for. `pre_hook(arguments, reset_only)` is called before each measured
    run, and once after the last with `reset_only` true; `post_hook(arguments, exception)` after
    each.

    `prune_configs_by` may have `early_config_prune(configs, arguments, **keywords)`, which returns
    those worth trying, and `perf_model(**arguments)`, which foretells a time, with `top_k`, how
    many of the best by it are tried. `warmup` and `rep` are milliseconds (25 and 100);
    `do_bench(run, quantiles)` measures instead of `blocklang.testing`. `verbose` prints a table, by
    default if BLOCKLANG_PRINT_AUTOTUNING is set.

    Raises CompileError for mistakes in all this at the first launch, and where no configuration
    works.
    """
    settings = Settings(
        Pruning(prune_configs_by),
        tuple(reset_to_zero or ()),
        tuple(restore_value or ()),
        pre_hook,
        post_hook,
        25 if warmup is None else warmup,
        100 if rep is None else rep,
        use_cuda_graph,
        do_bench,
        cache_results,
        verbose,
    )
    return lambda fn: Autotuner(fn, configs, key, settings)
