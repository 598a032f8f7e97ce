"""IR text with an op that does not exist."""

from blocklang.ir.parser import parse

TEXT = """\
kernel @k(%x: i32) {
  %y = plus %x, %x : i32
  return
}
"""


def act():
    parse(TEXT, "k.blir")

# expected:
# k.blir:2:8: error[BL801]: there is no op 'plus'
#       %y = plus %x, %x : i32
#            ^
