"""blocklang: a block-level GPU language.

This module only names what the package offers: each public name is loaded from its module at
first use (PEP 562), so that `import blocklang` stays quick and loads no compiler, no parser and
no GPU library. It holds no code of its own.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blocklang.host import cdiv as cdiv
    from blocklang.host import next_power_of_2 as next_power_of_2
    from blocklang.ir.diagnostics import CompileError as CompileError
    from blocklang.runtime.descriptor import TensorDescriptor as TensorDescriptor
    from blocklang.runtime.errors import LaunchError as LaunchError
    from blocklang.tuning.autotuner import autotune as autotune
    from blocklang.tuning.config import Config as Config
    from blocklang.tuning.heuristics import heuristics as heuristics

__version__ = "0.1.0"

# Public name -> the module that defines it. A module must not share the name of something else
# that is exported: importing the module would put it in the place of the exported thing.
_EXPORTS = {
    "CompileError": "blocklang.ir.diagnostics",
    "Config": "blocklang.tuning.config",
    "LaunchError": "blocklang.runtime.errors",
    "TensorDescriptor": "blocklang.runtime.descriptor",
    "autotune": "blocklang.tuning.autotuner",
    "cdiv": "blocklang.host",
    "heuristics": "blocklang.tuning.heuristics",
    "jit": "blocklang.kernel",
    "language": "blocklang.language",
    "load": "blocklang.kernel",
    "next_power_of_2": "blocklang.host",
    "testing": "blocklang.testing",
}

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(_EXPORTS[name])
    value = module if module.__name__ == f"{__name__}.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
