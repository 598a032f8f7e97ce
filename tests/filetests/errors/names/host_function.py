"""A kernel with a mistake."""

import blocklang.language as bl


def helper(x):
    return x


def kernel(x):
    bl.store(x, helper(bl.load(x)))


types = {"x": "ptr<f32>"}

# expected:
# host_function.py:11:17: error[BL204]: 'helper' is a Python function, which kernels cannot use
#         bl.store(x, helper(bl.load(x)))
#                     ^^^^^^
#   help: decorate it with @blocklang.jit to call it from kernels
