"""What is not object code of this machine cannot be loaded."""

from blocklang.codegen.cpu.host import LoadedCode


def act():
    LoadedCode(b"not object code", "blocklang_scale")

# expected:
# error[BL606]: the code for blocklang_scale cannot be loaded: The file was not recognized as a valid object file
#   help: code for another machine only runs there; clear the cache if this machine has changed
