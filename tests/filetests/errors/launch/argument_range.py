"""A number that does not fit the declared type of its parameter."""

import numpy as np

import blocklang
import blocklang.language as bl


@blocklang.jit
def fill(x, value: bl.int32):
    bl.store(x, value)


def act():
    fill[(1,)](np.zeros(4, np.int64), 2**40)

# expected:
# error[BL509]: 'value' of fill is 1099511627776, which does not fit its type i32
#   help: pass a value from -2147483648 to 2147483647
