"""The text of the kernel has changed since it was imported."""

import linecache

exec(compile("def kernel(x):\n    return x\n", "<changed>", "exec"))
_text = "def other(x):\n    return x\n"
linecache.cache["<changed>"] = (len(_text), None, _text.splitlines(True), "<changed>")

# expected:
# <changed>:1:1: error[BL112]: the source of 'kernel' has changed: another definition is there
#     def other(x):
#     ^^^^^^^^^^^^^
#   help: restart Python, or reload the module, so that the source and the function agree
