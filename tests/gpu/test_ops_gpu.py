"""The op suite on a GPU: the same cases as on the CPU, compiled in parallel before the first, or by
each test where workers of pytest-xdist share them.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.suite import CASES, debugging
from tests.suite.ahead import compile_all
from tests.suite.devices import gpu_device, run

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="session")
def device() -> Any:
    return gpu_device()


@pytest.fixture(scope="session")
def compile_errors(request: pytest.FixtureRequest) -> dict[str, str]:
    """Errors by case; what compiles is in the cache afterwards, where launches find it."""
    from blocklang.runtime import cuda

    if hasattr(request.config, "workerinput"):
        return {}
    wanted = [item.callspec.params["name"] for item in request.session.items if _is_case(item)]
    return compile_all(wanted, cuda.device(0).target)


def _is_case(item: Any) -> bool:
    return item.originalname == "test_case" and item.path.name == "test_ops_gpu.py"


@pytest.mark.parametrize("name", list(CASES))
def test_case(name: str, device: Any, compile_errors: dict[str, str]) -> None:
    assert name not in compile_errors, compile_errors[name]
    compared = run(CASES[name], device)
    assert compared > 0


@pytest.mark.parametrize("name", debugging.NAMES)
def test_debugging(name: str) -> None:
    debugging.check("gpu", name)
