"""One candidate of the autotuner: values of parameters, and options of the compilation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from blocklang.errors import UnknownCompileOption
from blocklang.options import DEFAULTS, Options

Hook = Callable[..., object]


class Config:
    """Values for parameters of a kernel (`kwargs`) and options of its compilation.

    Options are those of `blocklang.options.Options`, by keyword; each is also an attribute, at its
    default where it was not given. `pre_hook` is called with all arguments by name before every
    launch with this configuration, measured or not. Raises CompileError for options that do not
    exist or are out of range.
    """

    def __init__(
        self, kwargs: Mapping[str, Any], *, pre_hook: Hook | None = None, **options: Any
    ) -> None:
        unknown = set(options) - set(DEFAULTS)
        if unknown:
            raise UnknownCompileOption(name=min(unknown), known=", ".join(DEFAULTS))
        Options(**options)
        self.kwargs = dict(kwargs)
        self.options = options
        self.pre_hook = pre_hook
        self.keywords: dict[str, Any] = {**self.kwargs, **options}
        """What a launch with this configuration is given."""

    def __getattr__(self, name: str) -> Any:
        # Only called for what is not set above.
        if name in DEFAULTS:
            return self.options.get(name, DEFAULTS[name])
        raise AttributeError(f"a Config has no attribute {name!r}")

    def all_kwargs(self) -> dict[str, Any]:
        """Values and all options by name, those that were not given at their defaults."""
        return {**DEFAULTS, **self.keywords}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Config):
            return NotImplemented
        return (self.all_kwargs(), self.pre_hook) == (other.all_kwargs(), other.pre_hook)

    def __hash__(self) -> int:
        return hash((tuple(sorted(self.kwargs)), self.pre_hook))

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.keywords.items()) or "defaults"

    def __repr__(self) -> str:
        return f"<Config {self}>"
