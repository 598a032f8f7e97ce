"""A slice of an array begins where the tensor memory accelerator cannot read."""

from blocklang.ir.types import f32
from blocklang.runtime.tensor_map import TensorMaps


def act():
    recipe = {
        "pointer": ["arg", "ptr<f32>", 0],
        "shape": [["const", "i32", 100]],
        "strides": [["const", "i64", 1]],
        "element": str(f32),
        "axes": [0],
        "box": [64],
        "swizzle": 0,
        "rounding": "",
        "padding": "zero",
    }
    TensorMaps([recipe]).encode([4100], ["x"], "scale")

# expected:
# error[BL517]: scale cannot copy 'x' with the tensor memory accelerator: its address 0x1004 is no multiple of 16 bytes
#   help: pass an array that begins at such an address, not a slice of one
