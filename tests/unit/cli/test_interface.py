"""The header and the manifest: contents, validity, and C and C++ programs that use them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest

from blocklang.cli import header, interface, manifest, tensor_maps
from blocklang.cli.source import load_kernels
from blocklang.ir.types import f32
from tests.unit.cli.support import needs_ptxas

C_COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
CPP_COMPILER = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
needs_c = pytest.mark.skipif(C_COMPILER is None, reason="there is no C compiler")
needs_cpp = pytest.mark.skipif(CPP_COMPILER is None, reason="there is no C++ compiler")
STRICT = ("-Wall", "-Wextra", "-Werror", "-pedantic")

# Every type of an argument, in an order that needs padding, under names that C has taken.
MIXED = """\
kernel mixed(
    double: *f64, int: i8, s: f32, linux: i64, t: f16, u: u16, p: *u8, q: **i32, b: i1, w: bf16,
    α: f64, N: constexpr = 3, THREADS: constexpr = -5, name: constexpr = "a\\"b",
    e: constexpr = inf,
):
    store(double + int.to(i32), s + t + w + α + linux + u + N)
    store(p, b.to(u8))
    store(load(q), 1)
"""

CUDA_STUB = """\
#include <stddef.h>
typedef enum { CUDA_SUCCESS = 0 } CUresult;
typedef int CUdevice;
typedef struct context *CUcontext;
typedef struct module *CUmodule;
typedef struct function *CUfunction;
typedef struct stream *CUstream;
typedef unsigned long long CUdeviceptr;
CUresult cuInit(unsigned int);
CUresult cuGetErrorString(CUresult, const char **);
CUresult cuDeviceGet(CUdevice *, int);
CUresult cuDevicePrimaryCtxRetain(CUcontext *, CUdevice);
CUresult cuCtxSetCurrent(CUcontext);
CUresult cuModuleLoad(CUmodule *, const char *);
CUresult cuModuleGetFunction(CUfunction *, CUmodule, const char *);
CUresult cuMemAlloc(CUdeviceptr *, size_t);
CUresult cuMemcpyHtoD(CUdeviceptr, const void *, size_t);
CUresult cuMemcpyDtoH(void *, CUdeviceptr, size_t);
CUresult cuLaunchKernel(CUfunction, unsigned int, unsigned int, unsigned int, unsigned int,
                        unsigned int, unsigned int, unsigned int, CUstream, void **, void **);
