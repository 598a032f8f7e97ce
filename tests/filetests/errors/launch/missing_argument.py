"""A launch without one of the arguments."""

import numpy as np

import blocklang
import blocklang.language as bl


@blocklang.jit
def scale(x, factor):
    bl.store(x, bl.load(x) * factor)


def act():
    scale[(1,)](np.ones(4, np.float32))

# expected:
# error[BL504]: scale needs an argument for 'factor'
#   help: pass factor=..., or give it a default
