"""`shared_tile` against the address permutation of the tensor memory accelerator's swizzles."""

import itertools

import pytest

from blocklang.ir.layout import shared_tile

CASES = list(itertools.product((8, 16, 32), (128, 64, 32), (1, 4)))


@pytest.mark.parametrize(("bits", "swizzle", "panels"), CASES)
def test_swizzle_is_the_hardware_s(bits: int, swizzle: int, panels: int) -> None:
    """Byte addresses have the bits of their 128-byte line number XORed into those of the piece."""
    width = 8 * swizzle // bits
    shape = (32, panels * width)
    layout = shared_tile(shape, (1, 0), bits, swizzle)
    for offset in range(shape[0] * shape[1]):
        row, column = layout.apply(offset=offset)
        panel, within = divmod(column, width)
        byte = (panel * shape[0] + row) * swizzle + within * bits // 8
        byte ^= (byte >> 7 & swizzle // 16 - 1) << 4
        assert byte * 8 == offset * bits


def test_other_order_is_the_transpose() -> None:
    """The fastest axis may be the first one."""
    plain = shared_tile((64, 32), (1, 0), 16, 64)
    assert shared_tile((32, 64), (0, 1), 16, 64) == plain.permute((1, 0))


def test_without_swizzle_it_is_row_major() -> None:
    """A swizzle of 0 bytes leaves rows whole."""
    layout = shared_tile((4, 256), (1, 0), 32, 0)
    assert [layout.apply(offset=i) for i in (1, 255, 256)] == [(0, 1), (0, 255), (1, 0)]


def test_pattern_goes_on_across_axes() -> None:
    """Rows further along slower axes go on with the pattern."""
    flat = shared_tile((64, 64), (1, 0), 16, 128)
    assert shared_tile((16, 4, 64), (2, 1, 0), 16, 128).reshape((64, 64)) == flat


def test_one_axis() -> None:
    """A block of rank 1 is one row, or panels of rows."""
    layout = shared_tile((64,), (0,), 16, 128)
    assert [layout.apply(offset=i) for i in (0, 1, 63)] == [(0,), (1,), (63,)]
