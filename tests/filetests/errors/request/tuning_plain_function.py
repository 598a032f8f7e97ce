"""autotune stands below jit."""

import blocklang
import blocklang.language as bl


def act():
    @blocklang.jit
    @blocklang.autotune([blocklang.Config({"BLOCK": 32})], key=[])
    def clear(x, BLOCK: bl.constexpr):
        bl.store(x + bl.arange(0, BLOCK), 0)

# expected:
# error[BL712]: autotune is given the function clear, which is not a kernel
#   help: decorate with @blocklang.autotune(...) above @blocklang.jit
