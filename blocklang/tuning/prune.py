"""Leaving configurations out before anything is compiled: `prune_configs_by`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from blocklang.errors import NothingLeft, UnknownPruning
from blocklang.tuning.config import Config

_ENTRIES: Final = ("perf_model", "top_k", "early_config_prune")


class Pruning:
    """What `prune_configs_by` says: `early_config_prune(configs, named, **keywords)` returns the
    configurations worth trying; then the `top_k` are kept (a number, or a share as a float) for
    which `perf_model(**arguments and options)` foretells the shortest times.
    """

    def __init__(self, entries: Mapping[str, Any] | None) -> None:
        entries = entries or {}
        known = ", ".join(_ENTRIES)
        for name in entries:
            if name not in _ENTRIES:
                raise UnknownPruning(problem=f"has no entry {name!r}", known=known)
        self.early: Callable[..., Sequence[Config]] | None = entries.get("early_config_prune")
        self.model: Callable[..., float] | None = entries.get("perf_model")
        self.top_k: int | float | None = entries.get("top_k")
        if self.top_k is not None and self.model is None:
            raise UnknownPruning(problem="has 'top_k' without 'perf_model'", known=known)
        kind = type(self.top_k)
        is_share = kind is float and 0 < float(self.top_k or 0) <= 1
        is_number = kind is int and int(self.top_k or 0) > 0
        if self.top_k is not None and not is_share and not is_number:
            problem = f"has top_k={self.top_k!r}: neither a number of configurations nor a share"
            raise UnknownPruning(problem=problem, known=known)

    def apply(
        self,
        configs: Sequence[Config],
        kernel: str,
        arguments: Mapping[str, Any],
        keywords: Mapping[str, Any],
    ) -> list[Config]:
        """The configurations to try; `arguments` are all of the launch by name, `keywords` those
        given by keyword. Raises CompileError where none is left.
        """
        left = list(configs)
        if self.early is not None:
            left = list(self.early(left, dict(arguments), **keywords))
            if not left:
                raise NothingLeft(function="early_config_prune", kernel=kernel, count=len(configs))
        if self.model is None or self.top_k is None:
            return left
        share = self.top_k
        kept = share if isinstance(share, int) else max(1, int(len(left) * share))
        if kept >= len(left):
            return left
        model = self.model
        # Sorting is stable: of equals, the first in the list stays.
        times = {id(c): model(**{**arguments, **c.all_kwargs()}) for c in left}
        best = sorted(left, key=lambda config: times[id(config)])[:kept]
        return [config for config in left if any(config is chosen for chosen in best)]
