"""What `blc` writes: every stage, by suffix and by name, all files or none."""

from __future__ import annotations

import io
import os
import sys

import pytest

from blocklang import compile as pipeline
from blocklang.cli import main, outputs
from blocklang.cli.outputs import STAGES
from blocklang.kernel import load
from tests.unit.cli.support import needs_ptxas

GPU_SUFFIXES = {
    ".bl": "kernel softmax(",
    ".ir": "kernel @softmax(",
    ".blir": "kernel @softmax(",
    ".layout": "#layout0 = layout<",
    ".shared": "shared_bytes = ",
    ".ll": "define ptx_kernel void @softmax(",
    ".ptx": ".visible .entry softmax(",
    ".h": "#define SOFTMAX_THREADS 128",
    ".hpp": "#define SOFTMAX_THREADS 128",
    ".cuh": "#define SOFTMAX_THREADS 128",
    ".json": '"symbol": "softmax"',
}
CPU_SUFFIXES = {".plan": "nest over 1024", ".s": "blocklang_softmax:", ".ll": "@blocklang_softmax("}


@pytest.mark.parametrize("suffix", GPU_SUFFIXES)
def test_gpu_output_by_suffix(blc, suffix):
    blc("softmax.bl", "--target", "sm_90a", "-o", f"k{suffix}", "--no-sidecars")
    assert blc.names() == {f"k{suffix}"}
    assert GPU_SUFFIXES[suffix] in (blc.folder / f"k{suffix}").read_text()


@pytest.mark.parametrize("suffix", CPU_SUFFIXES)
def test_cpu_output_by_suffix(blc, suffix):
    blc("softmax.bl", "--target", "cpu", "-o", f"k{suffix}")
    assert CPU_SUFFIXES[suffix] in (blc.folder / f"k{suffix}").read_text()


@needs_ptxas
def test_machine_code_on_the_standard_output(blc, monkeypatch):
    bytes_ = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(bytes_))
    assert main(["softmax.bl", "--target", "sm_90a", "--emit", "cubin"]) == 0
    assert bytes_.getvalue().startswith(b"\x7fELF")


def test_objects_are_for_the_cpu_without_a_target(blc):
    outcome = blc("softmax.bl", "-o", "k.o", "-o", "k.s")
    assert outcome.err == ""
    assert blc.names() == {"k.o", "k.s", "k.h", "k.json"}
    assert (blc.folder / "k.o").read_bytes()


@needs_ptxas
def test_sidecars_stand_beside_machine_code_once(blc):
    blc("softmax.bl", "--target", "sm_80", "-o", "k.ptx", "-o", "k.cubin")
    assert blc.names() == {"k.ptx", "k.cubin", "k.h", "k.json"}
    assert (blc.folder / "k.cubin").read_bytes()[:4] == b"\x7fELF"


def test_explicit_header_and_manifest_replace_the_sidecars(blc):
    blc("softmax.bl", "-o", "k.o", "--header", "other.hxx", "--manifest", "facts")
    assert blc.names() == {"k.o", "other.hxx", "facts"}
    assert '"header": "other.hxx"' in (blc.folder / "facts").read_text()


def test_text_outputs_have_no_sidecars(blc):
    blc("softmax.bl", "--target", "sm_80", "-o", "k.ll")
    assert blc.names() == {"k.ll"}


@pytest.mark.parametrize("target", ["cpu", "sm_90a"])
def test_every_stage_of_a_target_can_be_printed(blc, target):
    backend = "cpu" if target == "cpu" else "nvptx"
    for stage in STAGES.values():
        if stage.backend in ("", backend) and not stage.binary:
            assert blc("softmax.bl", "--target", target, "--emit", stage.name).out.endswith("\n")
    assert blc.names() == set()


def test_source_is_the_kernel_as_it_was_written(blc):
    text = blc("softmax.bl", "--target", "cpu", "--emit", "source").out
    assert text in (blc.folder / "softmax.bl").read_text()
    assert text.startswith("kernel softmax(\n")


def test_minus_is_the_standard_output(blc):
    assert "softmax" in blc("softmax.bl", "--target", "cpu", "-o", "-", "--emit", "ir").out
    error = blc("softmax.bl", "--target", "cpu", "-o", "-", code=2).err
    assert error == (
        "blc: error: -o -: nothing says which stage to print\n  help: add --emit STAGE\n"
    )


def test_stages_are_those_of_compiled_kernels(blc):
    kernel = load("softmax.bl").softmax
    own = {"header", "manifest"}
    for target in ("cpu", "sm_90a"):
        backends = ("", "cpu" if target == "cpu" else "nvptx")
        listed = {s.name for s in STAGES.values() if s.backend in backends} - own
        made = set(kernel.compile(target=target).asm)
        assert made == listed if pipeline.ptxas() else made | {"cubin"} == listed


def test_devices_are_written_to_and_links_followed(blc):
    if os.name != "posix":
        pytest.skip("needs devices and symbolic links")
    os.symlink("real.ptx", "link.ptx")
    blc("softmax.bl", "--target", "sm_80", "-o", "link.ptx", "--header", os.devnull)
    assert os.path.islink("link.ptx")
    assert "softmax" in (blc.folder / "real.ptx").read_text()
    assert not os.path.isfile(os.devnull)


def test_all_outputs_are_written_or_none(blc, monkeypatch):
    blc.write("k.ptx", "old")
    monkeypatch.setattr(outputs.os, "replace", refuse)
    error = blc("softmax.bl", "--target", "sm_80", "-o", "k.ptx", code=3).err
    assert error == "blc: error: cannot write k.ptx: No space left on device\n"
    assert blc.names() == {"k.ptx"}
    assert (blc.folder / "k.ptx").read_text() == "old"


def refuse(*_):
    raise OSError(28, "No space left on device")


def test_interrupted_writing_leaves_nothing(blc, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(outputs.os, "replace", interrupt)
    outcome = blc("softmax.bl", "--target", "sm_80", "-o", "k.ptx", code=130)
    assert (outcome.out, outcome.err, blc.names()) == ("", "", set())
