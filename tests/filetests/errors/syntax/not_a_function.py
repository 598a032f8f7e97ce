"""A lambda is not a kernel."""

kernel = lambda x: x  # noqa: E731

# expected:
# not_a_function.py:3:1: error[BL102]: a kernel is a function written with 'def', not a lambda
#     kernel = lambda x: x  # noqa: E731
#     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
#   help: write 'def name(...):' and decorate that
