"""A keyword that is neither a parameter nor an option."""

import numpy as np

import blocklang
import blocklang.language as bl


@blocklang.jit
def scale(x, factor):
    bl.store(x, bl.load(x) * factor)


def act():
    scale[(1,)](np.ones(4, np.float32), 2.0, num_warp=4)

# expected:
# error[BL505]: scale has no parameter or option 'num_warp'
#   help: did you mean 'num_warps'?
