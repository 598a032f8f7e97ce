"""An argument of a type that kernels cannot take."""

import blocklang
import blocklang.language as bl


@blocklang.jit
def scale(x, factor):
    bl.store(x, bl.load(x) * factor)


def act():
    scale[(1,)]([1.0, 2.0], 2.0)

# expected:
# error[BL503]: 'x' of scale: a kernel cannot take builtins.list as an argument
#   help: pass an array (NumPy, torch, CuPy, DLPack), a number or None, or declare the parameter as constexpr
