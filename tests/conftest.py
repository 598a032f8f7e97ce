"""Options of the test run."""

from __future__ import annotations

import os

import pytest

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
