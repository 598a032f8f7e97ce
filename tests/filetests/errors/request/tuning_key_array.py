"""The key is an array."""

import numpy as np

import blocklang
import blocklang.language as bl


@blocklang.autotune([blocklang.Config({"BLOCK": 32}), blocklang.Config({"BLOCK": 64})], key=["x"])
@blocklang.jit
def scale(x, n, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    bl.store(x + i, 2 * bl.load(x + i, mask=i < n), mask=i < n)


def act():
    scale[(1,)](np.zeros(20, np.float32), 20)

# expected:
# error[BL714]: the key 'x' of scale is an array
#   help: name a number, a string or a compile-time value, such as the size of the array
