"""A GPU from before Turing."""

from blocklang.codegen.targets import target_of_capability


def act():
    target_of_capability(6, 1)

# expected:
# error[BL604]: devices of compute capability 6.1 are not supported
#   help: 7.5 or later is needed
