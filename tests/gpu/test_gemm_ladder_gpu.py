"""The stages of the ladder of matrix products on a GPU: against float64, and their targets."""

from __future__ import annotations

from typing import Any

import pytest

from blocklang.runtime import cuda
from examples import harness
from examples.gemm_ladder import ladder

pytestmark = pytest.mark.gpu
EVERY = pytest.mark.parametrize("stage", ladder.STAGES, ids=lambda stage: f"{stage.number}")


@pytest.fixture(scope="module")
def device() -> Any:
    return harness.Gpu()


@EVERY
@pytest.mark.parametrize("shape", [*ladder.SHAPES, (512, 768, 1040)])
def test_stages(stage: ladder.Stage, shape: tuple[int, int, int], device: Any) -> None:
    assert ladder.share_of_bound(stage, shape, device) <= 1


@EVERY
def test_targets(stage: ladder.Stage, device: Any) -> None:
    usual = cuda.device(0).target
    placed = [device.put(each) for each in ladder.matrices(32, 32, 32)]
    compiled = stage.ready(*placed)()
    assert compiled.target.name == (stage.target if usual == "sm_90a" else usual)
    assert cuda.device(0).target == usual
