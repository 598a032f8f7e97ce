"""An array on a GPU, on a machine whose driver was updated while it ran."""

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
# error[BL501]: the NVIDIA driver cannot start (CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, 803)
#   help: restart the machine after the driver's update
