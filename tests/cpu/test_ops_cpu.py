"""The op suite on NumPy arrays."""

from __future__ import annotations

import pytest

from blocklang import CompileError
from tests.suite import CASES
from tests.suite.devices import HostDevice, run

# CPUs add no 16-bit floats atomically.
REFUSED = [f"{kind}-{name}" for kind in ("histogram", "old-values", "collisions")
           for name in ("f16", "bf16")]  # fmt: skip


@pytest.mark.parametrize("name", [name for name in CASES if name not in REFUSED])
def test_case(name: str) -> None:
    assert run(CASES[name], HostDevice()) > 0


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    with pytest.raises(CompileError, match="atomic add on b?f16 is not available on CPUs"):
        run(CASES[name], HostDevice())