"""


def compile_c(*words, compiler=C_COMPILER):
    run = subprocess.run([compiler, *words], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def made(blc, stage, *words):
    return blc(*words, "--emit", stage).out


# -- the manifest ----------------------------------------------------------------------------


@needs_ptxas
def test_manifest_of_a_gpu_kernel(blc):
    blc("softmax.bl", "--target", "sm_90a", "-o", "k.ptx", "-o", "k.cubin")
    found = json.loads((blc.folder / "k.json").read_text())
    assert found["kernel"] == found["symbol"] == "softmax"
    assert found["source"] == "softmax.bl"
    assert found["target"] == {"name": "sm_90a", "kind": "gpu", "ptx_version": "8.7"}
    assert found["files"] == {"ptx": "k.ptx", "cubin": "k.cubin", "header": "k.h"}
    assert found["constants"] == {"BLOCK": 1024}
    assert found["arguments"][1] == {
        "name": "y", "member": "y", "type": "*f32", "c_type": "uint64_t", "size": 8, "offset": 8,
        "divisible": 16, "written": True,
    }  # fmt: skip
    assert [a["offset"] for a in found["arguments"]] == [0, 8, 16, 20]
    assert [a["written"] for a in found["arguments"]] == [False, True, False, False]
    launch = found["launch"]
    assert (launch["threads"], launch["num_warps"], launch["argument_bytes"]) == (128, 4, 24)
    assert launch["grid_limits"] == [2147483647, 65535, 65535]
    assert launch["shared_bytes"] > 0
    assert found["resources"]["registers"] > 0
    assert f".version {found['target']['ptx_version']}\n" in (blc.folder / "k.ptx").read_text()


def test_manifest_of_a_cpu_kernel(blc):
    found = json.loads(made(blc, "manifest", "softmax.bl", "--target", "cpu"))
    assert found["symbol"] == "blocklang_softmax"
    assert found["target"]["kind"] == "cpu"
    assert found["target"]["triple"]
    assert found["resources"] is None
    assert [a["offset"] for a in found["arguments"]] == [0, 8, 16, 24]
    assert found["launch"] == {
        "argument_bytes": 32, "scratch_bytes": found["launch"]["scratch_bytes"],
    }  # fmt: skip


def test_what_is_compiled_in_is_no_argument(blc):
    words = ("softmax.bl", "--target", "sm_90a", "--signature", "n=1000")
    found = json.loads(made(blc, "manifest", *words))
    assert found["constants"] == {"BLOCK": 1024, "n": 1000}
    assert [a["name"] for a in found["arguments"]] == ["x", "y", "row_stride"]
    assert "#define SOFTMAX_N 1000\n" in made(blc, "header", *words)


@pytest.mark.parametrize("target", ["cpu", "sm_90a"])
def test_manifests_agree_with_the_schema(blc, target):
    schemas = pytest.importorskip("jsonschema")
    schemas.Draft202012Validator.check_schema(manifest.SCHEMA)
    blc.write("mixed.bl", MIXED)
    for source in ("softmax.bl", "mixed.bl"):
        found = json.loads(made(blc, "manifest", source, "--target", target))
        schemas.validate(found, manifest.SCHEMA)
        with pytest.raises(schemas.ValidationError):
            schemas.validate({**found, "more": 1}, manifest.SCHEMA)


def test_schema_has_every_field(blc):
    fields = manifest.SCHEMA["properties"]
    for target in ("cpu", "sm_90a"):
        found = json.loads(made(blc, "manifest", "softmax.bl", "--target", target))
        assert list(found) == list(fields) == manifest.SCHEMA["required"]
        for part in ("target", "launch"):
            assert set(found[part]) <= set(fields[part]["properties"])
            assert set(found[part]) >= set(fields[part]["required"])
        assert all(
            list(a) == list(fields["arguments"]["items"]["properties"]) for a in found["arguments"]
        )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (True, "true"),
        (None, "null"),
        (0.5, "0.5"),
        (float("inf"), '"inf"'),
        (f32, '"f32"'),
        ("x", '"x"'),
        ((1, f32), '[1, "f32"]'),
    ],
)
def test_constants_in_json(value, text):
    assert json.dumps(manifest.json_value(value), allow_nan=False) == text


TENSOR_MAP = {
    "pointer": ["add_pointer", "ptr<f16>", {}, ["arg", "ptr<f16>", 0], ["arg", "i32", 1]],
    "shape": [
        ["sub", "i32", {}, ["arg", "i32", 1], ["const", "i32", 1]],
        ["minimum", "i32", {}, ["arg", "i32", 1], ["const", "i32", 9]],
        ["const", "i32", 64],
    ],
    "strides": [
        ["const", "i64", 4096],
        ["const", "i64", 1],
        ["cast", "i64", {"rounding": "rtne"}, ["arg", "i32", 1]],
    ],
    "element": "f16",
    "axes": [0, 2, 1],
    "box": [1, 32, 64],
    "swizzle": 128,
    "padding": "nan",
    "rounding": "",
}


@pytest.fixture
def with_tensor_maps(blc):
    """The interface of a kernel that takes two tensor maps."""
    kernels = load_kernels(str(blc.folder / "softmax.bl"))
    kernel = kernels["softmax"].compile({"x": "*fp16"}, target="sm_80")
    kernel.metadata["tensor_maps"] = [TENSOR_MAP, {**TENSOR_MAP, "swizzle": 0}]
    kernel.metadata["arguments"][1] = {**kernel.metadata["arguments"][2], "name": "double"}
    return interface.Interface(kernel, "softmax.bl")


def test_tensor_maps_in_the_manifest(with_tensor_maps):
    schemas = pytest.importorskip("jsonschema")
    found = json.loads(manifest.manifest(with_tensor_maps, "k.json", {}))
    schemas.validate(found, manifest.SCHEMA)
    assert found["tensor_maps"][0] == TENSOR_MAP


@needs_c
def test_tensor_maps_in_the_header(with_tensor_maps, blc):
    text = header.header(with_tensor_maps)
    assert (
        " * tensor_maps[0] is what cuTensorMapEncodeTiled makes of:\n"
        " *     f16 at (x + 2 * double_), 3 dimensions\n"
        " *     sizes {(see the manifest), 64, (double_ - 1)}, the fastest first\n"
        " *     strides {2 * double_, 8192}, in bytes\n"
        " *     box {64, 32, 1}, element strides 1\n"
        " *     no interleave, swizzle 128 bytes, NaN outside\n"
    ) in text
    assert "#define SOFTMAX_TENSOR_MAPS 2\n" in text
    assert "void *parameters[SOFTMAX_ARGUMENTS + SOFTMAX_TENSOR_MAPS]" in text
    program = """
