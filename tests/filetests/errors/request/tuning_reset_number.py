"""A number cannot be reset."""

import numpy as np

import blocklang
import blocklang.language as bl


@blocklang.autotune(
    [blocklang.Config({"BLOCK": 32}), blocklang.Config({"BLOCK": 64})],
    key=["n"],
    reset_to_zero=["n"],
)
@blocklang.jit
def scale(x, n, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    bl.store(x + i, 2 * bl.load(x + i, mask=i < n), mask=i < n)


def act():
    scale[(1,)](np.zeros(20, np.float32), 20)

# expected:
# error[BL717]: reset_to_zero names 'n' of scale, which is the integer 20
#   help: name arrays of NumPy, torch, CuPy or blocklang that can be written
