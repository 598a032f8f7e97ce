"""A kernel that writes far outside its array."""

import numpy as np

import blocklang
import blocklang.language as bl
from blocklang.runtime import device_array


@blocklang.jit
def fill(x, value):
    bl.store(x + (1 << 30), value)


def act():
    x = device_array(np.ones(4, np.float32))
    fill[(1,)](x, 2.0)
    x.to_host()

# expected:
# error[BL512]: cuCtxSynchronize failed: an illegal memory access was encountered (CUDA_ERROR_ILLEGAL_ADDRESS, 700)
#   help: a kernel accessed memory outside its arrays; check masks and strides, and restart the process, whose GPU context is lost
