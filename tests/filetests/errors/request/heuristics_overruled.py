"""A launch gives what a heuristic computes."""

import numpy as np

import blocklang
import blocklang.language as bl


@blocklang.heuristics({"BLOCK": lambda arguments: 32})
@blocklang.jit
def scale(x, n, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    bl.store(x + i, 2 * bl.load(x + i, mask=i < n), mask=i < n)


def act():
    scale[(1,)](np.zeros(20, np.float32), 20, 128)

# expected:
# error[BL713]: 'BLOCK' of scale is chosen by heuristics, and also given by the launch
#   help: leave it out of one of the two
