"""Options of a compilation: what the author chooses besides arguments and target."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from blocklang.errors import OptionOutOfRange, WarpsNotPowerOfTwo

_MAX_WARPS = 32


@dataclass(frozen=True)
class Options:
    """What the author chooses for a kernel besides its arguments.

    `num_warps` (a power of two up to 32) warps execute a program on a GPU; `num_stages` is the
    depth of software pipelines; a program may be spread over `num_ctas` (1, 2 or 4) blocks of
    threads, which are one cluster, where the target has these and a product can be split;
    `fp_fusion` lets a multiplication and an addition become one fused operation; `debug` compiles
    `device_assert`; `line_info` puts source lines into machine code.
    """

    num_warps: int = 4
    num_stages: int = 3
    num_ctas: int = 1
    fp_fusion: bool = True
    debug: bool = False
    line_info: bool = True

    def __post_init__(self) -> None:
        for name, highest in (("num_warps", _MAX_WARPS), ("num_stages", 16), ("num_ctas", 4)):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= highest:
                raise OptionOutOfRange(name=name, value=value, highest=highest)
        for name in ("num_warps", "num_ctas"):
            if getattr(self, name) & (getattr(self, name) - 1):
                raise WarpsNotPowerOfTwo(name=name, value=getattr(self, name))

    @property
    def text(self) -> str:
        """All options as text, for cache keys."""
        return repr(sorted(asdict(self).items()))


DEFAULTS: dict[str, Any] = {f.name: f.default for f in fields(Options)}
"""Option names and defaults: the keywords of a launch."""
