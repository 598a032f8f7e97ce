"""Values of parameters that follow from the other arguments by a rule: `heuristics`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from blocklang.runtime.specialise import Specialisation
from blocklang.tuning.decorator import KernelDecorator

Rule = Callable[[dict[str, Any]], Any]


class Heuristics(KernelDecorator):
    """A kernel some of whose parameters are computed from the other arguments of a launch."""

    decorator = "heuristics"

    def __init__(self, fn: Any, values: Mapping[str, Rule]) -> None:
        super().__init__(fn)
        self._given_rules = dict(values)

    @cached_property
    def values(self) -> dict[str, Rule]:
        """The rules by parameter, in the order in which they are applied."""
        self._require_parameters(self._given_rules, "heuristics")
        return self._given_rules

    def _launch(self, grid: Any, *arguments: Any, **keywords: Any) -> Any:
        self._reject_given(self.values, arguments, keywords)
        return self.fn[grid](*arguments, **self._completed(arguments, keywords))

    def warmup(self, *arguments: Any, grid: Any = (1,), **keywords: Any) -> Any:
        """Compile for these arguments, as a launch would, without running."""
        self._reject_given(self.values, arguments, keywords)
        return self.fn.warmup(*arguments, grid=grid, **self._completed(arguments, keywords))

    def specialise(self, arguments: Mapping[str, Any]) -> Specialisation:
        """What a launch with these arguments and options, by name, is compiled for."""
        found: Specialisation = self.fn.specialise(self._completed((), arguments))
        return found

    def _completed(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
        """`keywords` with the value of every rule."""
        named, chosen = self.named(arguments, keywords), dict(keywords)
        for name, rule in self.values.items():
            named[name] = chosen[name] = rule(dict(named))
        return chosen


def heuristics(values: Mapping[str, Rule]) -> Callable[[Any], Heuristics]:
    """Compute parameters of a kernel from the other arguments of each launch:

        @blocklang.heuristics({"BLOCK": lambda args: blocklang.next_power_of_2(args["n"])})
        @blocklang.jit
        def kernel(x, n, BLOCK: bl.constexpr): ...

    Each function gets a dict of the arguments by name, with what the rules before it have chosen.
    Above or below `autotune` alike; below it, rules see the values of the configuration. Raises
    CompileError where a launch gives such a parameter itself.
    """
    return lambda fn: Heuristics(fn, values)
