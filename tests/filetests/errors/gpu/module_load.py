"""PTX of a version that the driver does not know, on a machine without ptxas."""

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
# error[BL513]: the driver does not accept the PTX of scale for NVIDIA A100 (sm_80): cuModuleLoadDataEx failed: the provided PTX was compiled with an unsupported toolchain. (CUDA_ERROR_UNSUPPORTED_PTX_VERSION, 222)
# ptxas application ptx input, line 5; fatal : Unsupported .version 7.4
#   help: install a newer driver, or ptxas (nvidia-cuda-nvcc)
