"""A kernel that writes to an array which must not be written."""

import numpy as np

import blocklang
import blocklang.language as bl


@blocklang.jit
def scale(x, factor):
    bl.store(x, bl.load(x) * factor)


def act():
    x = np.ones(4, np.float32)
    x.flags.writeable = False
    scale[(1,)](x, 2.0)

# expected:
# error[BL508]: scale writes to 'x', which is a read-only array
#   help: pass a writable copy
