"""The columns of an array are no rows."""

import numpy as np

from blocklang import TensorDescriptor


def act():
    TensorDescriptor.from_tensor(np.zeros((4, 8), np.float32).T, [4, 4])

# expected:
# error[BL516]: the last stride of a tensor descriptor is 8
#   help: it must be 1: transpose the array, or make a contiguous copy
