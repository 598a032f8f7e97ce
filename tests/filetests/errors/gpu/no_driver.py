"""An array on a GPU, on a machine without an NVIDIA driver."""

import numpy as np

import blocklang
import blocklang.language as bl
from blocklang.runtime import device_array


@blocklang.jit
def scale(x, factor):
    bl.store(x, bl.load(x) * factor)


def act():
    x = device_array(np.ones(4, np.float32))
    scale[(1,)](x, 2.0)

# expected:
# error[BL501]: this machine has no NVIDIA driver (libcuda was not found)
#   help: install the driver; NumPy arrays run on the CPU without it
