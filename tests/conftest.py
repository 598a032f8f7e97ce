"""Options of the test run."""

from __future__ import annotations

import os
import sys

import pytest

# Workers of pytest-xdist share the cores: if NumPy used all of them for each product in each
# worker, threads would spend their time waiting for each other. Read when NumPy is loaded.
if "PYTEST_XDIST_WORKER" in os.environ and "numpy" not in sys.modules:
    for name in ("OPENBLAS", "MKL", "OMP"):
        os.environ.setdefault(f"{name}_NUM_THREADS", "1")

# Tests verify the IR after every pass, which users need not wait for.
os.environ.setdefault("BLOCKLANG_CHECK", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--bless",
        action="store_true",
        help="rewrite the expectations of file tests to what the compiler says now",
    )


@pytest.fixture
def bless(request: pytest.FixtureRequest) -> bool:
    """Whether expectations are to be rewritten instead of checked."""
    return bool(request.config.getoption("--bless"))
