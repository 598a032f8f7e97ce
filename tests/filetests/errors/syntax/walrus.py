"""An assignment inside an expression."""


def kernel(x):
    if (y := x) > 0:
        return y

# expected:
# walrus.py:5:9: error[BL104]: ':=' is not part of the kernel language
#         if (y := x) > 0:
#             ^^^^^^
#   help: assign on a line of its own, before
