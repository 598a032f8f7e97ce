"""The text kernels of examples/ (`.bl`) on a real GPU: in the place of the Python ones they give
what these give, in the tests of the examples themselves.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import blocklang
from blocklang import TensorDescriptor
from blocklang.kernel import JitFunction, load
from blocklang.runtime import device_array
from examples import flash_attention, gemm, harness, layernorm, softmax, vector_add
from tests.gpu import test_flash_attention_gpu as attention
from tests.gpu import test_gemm_gpu as products
from tests.unit.test_flash_attention import TABLES

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("text")]

FOLDER = Path(gemm.__file__).parent
BF16 = ml_dtypes.bfloat16
DTYPES = pytest.mark.parametrize("dtype", [np.float16, BF16, np.float32])
# The texts promise that sizes are divisible by 16: whole tiles, parts of tiles, few rows.
SHAPES = pytest.mark.parametrize(
    "shape",
    [(256, 512, 512), (208, 336, 304), (16, 512, 1024)],
    ids=lambda s: "x".join(map(str, s)),
)
ROWS = {
    vector_add.VectorAdd: vector_add,
    softmax.Softmax: softmax,
    layernorm.LayerNorm: layernorm,
    layernorm.BackwardByAtomics: layernorm,
    layernorm.BackwardInTwoStages: layernorm,
}


@pytest.fixture
def text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kernel of the examples replaced by the one of its name in the text language."""
    for module in (flash_attention, gemm, layernorm, softmax, vector_add):
        texts = load(FOLDER / f"{module.__name__.rpartition('.')[2]}.bl")
        for name, kernel in vars(texts).items():
            assert isinstance(getattr(module, name), JitFunction)
            monkeypatch.setattr(module, name, kernel)


@DTYPES
@pytest.mark.parametrize("columns", [1, 100, 1001, 4096, 40000])
@pytest.mark.parametrize("form", ROWS, ids=lambda form: form.__name__)
def test_rows(form: Any, columns: int, dtype: Any) -> None:
    """Lengths for which the launchers take different kernels."""
    example = form()
    inputs = example.inputs(products.matrix(37, columns, dtype=dtype))
    results = example.results(**inputs)
    placed = {name: device_array(array) for name, array in {**inputs, **results}.items()}
    example.run(**placed)
    found = {name: placed[name].to_host() for name in results}
    for name, (error, share) in harness.check(example, inputs, found).items():
        assert share <= 1, (name, error, share)


@SHAPES
@pytest.mark.parametrize("dtype", [np.float16, BF16, np.float32, products.FLOAT8, np.int8])
@pytest.mark.parametrize("transposed", [True, False])
def test_persistent_products(shape: Any, dtype: Any, transposed: bool) -> None:
    products.test_persistent(shape, dtype, transposed, 3)


@SHAPES
@DTYPES
def test_products(shape: Any, dtype: Any) -> None:
    products.test_pointers(shape, dtype, False)
    products.test_batches(shape, dtype)
    for add in (False, True):
        products.test_shared_sums(shape, dtype, 3, add)


@SHAPES
def test_products_of_descriptors(shape: Any) -> None:
    """As the text states them: bfloat16, tiles of 128 x 128 x 64."""
    a, b = (device_array(each) for each in products.operands(shape, BF16))
    c = products.result(shape[:2], BF16)
    blocks = ((a, [128, 64]), (b, [128, 64]), (c, [128, 128]))
    described = [TensorDescriptor.from_tensor(array, block) for array, block in blocks]
    m, n, _ = shape
    gemm.gemm_described[(blocklang.cdiv(m, 128) * blocklang.cdiv(n, 128),)](*described)
    products.right(c, shape, BF16)


@SHAPES
@pytest.mark.parametrize("activation", list(products.ACTIVATIONS))
def test_ends_of_products(shape: Any, activation: str | None) -> None:
    products.test_ends(shape, activation)


@pytest.mark.parametrize("size", [64, 128, 256])
@pytest.mark.parametrize("name", TABLES)
@attention.MASKS
@pytest.mark.parametrize("lengths", [(512, 512), (700, 901)], ids=["even", "odd"])
def test_attention(lengths: tuple[int, int], name: str, size: int, causal: bool) -> None:
    attention.test_configurations(lengths, name, size, TABLES[name][size][0], causal)
