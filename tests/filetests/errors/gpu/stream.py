"""A stream that is a name."""

import numpy as np

import blocklang
import blocklang.language as bl
from blocklang.runtime import device_array


@blocklang.jit
def scale(x, factor):
    bl.store(x, bl.load(x) * factor)


def act():
    x = device_array(np.ones(4, np.float32))
    scale[(1,)](x, 2.0, stream="copies")

# expected:
# error[BL514]: stream is 'copies', which is not a CUDA stream
#   help: pass a torch or CuPy stream, an object with __cuda_stream__, or a handle as an integer
