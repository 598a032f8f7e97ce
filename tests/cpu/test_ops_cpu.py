"""The op suite on NumPy arrays."""

from __future__ import annotations

import pytest

from tests.suite import CASES
from tests.suite.devices import HostDevice, run


@pytest.mark.parametrize("name", list(CASES))
def test_case(name: str) -> None:
    case = CASES[name]
    compared = run(case, HostDevice())
    assert compared > 0
