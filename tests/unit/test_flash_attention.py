"""The attention of examples/: on the CPU against float64, forward and backward, for odd sizes,
dtypes and grouped queries; what it compiles to; and both languages.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

import blocklang
from blocklang.frontend.lower import lower_kernel
from blocklang.ir.printer import print_module
from blocklang.ir.types import dtype as named_dtype
from blocklang.kernel import JitFunction, load
from blocklang.runtime import cuda
from blocklang.signature import bind_signature
from examples import flash_attention as attention
from examples import harness
from examples.rounding import Rounded

FOLDER = Path(attention.__file__).parent
DTYPES = pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
# Heads of queries and of keys; queries, keys; the size of a head.
SHAPES = pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1, 16), (2, 1, 7, 40, 32), (4, 2, 130, 131, 64), (6, 2, 65, 300, 16)]
)
MASKS = pytest.mark.parametrize("causal", [False, True])
FORMS = {
    (False, False): attention.Attention, (False, True): attention.Causal,
    (True, False): attention.Backward, (True, True): attention.CausalBackward,
}  # fmt: skip
KERNELS = {
    name: kernel
    for name, kernel in vars(attention).items()
    if isinstance(kernel, JitFunction) and name.startswith("attention")
}
INTEGERS = ("heads", "group", "rows", "keys", "padded")


def normal(*shape, dtype, seed=0):
    """Random normal numbers."""
    generator = np.random.default_rng([seed, *shape])
    return generator.standard_normal(shape, np.float32).astype(dtype)


def given(shape, dtype, causal, backward=False, batch=2):
    """An example with arrays for it of any sizes; inputs, results as they are before."""
    heads, key_heads, rows, keys, size = shape
    example = FORMS[backward, causal]()
    example.dtype = np.dtype(dtype)
    inputs = {"q": normal(batch, heads, rows, size, dtype=dtype)}
    for seed, name in enumerate("kv", 1):
        inputs[name] = normal(batch, key_heads, keys, size, dtype=dtype, seed=seed)
    if backward:
        wide = {name: x.astype(np.float64) for name, x in inputs.items()}
        blind = unseeing(example, inputs)
        forward = FORMS[False, causal].formula(example, **without(blind, wide))
        before = [(0, 0), (0, 0), (blind, 0)]
        inputs["o"] = np.pad(forward["o"], [*before, (0, 0)]).astype(dtype)
        lse = np.pad(forward["lse"], before, constant_values=-np.inf)
        inputs["lse"] = lse.astype(np.float32)
        inputs["do"] = normal(batch, heads, rows, size, dtype=dtype, seed=3)
    return example, inputs, example.results(**inputs)


def unseeing(example, inputs):
    """How many queries see no key. They come first."""
    return max(0, inputs["q"].shape[2] - inputs["k"].shape[2]) if example.causal else 0


def without(blind, arrays):
    """The arrays without the first queries, and what belongs to these."""
    by_query = ("q", "o", "lse", "do", "dq")
    return {name: x[:, :, blind:] if name in by_query else x for name, x in arrays.items()}


def reference(example, inputs):
    """The exact results with their tolerances, for the queries that see a key."""
    given = without(unseeing(example, inputs), inputs)
    return example.formula(**{name: Rounded(array) for name, array in given.items()})


def judge(example, inputs, results, exact=None):
    """Hold results to what float32 sums and their own dtype allow; to what the examples promise
    where a query sees nothing, of which the formula knows nothing. `exact`: what `reference`
    gives, or some of it, for those who have it.
    """
    blind = unseeing(example, inputs)
    for name, nothing in (("o", 0), ("lse", -np.inf), ("dq", 0)):
        if name in results:
            np.testing.assert_array_equal(results[name][:, :, :blind].astype(np.float32), nothing)
    known = SimpleNamespace(formula=lambda: exact or reference(example, inputs))
    for name, (error, share) in harness.check(known, {}, without(blind, results)).items():
        assert share <= 1, (name, error, share)


@DTYPES
@SHAPES
@MASKS
def test_forward(shape, dtype, causal):
    example, inputs, results = given(shape, dtype, causal)
    example.run(**inputs, **results)
    judge(example, inputs, results)


@DTYPES
@SHAPES
@MASKS
def test_backward(shape, dtype, causal):
    example, inputs, results = given(shape, dtype, causal, backward=True)
    example.run(**inputs, **results)
    judge(example, inputs, results)


@MASKS
@pytest.mark.parametrize("blocks", [(16, 32), (32, 16), (128, 64)])
@pytest.mark.parametrize("programs", [1, 3, 100])
def test_blocks_and_programs(blocks, programs, causal):
    """Fewer programs than units and more; an odd number of blocks and an even one."""
    rows, columns = blocks
    for shape in ((2, 1, 5 * rows - 3, 4 * columns, 16), (2, 2, 4 * rows, 3 * columns + 1, 16)):
        example, inputs, results = given(shape, np.float16, causal, batch=1)
        *counts, size = attention.sizes(inputs["q"], inputs["k"], None)
        options = {"D": size, "CAUSAL": causal, "BM": rows, "BN": columns}
        even = shape[3] % columns == 0
        attention.attention[(programs,)](
            *inputs.values(), *results.values(), *counts, EVEN=even, **options
        )
        judge(example, inputs, results)
        example, inputs, results = given(shape, np.float16, causal, backward=True, batch=1)
        q, k, v, o, lse, do = inputs.values()
        dq, dk, dv, stats = results.values()
        heads, group, length, keys, scale = counts
        room = stats.shape[-1]
        attention.attention_backward_rows[(room // 32, heads)](
            o, do, lse, stats, length, room, D=size, BM=32
        )
        more = (heads, group, length, room, keys, scale)
        attention.attention_backward_keys[(blocklang.cdiv(keys, columns), heads // group)](
            q, k, v, do, dk, dv, stats, *more, **options
        )
        attention.attention_backward_queries[(programs,)](
            q, k, v, do, dq, stats, *more, EVEN=even, **options
        )
        judge(example, inputs, results)


def test_queries_that_see_nothing():
    rows, keys = 100, 30
    _, inputs, results = given((2, 2, rows, keys, 32), np.float16, True)
    attention.launch(**inputs, **results, causal=True)
    blind = rows - keys
    assert (results["o"][:, :, :blind] == 0).all()
    assert (results["lse"][:, :, :blind] == -np.inf).all()
    # The others are as if there were no more.
    seeing = {**inputs, "q": inputs["q"][:, :, blind:]}
    example = attention.Causal()
    example.dtype = np.dtype(np.float16)
    judge(example, seeing, {name: x[:, :, blind:] for name, x in results.items()})
    do = normal(*inputs["q"].shape, dtype=np.float16, seed=3)
    backward = attention.CausalBackward()
    backward.dtype = example.dtype
    gradients = backward.results(**inputs)
    attention.launch_backward(**inputs, **results, do=do, **gradients, causal=True)
    assert (gradients["dq"][:, :, :blind] == 0).all()
    kept = {name: x[:, :, blind:] for name, x in {**results, "do": do}.items()}
    found = {**gradients, "dq": gradients["dq"][:, :, blind:]}
    judge(backward, {**seeing, **kept}, found)


@MASKS
def test_large_scores(causal):
    """The largest score decides alone, and nothing overflows."""
    example, inputs, results = given((1, 1, 40, 70, 32), np.float16, causal, batch=1)
    inputs["q"] *= np.float16(100)
    inputs["k"] *= np.float16(100)
    example.run(**inputs, **results)
    scores = example.scores(*(inputs[name].astype(np.float64) for name in "qk"))
    seen = np.where(example.mask(inputs["q"], inputs["k"]) > 0, scores, -np.inf)
    expected = np.take_along_axis(inputs["v"], seen.argmax(axis=-1)[..., None], axis=2)
    decided = np.sort(seen, axis=-1)[..., -1] - np.sort(seen, axis=-1)[..., -2] > 20
    assert decided.sum() > 20
    # The exponential of zero, of a difference of large numbers, is rounded twice.
    np.testing.assert_allclose(results["o"][decided], expected[decided], rtol=2**-9)
    assert np.isfinite(results["lse"]).all()


@MASKS
def test_backward_formula_is_the_derivative(causal):
    """The formula against central differences of the forward formula, both in float64."""
    example, inputs, _ = given((2, 1, 3, 5, 16), np.float64, causal, batch=1)
    do = normal(1, 2, 3, 16, dtype=np.float64, seed=3)
    forward = example.formula(**inputs)
    backward = FORMS[True, causal]()
    backward.dtype = np.dtype(np.float64)
    found = backward.formula(**inputs, **forward, do=do)
    for name, x in inputs.items():
        slope = np.empty_like(x)
        for index in np.ndindex(x.shape):
            losses = []
            for step in (1e-6, -1e-6):
                x[index] += step
                losses.append((example.formula(**inputs)["o"] * do).sum())
                x[index] -= step
            slope[index] = (losses[0] - losses[1]) / 2e-6
        np.testing.assert_allclose(found[f"d{name}"], slope, rtol=1e-5, atol=1e-7)


def test_another_scale():
    example, inputs, results = given((1, 1, 20, 30, 16), np.float16, False)
    attention.launch(**inputs, **results, scale=0.5)
    example.scores = lambda q, k: attention.product(q, k, example.dtype) * 0.5
    judge(example, inputs, results)


def test_sizes_that_do_not_fit():
    q, k = np.zeros((1, 3, 8, 16), np.float16), np.zeros((1, 2, 8, 16), np.float16)
    with pytest.raises(ValueError, match="do not go together"):
        attention.launch(q, k, k, q, np.zeros((1, 3, 8), np.float32))


# ---------------------------------------------------------------- what it compiles to

TABLES = {
    "attention": attention.FORWARD,
    "attention_backward_keys": attention.BACKWARD_KEYS,
    "attention_backward_queries": attention.BACKWARD_QUERIES,
}
SPILLED = {("attention_backward_keys", 256): 1024, ("attention", 256): 8}
"""Bytes: sums of 64 x 256 elements leave a thread too few registers for the rest. Forward that is
one number, stored and loaded once for each block of queries, outside of the loop over keys.
"""


def types(kernel, element="bf16"):
    """A signature for a kernel: nothing known of the lengths."""
    found = {}
    for parameter in kernel.parameters:
        if parameter.constexpr:
            continue
        name = parameter.name
        kind = f"*{element}:16"
        if name in INTEGERS:
            kind = "i32:16" if name == "padded" else "i32"
        elif name in ("lse", "stats"):
            kind = "*fp32:16"
        found[name] = "fp32" if name == "scale" else kind
    return found


def compiled(name, target, row, **values):
    """A kernel with the configuration of a table's row."""
    rows, columns, warps, stages = row
    kernel = KERNELS[name]
    values |= {"BM": rows, "BN": columns, "EVEN": False}
    values = {p.name: values[p.name] for p in kernel.parameters if p.constexpr}
    return kernel.compile(types(kernel), values, target, num_warps=warps, num_stages=stages)


