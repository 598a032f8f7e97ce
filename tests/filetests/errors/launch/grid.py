"""A grid of four axes."""

import numpy as np

import blocklang
import blocklang.language as bl


@blocklang.jit
def scale(x, factor):
    bl.store(x, bl.load(x) * factor)


def act():
    scale[(1, 1, 1, 1)](np.ones(4, np.float32), 2.0)

# expected:
# error[BL510]: the grid of scale has 4 axes
#   help: a grid is an integer, or a tuple of one to three, or a function that returns one
