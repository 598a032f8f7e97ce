"""One array on the GPU, the other in the memory of the host."""

import numpy as np

import blocklang
import blocklang.language as bl
from blocklang.runtime import device_array


@blocklang.jit
def copy(x, y):
    bl.store(y, bl.load(x))


def act():
    x = device_array(np.ones(4, np.float32))
    copy[(1,)](x, np.empty(4, np.float32))

# expected:
# error[BL507]: the arrays given to copy are in different places: 'x' is on GPU 0, 'y' is on the host
#   help: move them to one place, such as one GPU, before the launch
