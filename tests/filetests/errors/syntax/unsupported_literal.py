"""A complex number."""


def kernel(x):
    return x + 1j

# expected:
# unsupported_literal.py:5:16: error[BL105]: a complex number is not part of the kernel language
#         return x + 1j
#                    ^^
#   help: use two values, the real and the imaginary part
