"""An array on a GPU, where cuda-python is not installed."""

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
# error[BL501]: running on a GPU needs the package cuda-python (No module named 'cuda')
#   help: pip install cuda-python; NumPy arrays run on the CPU without it
