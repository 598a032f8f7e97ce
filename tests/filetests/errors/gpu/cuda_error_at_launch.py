"""A launch that the driver refuses: the GPU has too few registers."""

import numpy as np

import blocklang
import blocklang.language as bl
from blocklang.runtime import device_array


@blocklang.jit
def scale(x, factor):
    bl.store(x, bl.load(x) * factor)


def act():
    x = device_array(np.ones(4, np.float32))
    scale[(1,)](x, 2.0, num_warps=32)

# expected:
# error[BL512]: launching scale with 1 x 1 x 1 programs of 1024 threads failed: too many resources requested for launch (CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, 701)
#   help: the kernel needs more registers for each block than there are; use fewer warps
