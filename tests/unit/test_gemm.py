"""The matrix products of examples/: on the CPU against float64, for odd shapes, dtypes and ends;
what they compile to; and both languages.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

import blocklang
from blocklang.codegen.targets import gpu_target
from blocklang.frontend.lower import lower_kernel
from blocklang.ir.printer import print_module
from blocklang.ir.types import dtype as named_dtype
from blocklang.kernel import JitFunction, load
from blocklang.signature import bind_signature
from examples import gemm, harness
from examples.rounding import Rounded

FOLDER = Path(gemm.__file__).parent
FLOAT8 = ml_dtypes.float8_e4m3fn
DTYPES = pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, FLOAT8])
SHAPES = pytest.mark.parametrize("shape", [(1, 1, 1), (17, 40, 65), (130, 257, 33)])
SMALL = {"BLOCK_M": 32, "BLOCK_N": 64, "BLOCK_K": 32, "GROUP": 2}
NAMES = {
    "bf16": (ml_dtypes.bfloat16, 2), "fp16": (np.float16, 2), "fp32": (np.float32, 4),
    "fp8e4nv": (FLOAT8, 1), "i8": (np.int8, 1),
}  # fmt: skip
KERNELS = {
    name: kernel
    for name, kernel in vars(gemm).items()
    if isinstance(kernel, JitFunction) and name.startswith(("gemm", "add_parts"))
}


def matrix(*shape, dtype, seed=0):
    """Random normal numbers; integers of all sizes."""
    generator = np.random.default_rng([seed, *shape])
    if dtype == np.int8:
        return generator.integers(-128, 128, shape, np.int8)
    return generator.standard_normal(shape, np.float32).astype(dtype)


def guarded(*shape, dtype):
    """An array full of 7 with a margin behind it, which kernels must leave alone."""
    size = int(np.prod(shape))
    whole = np.full(size + 64, 7, dtype)
    return whole[:size].reshape(shape), whole[size:]


def close(found, exact):
    """Hold a result to what float32 sums and its own dtype allow."""
    expected = exact.stored(found.dtype)
    difference = np.abs(found.astype(np.float64) - expected.value)
    assert (difference <= expected.error).all(), (difference / expected.error).max()


def launches(a, b, c, transposed):
    """A launch of each kernel that computes a plain product, by name."""
    (m, k), n = a.shape, c.shape[1]
    (count,) = gemm.tiles({**SMALL, "m": m, "n": n})
    strides = (k, 1, 1, k, n, 1) if transposed else (k, 1, n, 1, n, 1)
    found = {
        "gemm_pointers": lambda: gemm.gemm_pointers[(count,)](a, b, c, m, n, k, *strides, **SMALL),
        # More programs than tiles, and fewer.
        "gemm": lambda: gemm.gemm[(count + 3,)](a, b, c, m, n, k, TRANSPOSED=transposed, **SMALL),
        "gemm, 2 programs": lambda: gemm.gemm[(2,)](
            a, b, c, m, n, k, TRANSPOSED=transposed, **SMALL
        ),
        "launch": lambda: gemm.launch(a, b, c, transposed),
        "launch_pointers": lambda: gemm.launch_pointers(a, b, c, transposed),
    }
    if transposed:
        described = [
            blocklang.TensorDescriptor.from_tensor(array, block)
            for array, block in ((a, [32, 32]), (b, [64, 32]), (c, [32, 64]))
        ]
        found["gemm_described"] = lambda: gemm.gemm_described[(count,)](*described, GROUP=2)
        found["launch_described"] = lambda: gemm.launch_described(a, b, c)
    return found


@DTYPES
@SHAPES
@pytest.mark.parametrize("transposed", [True, False])
def test_products(shape, dtype, transposed):
    m, n, k = shape
    a, b = matrix(m, k, dtype=dtype), matrix(n, k, dtype=dtype, seed=1)
    # Sums of products of narrow floats are those of float32: nothing else is lost on the CPU.
    exact = gemm.product(Rounded(a), Rounded(b), np.float32 if dtype == np.float32 else None)
    given = b if transposed else np.ascontiguousarray(b.T)
    result = np.float32 if dtype == FLOAT8 else dtype
    c, behind = guarded(m, n, dtype=result)
    for name, launch in launches(a, given, c, transposed).items():
        c[:] = 7
        launch()
        close(c, exact)
        assert (behind == 7).all(), name


@SHAPES
@pytest.mark.parametrize("transposed", [True, False])
def test_products_of_integers_are_exact(shape, transposed):
    m, n, k = shape
    a, b = matrix(m, k, dtype=np.int8), matrix(n, k, dtype=np.int8, seed=1)
    given = b if transposed else np.ascontiguousarray(b.T)
    c, behind = guarded(m, n, dtype=np.int32)
    for name, launch in launches(a, given, c, transposed).items():
        c[:] = 7
        launch()
        np.testing.assert_array_equal(c, a.astype(np.int32) @ b.T.astype(np.int32), err_msg=name)
        assert (behind == 7).all(), name


@SHAPES
@pytest.mark.parametrize("activation", [None, "relu", "silu", "gelu"])
def test_ends(shape, activation):
    m, n, k = shape
    dtype = ml_dtypes.bfloat16
    a, b = matrix(m, k, dtype=dtype), matrix(n, k, dtype=dtype, seed=1)
    extras = {
        "bias": matrix(n, dtype=np.float32), "residual": matrix(m, n, dtype=dtype, seed=2),
        "row_scale": matrix(m, dtype=np.float32) / 2,
        "column_scale": matrix(n, dtype=np.float32) / 2,
    }  # fmt: skip
    scale = 0.5 / k**0.5  # of moderate numbers exponentials do not overflow
    for left_out in (None, *extras) if activation is None else (None,):
        given = {name: array for name, array in extras.items() if name != left_out}
        c, behind = guarded(m, n, dtype=dtype)
        gemm.launch_fused(a, b, c, **given, scale=scale, activation=activation)
        r = {name: Rounded(array) for name, array in given.items()}
        v = gemm.product(Rounded(a), Rounded(b), dtype) * scale
        v = v * r["row_scale"][:, None] if "row_scale" in r else v
        v = v * r["column_scale"][None, :] if "column_scale" in r else v
        v = v + r["bias"] if "bias" in r else v
        v = ACTIVATIONS[activation](v)
        close(c, v + r["residual"] if "residual" in r else v)
        assert (behind == 7).all()


def logistic(v):
    return 1 / (1 + np.exp(-1.0 * v))


# Where the larger of v and 0 is v, its error is that of v; elsewhere there is none.
ACTIVATIONS = {
    None: lambda v: v,
    "relu": lambda v: Rounded(np.maximum(v.value, 0), v.error),
    "silu": lambda v: v * logistic(v),
    "gelu": lambda v: v * logistic(1.5957691216 * (v + 0.044715 * v * v * v)),
}


def test_unknown_activations_are_refused():
    a = np.zeros((4, 4), np.float32)
    with pytest.raises(blocklang.CompileError, match="ACTIVATION is relu, silu, gelu or None"):
        gemm.launch_fused(a, a, a.copy(), activation="swish")


@SHAPES
def test_batches(shape):
    m, n, k = shape
    a, b = matrix(3, m, k, dtype=np.float16), matrix(3, n, k, dtype=np.float16, seed=1)
    c, behind = guarded(3, m, n, dtype=np.float16)
    gemm.gemm_batched[(2,)](a, b, c, 3, m, n, k, **SMALL)
    close(c, gemm.product(Rounded(a), Rounded(b), np.float16))
    c[:] = 7
    gemm.launch_batched(a, b, c)
    close(c, gemm.product(Rounded(a), Rounded(b), np.float16))
    assert (behind == 7).all()


@SHAPES
@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("splits", [1, 2, 7])
def test_shared_sums(shape, splits, transposed):
    m, n, k = shape
    dtype = ml_dtypes.bfloat16
    a, b = matrix(m, k, dtype=dtype), matrix(n, k, dtype=dtype, seed=1)
    given = b if transposed else np.ascontiguousarray(b.T)
    exact = gemm.product(Rounded(a), Rounded(b), dtype)
    (c, behind), parts = guarded(m, n, dtype=dtype), np.full((splits, m, n), np.nan, np.float32)
    gemm.launch_split(a, given, c, parts, transposed)
    close(c, exact)
    assert (behind == 7).all()
    total = np.zeros((m, n), np.float32)
    (count,) = gemm.tiles({**SMALL, "m": m, "n": n, "splits": splits})
    gemm.gemm_split[(count,)](
        a, given, total, m, n, k, splits, TRANSPOSED=transposed, ADD=True, **SMALL
    )
    close(total, exact)


@pytest.mark.parametrize("group", [1, 3, 8])
def test_every_tile_has_one_place(group):
    @blocklang.jit
    def places(out, rows, columns, GROUP: blocklang.language.constexpr):
        tile = blocklang.language.program_id(0)
        i, j = gemm.place(tile, rows, columns, GROUP)
        blocklang.language.store(out + tile * 2, i)
        blocklang.language.store(out + tile * 2 + 1, j)

    for rows, columns in ((1, 1), (7, 5), (9, 2), (3, 16)):
        out = np.full((rows * columns, 2), -1, np.int32)
        places[(len(out),)](out, rows, columns, GROUP=group)
        assert sorted(map(tuple, out)) == list(np.ndindex(rows, columns))
        # As many rows as a group has are finished before the next begin.
        for first in range(0, len(out), group * columns):
            assert np.ptp(out[first : first + group * columns, 0]) < group


# ---------------------------------------------------------------- what is compiled


def types(kernel, name, result, **others):
    """A signature for matrices of the dtype `name` whose sizes are divisible by 16."""
    pointers = {"a": name, "b": name, "c": result, "residual": result}
    pointers["parts"] = "i32" if name == "i8" else "fp32"
    found = {}
    for parameter in kernel.parameters:
        if parameter.constexpr or parameter.name in others:
            continue
        if parameter.name in pointers:
            found[parameter.name] = f"*{pointers[parameter.name]}:16"
        elif parameter.name in ("bias", "row_scale", "column_scale"):
            found[parameter.name] = "*fp32:16"
        elif parameter.name == "scale":
            found[parameter.name] = "fp32"
        else:
            found[parameter.name] = "i32" if parameter.name in COUNTS else "i32:16"
    return {**found, **others}


COUNTS = ("batch", "splits", "size")
UNIT_STRIDES = {"stride_ak": 1, "stride_bn": 1, "stride_cn": 1}


def array_like(itemsize):
    """An array of a GPU, as far as choosing configurations goes."""
    return SimpleNamespace(dtype=SimpleNamespace(itemsize=itemsize))


@pytest.fixture
def chosen(monkeypatch):
    """The configurations that are tried on a GPU, for dtypes and sizes of matrices."""

    def choose(itemsize, result_itemsize, size=4096, target="sm_90a", ctas=(1,), **others):
        facts = gpu_target(target)
        device = SimpleNamespace(
            shared_bytes_per_block=facts.shared_bytes,
            capability=divmod(facts.capability, 10),
            multiprocessors=4,
        )
        monkeypatch.setattr(gemm, "gpu", lambda x: device)
        c = array_like(result_itemsize)
        arguments = {"a": array_like(itemsize), "c": c, "m": size, "n": size, **others}
        return gemm.suitable(gemm.configurations(ctas), arguments)

    return choose


def compiled(kernel, signature, values, target, warps, stages=3):
    """The compiled kernel, held to: no message of the assembler, nothing spilled."""
    found = kernel.compile(signature, values, target=target, num_warps=warps, num_stages=stages)
    assert found.metadata["warnings"] == []
    resources = found.resources
    assert (resources.spill_stores, resources.spill_loads, resources.stack_bytes) == (0, 0, 0)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("transposed", [True, False])
def test_all_configurations_use_the_accelerators(transposed, chosen):
    """Of float16: tiles are copied by the tensor memory accelerator, multiplied by warpgroups, and
    what is tried needs no more shared memory or registers than there are.
    """
    configurations = chosen(2, 2)
    assert len(configurations) > 20
    for config in configurations:
        values = {**config.kwargs, "TRANSPOSED": transposed}
        signature = types(gemm.gemm, "fp16", "fp16")
        found = compiled(
            gemm.gemm, signature, values, "sm_90a", config.num_warps, config.num_stages
        )
        ptx = found.asm["ptx"]
        assert "wgmma.mma_async" in ptx
        assert "cp.async.bulk.tensor.2d.shared" in ptx
        assert "cp.async.bulk.tensor.2d.global" in ptx
        # A copying warpgroup beside the computing ones.
        assert found.threads == 32 * config.num_warps + 128


@pytest.mark.slow
def test_pairs_share_what_they_read(chosen):
    alone, pairs = chosen(2, 2), chosen(2, 2, ctas=(2,))
    assert chosen(2, 2, ctas=(1, 2)) == alone + pairs
    assert 0 < len(pairs) < len(alone)
    for config in pairs:
        options = {"num_stages": config.num_stages, "num_ctas": 2}
        found = gemm.gemm.compile(
            types(gemm.gemm, "bf16", "bf16"), {**config.kwargs, "TRANSPOSED": True},
            target="sm_90a", num_warps=config.num_warps, **options,
        )  # fmt: skip
        assert found.metadata["warnings"] == []
        assert found.resources.spill_stores == found.resources.stack_bytes == 0
        assert "multicast::cluster" in found.asm["ptx"]


@pytest.mark.slow
def test_all_configurations_of_older_gpus_spill_nothing(chosen):
    configurations = chosen(2, 2, target="sm_80")
    assert len(configurations) > 8
    for config in configurations:
        signature = types(gemm.gemm, "bf16", "bf16")
        values = {**config.kwargs, "TRANSPOSED": True}
        found = compiled(gemm.gemm, signature, values, "sm_80", config.num_warps, config.num_stages)
        assert "mma.sync" in found.asm["ptx"]
        assert "cp.async.cg" in found.asm["ptx"]


@pytest.mark.parametrize(
    ("name", "form"), [("bf16", "bf16"), ("fp32", "tf32"), ("fp8e4nv", "e4m3"), ("i8", "s8")]
)
def test_warpgroup_products_of_all_dtypes(name, form):
    _, itemsize = NAMES[name]
    result = "i32" if name == "i8" else "fp32" if name == "fp32" else "bf16"
    values = {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 128 // itemsize, "GROUP": 8}
    for transposed in (True, False):
        signature = types(gemm.gemm, name, result)
        found = compiled(gemm.gemm, signature, {**values, "TRANSPOSED": transposed}, "sm_90a", 8)
        assert re.search(rf"wgmma\.mma_async\.\S*\.{form}\.{form} ", found.asm["ptx"])
        # Only of 16 bits both factors may be read along either axis.
        copies = found.asm["ptx"].count("cp.async.bulk.tensor.2d.shared")
        assert copies >= (2 if transposed or itemsize == 2 else 1)


VARIANTS = {
    "gemm_pointers": ({}, UNIT_STRIDES),
    "gemm": ({"TRANSPOSED": True}, {}),
    "gemm_fused": ({"TRANSPOSED": True, "ACTIVATION": "gelu"}, {}),
    "gemm_fused, scales": (
        {"TRANSPOSED": True, "ACTIVATION": None}, {"bias": None, "residual": None}
    ),
    "gemm_batched": ({}, {}),
    "gemm_split": ({"TRANSPOSED": True, "ADD": False}, {}),
    "gemm_split, added": ({"TRANSPOSED": True, "ADD": True}, {}),
}  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", NAMES)
def test_variants_compile(variant, name):
    kernel = KERNELS[variant.split(",")[0]]
    values, others = VARIANTS[variant]
    result = "fp32" if name == "fp32" else "bf16"
    step = 128 // NAMES[name][1]
    tile = {"BLOCK_M": 64, "BLOCK_N": 128, "BLOCK_K": step, "GROUP": 8}
    # The first with products of 8-bit floats; elsewhere they are made float16 in many instructions.
    older = "sm_89" if name == "fp8e4nv" else "sm_80"
    for target in ("sm_90a", older):
        found = compiled(
            kernel, types(kernel, name, result, **others), {**tile, **values}, target, 4
        )
        product = "wgmma.mma_async" if target == "sm_90a" else "mma.sync"
        assert product in found.asm["ptx"]


def test_descriptors_of_the_host_compile():
    tiles = {
        "a": "tensordesc<bf16[128, 64]>:16", "b": "tensordesc<bf16[128, 64]>:16",
        "c": "tensordesc<bf16[128, 128]>:16",
    }  # fmt: skip
    found = compiled(gemm.gemm_described, tiles, {"GROUP": 8}, "sm_90a", 8)
    assert "cp.async.bulk.tensor.2d.shared" in found.asm["ptx"]
    tiles = {each: kind.replace("128", "64") for each, kind in tiles.items()}
    compiled(gemm.gemm_described, tiles, {"GROUP": 8}, "sm_80", 4)


def test_factors_by_pointers_are_read_by_16_bytes():
    for unit in ("stride_bn", "stride_bk"):
        strides = {"stride_ak": 1, unit: 1, "stride_cn": 1}
        tile = {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 64, "GROUP": 8}
        signature = types(gemm.gemm_pointers, "bf16", "bf16", **strides)
        ptx = compiled(gemm.gemm_pointers, signature, tile, "sm_90a", 4).asm["ptx"]
        loads = set(re.findall(r"ld\.global\S* |cp\.async\.c\S* .*?(?=,)", ptx))
        assert loads
        assert all(".v4.b32" in load or "cp.async" in load for load in loads)


# ---------------------------------------------------------------- what is tried


@pytest.mark.parametrize(("itemsize", "result"), [(1, 2), (1, 4), (2, 2), (2, 4), (4, 4)])
def test_configurations_fit(itemsize, result, chosen):
    found = chosen(itemsize, result)
    tiles = {(c.kwargs["BLOCK_M"], c.kwargs["BLOCK_N"], c.num_warps) for c in found}
    # Every tile is tried in some way, and nothing twice.
    assert len(tiles) == 8
    assert len({str(config) for config in found}) == len(found)
    for config in found:
        m, n, k = (config.kwargs[f"BLOCK_{axis}"] for axis in "MNK")
        # What is stored may be in pieces of one line of 128 bytes for each row.
        needed = config.num_stages * (m + n) * k * itemsize + m * min(n * result, 128)
        assert needed <= 227 * 1024
    with_residual = chosen(itemsize, result, residual=array_like(result))
    assert 0 < len(with_residual) < len(found)
    assert chosen(itemsize, result, residual=None) == found


@pytest.mark.parametrize(
    ("element", "stages", "step", "pieces"),
    [("bf16", 3, 64, 1), ("bf16", 4, 64, 2), ("fp32", 3, 32, 2), ("fp32", 4, 32, 4)],
)
def test_stages_come_before_the_room_for_results(element, stages, step, pieces):
    """All are there, and results leave in as few pieces as then fit."""
    tile = {"BLOCK_M": 128, "BLOCK_N": 256, "BLOCK_K": step, "GROUP": 8, "TRANSPOSED": True}
    signature = types(gemm.gemm, element, element)
    made = gemm.gemm.compile(signature, tile, "sm_90a", num_warps=8, num_stages=stages)
    how = f" in {pieces} pieces" if pieces > 1 else ""
    assert f"{stages} slots of 49152 bytes" in made.asm["schedule"]
    assert f"to c{how}, each warpgroup" in made.asm["schedule"]
    assert made.metadata["shared_bytes"] <= 227 * 1024


def test_tiles_are_not_much_larger_than_results(chosen):
    for size in (1, 16, 65, 100):
        tiles = {tuple(c.kwargs.values())[:2] for c in chosen(2, 2, size)}
        assert (64, 64) in tiles
        assert all(max(tile) < 2 * max(size, 33) for tile in tiles)


def test_large_results_have_large_tiles(chosen):
    sizes = {config.kwargs["BLOCK_M"] * config.kwargs["BLOCK_N"] for config in chosen(2, 2, 8192)}
    assert sizes == {128 * 128, 128 * 256}
    assert {c.kwargs["BLOCK_M"] * c.kwargs["BLOCK_N"] for c in chosen(2, 2, 1 << 17)} == {128 * 256}


def test_grids():
    meta = {"m": 100, "n": 300, "BLOCK_M": 64, "BLOCK_N": 128, "a": np.zeros((1, 1))}
    assert gemm.tiles(meta) == gemm.programs(meta) == (6,)
    assert gemm.tiles({**meta, "batch": 5}) == (30,)
    assert gemm.tiles({**meta, "splits": 3}) == (18,)


def test_a_program_stays_on_each_multiprocessor(chosen):
    chosen(2, 2)  # puts a GPU with four in the place of any
    meta = {"m": 100, "n": 300, "BLOCK_M": 64, "BLOCK_N": 128, "a": None}
    assert gemm.programs(meta) == (4,)
    assert gemm.programs({**meta, "n": 100}) == (2,)
    assert gemm.programs({**meta, "num_ctas": 2}) == (2,)


# ---------------------------------------------------------------- programs and languages


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("form", gemm.EXAMPLES)
def test_programs_check_themselves(form, dtype):
    example = form()
    inputs = example.inputs(matrix(70, 90, dtype=dtype))
    results = example.results(**inputs)
    example.run(**inputs, **results)
    for _, share in harness.check(example, inputs, results).values():
        assert share <= 1
    results["c"][..., -1, -1] += np.asarray(100, results["c"].dtype)
    assert harness.check(example, inputs, results)["c"][1] > 1


@pytest.mark.slow
def test_program_reports():
    command = [sys.executable, FOLDER / "gemm.py", "--rows", "40", "--columns", "50"]
    run = subprocess.run(
        [*command, "--device", "cpu", "--dtype", "float16"],
        capture_output=True, text=True, check=False, cwd=FOLDER.parent,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert not run.stderr
    assert run.stdout.count("correct") == len(gemm.EXAMPLES)
    assert re.search(r"^time .* GFLOP/s$", run.stdout, re.M)


def block_ir(kernel, signature, values):
    """What a front end makes of a kernel, without source positions."""
    tree = kernel.__blocklang_function__
    bound = bind_signature(tree, signature, values)
    module = lower_kernel(tree, bound.types, bound.facts, bound.constexprs, {"debug": False})
    return print_module(module, locations=False)


@pytest.mark.parametrize("name", KERNELS)
def test_both_languages_give_the_same_ir(name):
    ours, text = KERNELS[name], getattr(load(FOLDER / "gemm.bl"), name)
    tile = {"BLOCK_M": 64, "BLOCK_N": 128, "BLOCK_K": 32, "GROUP": 4, "TRANSPOSED": False}
    more = {"ADD": True, "ACTIVATION": "silu", "BLOCK": 512}
    values = {p.name: {**tile, **more}[p.name] for p in ours.parameters if p.constexpr}
    strides = UNIT_STRIDES if name == "gemm_pointers" else {}
    given = types(ours, "fp16", "fp32", **strides)
    declared = {**values, "T": named_dtype("fp16"), "R": named_dtype("fp32")}
    if name == "gemm_described":
        blocks = {"a": "fp16[64, 32]", "b": "fp16[128, 32]", "c": "fp32[64, 128]"}
        given = {each: f"tensordesc<{block}>:16" for each, block in blocks.items()}
        declared |= tile
    declared = {p.name: declared[p.name] for p in text.parameters if p.name in declared}
    assert block_ir(text, {}, declared) == block_ir(ours, given, values)


def test_text_kernels_leave_ends_out():
    kernel = load(FOLDER / "gemm.bl").gemm_fused
    a, b = (matrix(48, 64, dtype=ml_dtypes.bfloat16, seed=seed) for seed in (0, 1))
    c = np.zeros((48, 48), ml_dtypes.bfloat16)
    extras = (None, None, None, None)
    kernel[(1,)](a, b, c, *extras, 48, 48, 64, 1.0, BLOCK_M=32, BLOCK_N=32, BLOCK_K=32)
    close(c, gemm.product(Rounded(a), Rounded(b), a.dtype))
