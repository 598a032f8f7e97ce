"""Integers have no NaN."""

import numpy as np

import blocklang
from blocklang import TensorDescriptor


@blocklang.jit
def kernel(x):
    pass


def act():
    kernel[1](TensorDescriptor.from_tensor(np.zeros(8, np.int32), [4], padding="nan"))

# expected:
# error[BL516]: 'x' of kernel: padding with NaN needs floats, and the elements are i32
#   help: pad with 'zero'