#include <stdio.h>
#include "k.h"
int main(void) {
    struct softmax_arguments arguments;
    char maps[256];
    void *parameters[SOFTMAX_ARGUMENTS + SOFTMAX_TENSOR_MAPS];
    softmax_parameters(&arguments, maps, parameters);
    printf("%d", (char *)parameters[SOFTMAX_ARGUMENTS + 1] - maps == 128);
    return 0;
}
"""
    blc.write("k.h", text)
    blc.write("main.c", program)
    compile_c(*STRICT, str(blc.folder / "main.c"), "-o", str(blc.folder / "main"))
    run = subprocess.run([blc.folder / "main"], capture_output=True, text=True, check=True)
    assert run.stdout == "1"


def test_the_header_says_what_copies_round():
    recipe = {**TENSOR_MAP, "element": "f32", "rounding": "tf32"}
    lines = list(tensor_maps.description(0, recipe, ["x", "n"]))
    assert "    f32 (CU_TENSOR_MAP_DATA_TYPE_TFLOAT32) at (x + 2 * n), 3 dimensions" in lines


def test_one_dimension_has_a_stride_in_the_header():
    """A pointer to something: the driver refuses a null pointer, though it reads no stride."""
    recipe = {**TENSOR_MAP, "axes": [2], "box": [64], "swizzle": 0}
    lines = list(tensor_maps.description(0, recipe, ["x", "n"]))
    assert lines[1].endswith(", 1 dimensions")
    assert lines[3] == "    strides {16}, in bytes"


# -- the header ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (-3, "(-3)"),
        (True, "1"),
        (2**63, "9223372036854775808ULL"),
        (2**64, ""),
        (-(2**63), ""),
        (0.5, "0.5"),
        (-1e-30, "(-1e-30)"),
        (float("nan"), ""),
        (f32, '"f32"'),
        ('a"\\', '"a\\"\\\\"'),
        ("ä", ""),
        (None, ""),
        ((1, 2), ""),
    ],
)
def test_constants_in_c(value, text):
    assert header.c_literal(value) == text


def test_names_in_c():
    assert interface.identifier("int") == "int_"
    assert interface.identifier("α") == "u03b1"
    assert interface.identifier("__x__y") == "x_y"
    assert interface.identifier("__") == "argument"
    taken = {"x"}
    assert [interface.unique("x", taken) for _ in range(2)] == ["x_2", "x_3"]


def test_comments_cannot_be_ended_from_outside():
    assert header._comment(["a */ b /* c"]) == ["/*", " * a * / b / * c", " */"]


def test_large_shared_memory_must_be_asked_for(blc, monkeypatch):
    assert "cuFuncSetAttribute" not in made(blc, "header", "softmax.bl", "--target", "sm_90a")
    monkeypatch.setattr(header, "_SHARED_BYTES_WITHOUT_ASKING", 0)
    text = made(blc, "header", "softmax.bl", "--target", "sm_90a")
    assert " *         SOFTMAX_SHARED_BYTES);" in text


def test_structure_follows_the_parameters_of_the_ptx(blc):
    blc.write("mixed.bl", MIXED)
    words = ("mixed.bl", "--target", "sm_90a")
    pattern = r"\.param (?:\.align \d+ )?\.\w(\d+) .*?_param_\d+(?:\[(\d+)\])?[,\n]"
    parameters = re.findall(pattern, made(blc, "ptx", *words).partition(")\n")[0] + "\n")
    sizes = [int(bits) // 8 * int(count or 1) for bits, count in parameters]
    found = json.loads(made(blc, "manifest", *words))["arguments"]
    assert [a["size"] for a in found] == sizes
    assert [a["type"] for a in found][:2] == ["*f64", "i8"]
    assert found[7]["type"] == "**i32"
    assert [a["member"] for a in found][:4] == ["double_", "int_", "s", "linux_"]


@needs_c
@pytest.mark.parametrize("target", ["cpu", "sm_90a"])
def test_headers_compile_as_c_with_the_promised_layout(blc, target):
    blc.write("mixed.bl", MIXED)
    words = ("mixed.bl", "--target", target)
    found = json.loads(blc(*words, "--header", "mixed.h", "--emit", "manifest").out)
    checks = "".join(
        f"typedef char a{i}[offsetof(struct mixed_arguments, {a['member']}) == {a['offset']}"
        f" && sizeof(((struct mixed_arguments *)0)->{a['member']}) == {a['size']} ? 1 : -1];\n"
        for i, a in enumerate(found["arguments"])
    )
    constants = "int three = MIXED_N, five = MIXED_THREADS_2;\nconst char *name = MIXED_NAME;\n"
    text = f'#include <stddef.h>\n#include "mixed.h"\n#include "mixed.h"\n{constants}{checks}'
    blc.write("check.c", text)
    compile_c("-std=c99", *STRICT, "-fsyntax-only", "check.c")


@needs_cpp
@pytest.mark.parametrize("target", ["cpu", "sm_90a"])
def test_headers_compile_as_cpp(blc, target):
    blc.write("mixed.bl", MIXED)
    blc("mixed.bl", "--target", target, "--header", "mixed.hpp")
    blc.write("check.cpp", '#include "mixed.hpp"\nint main() { mixed_arguments a{}; (void)a; }\n')
    compile_c("-std=c++11", *STRICT, "-fsyntax-only", "check.cpp", compiler=CPP_COMPILER)


@needs_c
def test_headers_of_kernels_without_arguments(blc):
    blc.write("none.bl", "kernel nothing():\n    pass\n")
    for target in ("cpu", "sm_90a"):
        blc("none.bl", "--target", target, "--header", "none.h")
        blc.write("check.c", '#include "none.h"\nint n = NOTHING_ARGUMENTS;\n')
        compile_c("-std=c99", *STRICT, "-fsyntax-only", "check.c")


@needs_c
def test_example_for_a_gpu_compiles(blc):
    blc("softmax.bl", "--target", "sm_90a", "-o", "softmax.ptx")
    blc.write("cuda.h", CUDA_STUB)
    compile_c("-std=c99", *STRICT, "-I.", "-fsyntax-only", "launch_softmax.c")


@needs_c
def test_example_for_a_cpu_runs(blc):
    blc("softmax.bl", "-o", "softmax.o")
    compile_c("-std=c11", *STRICT, "call_softmax.c", "softmax.o", "-lm", "-o", "call_softmax")
    run = subprocess.run(["./call_softmax"], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "512 rows, each with the sum 1\n")


PRODUCT = """\
kernel product(a: *f16, b: *f16, c: *f16, k: i32):
    i = arange(0, 128)
    j = arange(0, 64)
    x = load(a + i[:, None] * 64 + j[None, :])
    y = load(b + j[:, None] * 64 + j[None, :])
    store(c + i[:, None] * 64 + j[None, :], dot(x, y).to(f16))
"""


def test_launches_of_clusters_have_more_blocks(blc):
    blc.write("product.bl", PRODUCT)
    words = ("product.bl", "--target", "sm_90a", "--num-ctas")
    text = made(blc, "header", *words, "2")
    assert "cuLaunchKernel(function, PRODUCT_NUM_CTAS * grid_x, grid_y, grid_z," in text
    assert "#define PRODUCT_NUM_CTAS 2\n" in text
    assert "2 blocks along x, a cluster, run one program of the kernel" in text
    schemas = pytest.importorskip("jsonschema")
    found = json.loads(made(blc, "manifest", *words, "2"))
    schemas.validate(found, manifest.SCHEMA)
    assert found["launch"]["num_ctas"] == 2
    # Of four, each would have too few rows: the program stays whole.
    assert "NUM_CTAS" not in made(blc, "header", *words, "4")
    assert "num_ctas" not in json.loads(made(blc, "manifest", *words, "4"))["launch"]
