"""The second GPU of a machine that has one."""

import numpy as np

import blocklang
import blocklang.language as bl
from blocklang.runtime import device_array


@blocklang.jit
def scale(x, factor):
    bl.store(x, bl.load(x) * factor)


def act():
    x = device_array(np.ones(4, np.float32), device=1)
    scale[(1,)](x, 2.0)

# expected:
# error[BL502]: there is no GPU 1: the process sees 1
#   help: check CUDA_VISIBLE_DEVICES
