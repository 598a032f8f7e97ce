"""A launch on a machine whose driver finds no GPU."""

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
# error[BL502]: the NVIDIA driver finds no GPU
#   help: check nvidia-smi and CUDA_VISIBLE_DEVICES
