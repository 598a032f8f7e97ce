"""The functions of `blocklang.language` under the name `bl.math`, as Triton's kernels spell some.

Has no functions of its own.
"""

from __future__ import annotations

from blocklang.frontend.builtins import BUILTINS

globals().update(BUILTINS)

__all__ = sorted(BUILTINS)
