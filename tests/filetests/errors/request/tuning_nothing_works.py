"""Every configuration has a fault of its own."""

import numpy as np

import blocklang
import blocklang.language as bl


@blocklang.autotune(
    [blocklang.Config({"BLOCK": 0}), blocklang.Config({"BLOCK": -1})],
    key=["n"],
)
@blocklang.jit
def scale(x, n, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    bl.store(x + i, 2 * bl.load(x + i, mask=i < n), mask=i < n)


def act():
    scale[(1,)](np.zeros(20, np.float32), 20)

# expected:
# error[BL718]: none of the 2 configurations of scale works:
#     BLOCK=0: BL406: arange(0, 0): the end must be above the start
#     BLOCK=-1: BL406: arange(0, -1): the end must be above the start
#   help: add a smaller configuration, or one for this target
