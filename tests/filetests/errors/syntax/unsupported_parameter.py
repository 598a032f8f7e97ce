"""A variable number of parameters."""


def kernel(x, *rest):
    return x

# expected:
# unsupported_parameter.py:4:16: error[BL106]: '*rest': a kernel has a fixed list of parameters
#     def kernel(x, *rest):
#                    ^^^^
#   help: name each parameter, or take one tuple