ROWS = [
    pytest.param(name, size, row, id=f"{name}-{size}-{'x'.join(map(str, row))}")
    for name, table in TABLES.items()
    for size in table
    for row in table[size]
]


@pytest.mark.parametrize(("name", "size", "row"), ROWS)
def test_configurations_for_warpgroups(name, size, row):
    first = row == TABLES[name][size][0]
    for causal in (True, False) if first else (True,):
        made = compiled(name, "sm_90a", row, D=size, CAUSAL=causal)
        assert made.metadata["warnings"] == []
        uses = made.resources
        spilled = max(uses.spill_stores, uses.spill_loads, uses.stack_bytes)
        assert spilled <= SPILLED.get((name, size), 0)
        ptx = made.asm["ptx"]
        assert "wgmma.mma_async" in ptx
        assert "mma.sync" not in ptx
        # A producer brings everything that products read.
        assert ptx.count("setmaxnreg") == (2 if row[2] > 4 else 0)
        assert "cp.async.bulk.tensor.3d.shared::cta.global" in ptx


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("size", attention.OLDER)
def test_configurations_for_older_gpus(name, size):
    row = attention.OLDER[size][0]
    made = compiled(name, "sm_80", row, D=size, CAUSAL=True)
    assert made.metadata["warnings"] == []
    assert "mma.sync" in made.asm["ptx"]
    if size == 64 and name != "attention_backward_keys":
        assert made.resources.spill_stores == 0


