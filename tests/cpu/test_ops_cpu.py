"""The op suite on NumPy arrays."""

from __future__ import annotations

import pytest

from tests.suite import CASES, debugging
from tests.suite.devices import HostDevice, run


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    assert run(CASES[name], HostDevice()) > 0


@pytest.mark.parametrize("name", debugging.NAMES)
def test_debugging(name: str) -> None:
    debugging.check("cpu", name)
