"""A range, written as in mathematics."""


def kernel(cols, n):
    return 0 <= cols < n + 1

# expected:
# chained_comparison.py:5:12: error[BL108]: comparisons cannot be chained
#         return 0 <= cols < n + 1
#                ^^^^^^^^^^^^^^^^^
#   help: write '(0 <= cols) & (cols < n + 1)'
