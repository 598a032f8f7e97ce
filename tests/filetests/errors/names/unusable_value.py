"""A kernel with a mistake."""

import blocklang.language as bl

table = {"a": 1}


def kernel(x):
    bl.store(x, table["a"])


types = {"x": "ptr<f32>"}

# expected:
# unusable_value.py:9:17: error[BL204]: 'table' is a Python object of type 'dict', which kernels cannot use
#         bl.store(x, table["a"])
#                     ^^^^^
#   help: pass it as an argument of the kernel
