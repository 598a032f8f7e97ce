"""More operators than a tree may be deep."""


def kernel(x):
    return (
        +x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x
        +x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x
        +x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x
        +x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x
        +x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x
        +x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x
        +x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x
        +x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x
        +x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x
        +x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x
        +x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x
    )

# expected:
# nested_too_deeply.py:6:9: error[BL111]: nested more than 200 levels deep
#             +x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x+x
#             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
#   help: split it: give parts of the expression a name, or move statements into a function
