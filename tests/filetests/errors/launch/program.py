"""An assertion that fails while the kernel runs on the CPU."""

import numpy as np

import blocklang
import blocklang.language as bl


@blocklang.jit
def root(x, y):
    cols = bl.arange(0, 4)
    v = bl.load(x + cols)
    bl.device_assert(v >= 0, "negative input")
    bl.store(y + cols, bl.sqrt(v))


def act():
    x = np.array([1, 4, -9, 16], np.float32)
    root[(1,)](x, np.empty_like(x), debug=True)

# expected:
# error[BL515]: a program of root stopped: assertion failed at program.py:13:5: negative input
