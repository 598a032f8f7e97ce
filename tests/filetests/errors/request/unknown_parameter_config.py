"""A configuration sets what is not a parameter."""

import numpy as np

import blocklang
import blocklang.language as bl


@blocklang.autotune([blocklang.Config({"BLOK": 32})], key=["n"])
@blocklang.jit
def scale(x, n, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    bl.store(x + i, 2 * bl.load(x + i, mask=i < n), mask=i < n)


def act():
    scale[(1,)](np.zeros(20, np.float32), 20)

# expected:
# unknown_parameter_config.py:11:1: error[BL704]: scale has no parameter 'BLOK'
#     def scale(x, n, BLOCK: bl.constexpr):
#     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
#   help: the configuration BLOK=32 names it; did you mean 'BLOCK'?
