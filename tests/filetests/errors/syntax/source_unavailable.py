"""A kernel made by exec has no source."""

exec("def kernel(x): pass")

# expected:
# error[BL101]: the source of 'kernel' is not available: Python has no text for <string>
#   help: define the kernel in a file or a notebook cell; generated code can be added to linecache.cache under the file name that it was compiled with
