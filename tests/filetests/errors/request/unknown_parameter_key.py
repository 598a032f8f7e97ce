"""The key is not a parameter."""

import numpy as np

import blocklang
import blocklang.language as bl


@blocklang.autotune([blocklang.Config({"BLOCK": 32}), blocklang.Config({"BLOCK": 64})], key=["N"])
@blocklang.jit
def scale(x, n, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    bl.store(x + i, 2 * bl.load(x + i, mask=i < n), mask=i < n)


def act():
    scale[(1,)](np.zeros(20, np.float32), 20)

# expected:
# unknown_parameter_key.py:11:1: error[BL704]: scale has no parameter 'N'
#     def scale(x, n, BLOCK: bl.constexpr):
#     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
#   help: the key of autotune names it; the parameters are: x, n, BLOCK