@pytest.mark.parametrize("name", TABLES)
def test_loops_of_products_have_no_barriers(name):
    """What one product computes for another stays in registers, and so do numbers for each row."""
    made = compiled(name, "sm_90a", TABLES[name][128][0], D=128, CAUSAL=True)
    stage = made.asm["shared"]
    consumer = stage[stage.index("warp_specialize") : stage.index("} producer()")]
    indents, loops, bodies = [], [], []
    for line in consumer.splitlines():
        indent = len(line) - len(line.lstrip())
        while indents and indent <= indents[-1] and not line.strip().startswith("yield"):
            indents.pop()
            bodies.append(loops.pop())
        for body in loops:
            body.append(line.strip())
        if re.search(r"= for .* body\(", line):
            indents.append(indent)
            loops.append([])
    products = [body for body in bodies if any("= wgmma %" in line for line in body)]
    inner = min(products, key=len)
    assert len([line for line in inner if "= wgmma %" in line]) >= 2
    assert not any(re.search(r"\bbarrier\b|shared_store|shared_load", line) for line in inner)


@pytest.mark.parametrize("name", ["fp16", "bf16", "fp32"])
def test_dtypes(name):
    for kernel, table in TABLES.items():
        m, n, warps, stages = table[64][-1]
        values = {"D": 64, "CAUSAL": True, "BM": m, "BN": n, "EVEN": False}
        values = {p.name: values[p.name] for p in KERNELS[kernel].parameters if p.constexpr}
        if name != "fp32":
            made = KERNELS[kernel].compile(
                types(KERNELS[kernel], name), values, "sm_90a", num_warps=warps, num_stages=stages
            )
            assert made.metadata["warnings"] == []
    row = KERNELS["attention_backward_rows"]
    made = row.compile(types(row, name), {"D": 128, "BM": 32}, "sm_80")
    assert made.resources.spill_stores == 0


