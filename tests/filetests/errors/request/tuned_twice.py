"""A launch gives what the configurations choose."""

import numpy as np

import blocklang
import blocklang.language as bl


@blocklang.autotune([blocklang.Config({"BLOCK": 32}), blocklang.Config({"BLOCK": 64})], key=["n"])
@blocklang.jit
def scale(x, n, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    bl.store(x + i, 2 * bl.load(x + i, mask=i < n), mask=i < n)


def act():
    scale[(1,)](np.zeros(20, np.float32), 20, BLOCK=128)

# expected:
# error[BL713]: 'BLOCK' of scale is chosen by autotune, and also given by the launch
#   help: leave it out of one of the two
