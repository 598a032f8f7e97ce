"""The operator of Python's matrix product."""


def kernel(a, b):
    return a @ b

# expected:
# matrix_multiplication.py:5:12: error[BL104]: the operator '@' is not part of the kernel language
#         return a @ b
#                ^^^^^
#   help: write dot(a, b)
