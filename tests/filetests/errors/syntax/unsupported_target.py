"""Blocks are not written to."""


def kernel(x):
    x[0] = 1

# expected:
# unsupported_target.py:5:5: error[BL107]: cannot assign to an element
#         x[0] = 1
#         ^^^^
#   help: blocks are values; write memory with store(pointer, value), select elements with where