def test_configurations_are_chosen_by_head_size_and_gpu(monkeypatch):
    array = SimpleNamespace(get_device=lambda: 0)
    for kernel, table in (
        (attention.tuned_forward, attention.FORWARD),
        (attention.tuned_backward_keys, attention.BACKWARD_KEYS),
        (attention.tuned_backward_queries, attention.BACKWARD_QUERIES),
    ):
        prune = kernel.settings.pruning.early
        for capability, size in itertools.product(((9, 0), (8, 0)), (16, 64, 128, 256)):
            device = SimpleNamespace(capability=capability)
            monkeypatch.setattr(cuda, "device", lambda _, device=device: device)
            found = prune(kernel.configs, {"q": array, "D": size})
            wanted = (table if capability == (9, 0) else attention.OLDER)[max(64, size)]
            assert len(found) == len(wanted)
        assert len(prune(kernel.configs, {"q": np.zeros(1), "D": 64})) == 1


# ---------------------------------------------------------------- both languages, the program


def block_ir(kernel, given, constexprs):
    """What a front end makes of a kernel, without source positions."""
    tree = kernel.__blocklang_function__
    bound = bind_signature(tree, given, constexprs)
    module = lower_kernel(tree, bound.types, bound.facts, bound.constexprs, {"debug": False})
    return print_module(module, locations=False)


@pytest.mark.parametrize("name", KERNELS)
def test_both_languages_give_the_same_ir(name):
    ours, text = KERNELS[name], getattr(load(FOLDER / "flash_attention.bl"), name)
    values = {"D": 32, "CAUSAL": True, "EVEN": False, "BM": 64, "BN": 32}
    values = {p.name: values[p.name] for p in ours.parameters if p.constexpr}
    declared = {**values, "T": named_dtype("fp16")}
    assert block_ir(text, {}, declared) == block_ir(ours, types(ours, "fp16"), values)


def test_both_files_have_the_same_kernels():
    text = load(FOLDER / "flash_attention.bl")
    assert {k for k, v in vars(text).items() if isinstance(v, JitFunction)} == set(KERNELS)


def test_program_reports():
    command = [sys.executable, FOLDER / "flash_attention.py", "--rows", "30", "--columns", "50"]
    run = subprocess.run(
        [*command, "--device", "cpu", "--dtype", "float16"],
        capture_output=True, text=True, check=False, cwd=FOLDER.parent,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert not run.stderr
    assert run.stdout.count("correct") == 10
    assert "GFLOP/s" in run.stdout


def test_bounds_bind():
    """A wrong result is found: one key more or less, and gradients without the sum over a group."""
    example, inputs, results = given((2, 1, 9, 33, 32), np.float16, False, batch=1)
    example.run(**{name: x[:, :, :32].copy() if name in "kv" else x for name, x in inputs.items()},
                **results)  # fmt: skip
    assert harness.check(example, inputs, results)["o"][1] > 5
    example, inputs, results = given((2, 1, 9, 33, 32), np.float16, False, backward=True, batch=1)
    example.run(**inputs, **results)
    results["dk"] *= np.float16(1.02)
    assert harness.check(example, inputs, results)["dk"][1] > 1


@pytest.mark.parametrize("backward", [False, True])
def test_numbers_of_queries_that_see_nothing_are_judged(backward):
    """Those of the first 30 queries are known, those of the others have bounds."""
    example, inputs, results = given((2, 1, 70, 40, 16), np.float16, True, backward)
    example.run(**inputs, **results)
    judge(example, inputs, results)
    exact = reference(example, inputs)
    for name in {"o", "lse", "dq"} & set(results):
        for query, wrong in itertools.product((0, 29, 30, 69), (np.nan, 0.5)):
            found = {**results, name: results[name].copy()}
            found[name][:, 1, query] = wrong
            with pytest.raises(AssertionError):
                judge(example, inputs, found, exact)


def test_logarithms_have_bounds():
    x = (np.random.default_rng(0).random(2000) * 4 + 0.01).astype(np.float32)
    exact = np.log(Rounded(x))
    errors = np.abs(np.log(x).astype(np.float64) - exact.value)
    assert (errors <= exact.error).all()
    assert (errors / exact.error).max() > 0.05
