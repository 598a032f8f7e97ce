"""Python's statements with context managers stay on the host."""


def kernel(x):
    y = x
    with open(y) as file:
        file.read()

# expected:
# unsupported_statement.py:6:5: error[BL103]: 'with' is not part of the kernel language
#         with open(y) as file:
#         ^^^^
#   help: call the functions directly; kernels have no context managers
