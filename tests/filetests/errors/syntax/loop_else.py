"""An else that belongs to a loop."""


def kernel(n):
    x = 0
    for i in range(n):
        x += i
    # not reached after a break
    else:
        x = 1
    return x

# expected:
# loop_else.py:9:5: error[BL109]: 'for' loops have no 'else' in the kernel language
#         else:
#         ^^^^
#   help: set a flag in the loop and test it afterwards with 'if'
