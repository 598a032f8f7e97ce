"""An array that is larger than the memory of the GPU."""

import numpy as np

from blocklang.runtime import empty


def act():
    empty(1 << 40, np.float32)

# expected:
# error[BL512]: cuMemAlloc failed: out of memory (CUDA_ERROR_OUT_OF_MEMORY, 2)
#   help: free GPU memory, or work on smaller arrays
