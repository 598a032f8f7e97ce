"""A comprehension, in a nested scope, after characters of several bytes."""


def outer():
    def kernel(x):
        é = "éé"; y = [é for i in x]  # noqa: E702
        return y

    return kernel


kernel = outer()

# expected:
# unsupported_expression.py:6:23: error[BL104]: a comprehension is not part of the kernel language
#             é = "éé"; y = [é for i in x]  # noqa: E702
#                           ^^^^^^^^^^^^^^
#   help: compute on a block (arange, where, sum), or loop with static_range
