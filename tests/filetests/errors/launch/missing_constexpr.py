"""A launch without the value of a compile-time parameter."""

import numpy as np

import blocklang
import blocklang.language as bl


@blocklang.jit
def scale(x, factor, BLOCK: bl.constexpr):
    cols = bl.arange(0, BLOCK)
    bl.store(x + cols, bl.load(x + cols) * factor)


def act():
    scale[(1,)](np.ones(4, np.float32), 2.0)

# expected:
# error[BL506]: scale needs a value for the compile-time parameter 'BLOCK'
#   help: pass BLOCK=..., or give it a default
