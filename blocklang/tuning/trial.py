"""What a session of the autotuner works with: its settings, the launch, and trials of
configurations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from blocklang.ir.diagnostics import CompileError
from blocklang.runtime.errors import LaunchError
from blocklang.tuning.config import Config, Hook
from blocklang.tuning.contents import Contents
from blocklang.tuning.prune import Pruning


@dataclass(frozen=True)
class Settings:
    """What `autotune` was told, but for configurations and key; see there."""

    pruning: Pruning
    reset_to_zero: Sequence[str] = ()
    restore_value: Sequence[str] = ()
    pre_hook: Hook | None = None
    post_hook: Hook | None = None
    warmup: float = 25
    rep: float = 100
    use_cuda_graph: bool = False
    do_bench: Callable[..., Any] | None = None
    cache_results: bool = True
    verbose: bool | None = None


@dataclass
class Trial:
    """What became of one configuration: its compiled kernel and its median time in milliseconds,
    or why it was left out.
    """

    config: Config
    kernel: Any = None
    milliseconds: float | None = None
    problem: CompileError | LaunchError | None = None

    @property
    def reason(self) -> str:
        """Why the configuration was left out, in a line; empty where it was not."""
        if self.problem is None:
            return ""
        code = f"{self.problem.code}: " if self.problem.code else ""
        return code + self.problem.message.splitlines()[0]

    @property
    def rank(self) -> float:
        """The time by which trials are sorted: infinite where there is none."""
        return float("inf") if self.milliseconds is None else self.milliseconds


@dataclass(frozen=True)
class Launch:
    """A launch for which a configuration is wanted: the kernel below the autotuner and what it is
    given. `named` are all arguments by name, `key` those that the choice depends on.
    """

    kernel: Any
    grid: Any
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    named: dict[str, Any]
    key: tuple[str, ...]

    def run(self, config: Config, **more: Any) -> Any:
        """Launch with a configuration."""
        keywords = {**self.keywords, **config.keywords, **more}
        return self.kernel[self.grid](*self.arguments, **keywords)

    def compile(self, config: Config) -> Any:
        """Compile for a configuration, as `warmup` does."""
        keywords = {**self.keywords, **config.keywords}
        return self.kernel.warmup(*self.arguments, grid=self.grid, **keywords)

    @property
    def key_text(self) -> str:
        """The values of the key, for people."""
        return ", ".join(f"{name}={self.named[name]}" for name in self.key if name in self.named)


@dataclass(frozen=True)
class Run:
    """Measured runs of one configuration, and what happens around each."""

    launch: Launch
    config: Config
    settings: Settings
    contents: Contents

    @property
    def has_hooks(self) -> bool:
        """Whether there is anything to do around a run."""
        settings = self.settings
        arrays = settings.reset_to_zero or settings.restore_value
        return bool(arrays or settings.pre_hook or settings.post_hook or self.config.pre_hook)

    def before(self) -> None:
        """Put the contents of arrays back and call the hooks."""
        self.contents.reset()
        if self.config.pre_hook is not None:
            self.config.pre_hook(self._named())
        if self.settings.pre_hook is not None:
            self.settings.pre_hook(self._named(), reset_only=False)

    def alone(self) -> Any:
        """Launch, with nothing before it; `after` if that fails."""
        try:
            return self.launch.run(self.config)
        except Exception as error:
            self.after(error)
            raise

    def on_stream(self, stream: int) -> Any:
        """Launch on a stream; where the kernel has a parameter of that name, on the current one."""
        if any(parameter.name == "stream" for parameter in self.launch.kernel.parameters):
            return self.launch.run(self.config)
        return self.launch.run(self.config, stream=stream)

    def after(self, error: Exception | None = None) -> None:
        """Call the hook."""
        if self.settings.post_hook is not None:
            self.settings.post_hook(self._named(), exception=error)

    def whole(self) -> Any:
        """All of it."""
        self.before()
        result = self.alone()
        self.after()
        return result

    def _named(self) -> dict[str, Any]:
        return {**self.launch.named, **self.config.all_kwargs()}
