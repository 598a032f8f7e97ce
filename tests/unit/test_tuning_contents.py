"""Contents of arrays between runs: NumPy, CuPy, torch, and what cannot be reset."""

import numpy as np
import pytest

from blocklang.errors import NotResettable
from blocklang.tuning.contents import Contents


class Tensor:
    """What torch's tensors have that resetting asks for; a leaf refuses changes in place."""

    def __init__(self, array, is_leaf=True):
        self.array, self.is_leaf = array, is_leaf

    def detach(self):
        return Tensor(self.array, is_leaf=False)

    def clone(self):
        return Tensor(self.array.copy())

    def zero_(self):
        assert not self.is_leaf
        self.array[:] = 0

    def copy_(self, other):
        assert not self.is_leaf
        self.array[:] = other.array


class CuPyArray:
    """What CuPy's arrays have; their flags know no `writeable`."""

    flags = object()
    dtype = np.dtype(np.float32)
    __cuda_array_interface__ = None

    def __init__(self, array):
        self.array = array

    def copy(self):
        return CuPyArray(self.array.copy())

    def fill(self, value):
        self.array.fill(value)

    def __setitem__(self, place, other):
        assert place is Ellipsis
        self.array[:] = other.array


def numbers():
    return np.arange(6, dtype=np.float32).reshape(2, 3)


KINDS = {
    "NumPy": lambda memory: memory,
    "NumPy, strided": lambda memory: memory[:, ::2],
    "NumPy, without dimensions": lambda memory: memory[1, 2:].reshape(()),
    "torch": Tensor,
    "CuPy": CuPyArray,
}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("option", ["reset_to_zero", "restore_value"])
def test_contents_come_back(make, option):
    memory = numbers()
    array = make(memory)
    part = getattr(array, "array", array)
    before = memory.copy()
    names = {"reset_to_zero": (), "restore_value": (), option: ("x",)}
    contents = Contents("kernel", {"x": array}, **names)
    np.testing.assert_array_equal(memory, before)
    for _ in range(2):
        part[...] = 99
        expected = memory.copy()
        contents.reset()
        expected[expected == 99] = 0 if option == "reset_to_zero" else before[expected == 99]
        np.testing.assert_array_equal(memory, expected)


def test_what_is_left_out_needs_nothing():
    Contents("kernel", {"x": None}, ["x", "y"], ["x", "y"]).reset()


def read_only():
    array = numbers()
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (read_only(), "a read-only array"),
        (3.5, "the float 3.5"),
        (np.float32(2), "the float 2.0"),
        (True, "the boolean True"),
        ("text", "a value of type str"),
    ],
)
@pytest.mark.parametrize("option", ["reset_to_zero", "restore_value"])
def test_what_cannot_be_reset_is_told(value, found, option):
    names = {"reset_to_zero": (), "restore_value": (), option: ("x",)}
    with pytest.raises(NotResettable, match=f"{option} names 'x' of kernel, which is {found}"):
        Contents("kernel", {"x": value}, **names)
