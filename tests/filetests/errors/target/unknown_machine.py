"""A machine for which LLVM has no code generator."""

from blocklang.codegen.cpu import cpu_target
from blocklang.codegen.cpu.host import object_code


def act():
    object_code("", cpu_target("z80-unknown-cpm"))

# expected:
# error[BL605]: LLVM does not know the machine z80-unknown-cpm: No available targets are compatible with triple "z80-unknown-cpm"
#   help: use the triple of a machine for which llvmlite's LLVM is built, such as x86_64-linux-gnu
