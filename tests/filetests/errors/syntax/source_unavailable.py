"""A kernel made by exec has no source."""

exec("def kernel(x): pass")

# expected:
# error[BL101]: the source of 'kernel' is not available: Python has no text for <string>
#   help: define it in a file or notebook cell, or add its text to linecache.cache
