"""A number with leading zeros in a message."""


def kernel(n):
    static_print(f"{n:04d}")

# expected:
# format_specification.py:5:18: error[BL110]: f-strings have no format specifications here
#         static_print(f"{n:04d}")
#                      ^^^^^^^^^^
#   help: write '{value}' alone
