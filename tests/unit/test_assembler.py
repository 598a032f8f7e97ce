"""The assembler: where ptxas is found, what it reports, how it fails."""

import os
import signal
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from blocklang.codegen.nvptx import assembler

HEADER = ".version 8.0\n.target sm_90a\n.address_size 64\n"
STORE = """
.visible .entry {name}(.param .u64 p) {directives} {{
  .reg .b64 %a<3>; .reg .b32 %r<3>; {shared}
  ld.param.u64 %a1, [p]; cvta.to.global.u64 %a2, %a1;
  mov.u32 %r1, %tid.x; {body}
  st.global.u32 [%a2], %r1; ret;
}}
"""


def store_kernel(name="kernel", directives="", shared="", body=""):
    return STORE.format(name=name, directives=directives, shared=shared, body=body)


@pytest.fixture(scope="module")
def ptxas():
    found = assembler.find_ptxas()
    if found is None:
        pytest.skip("no ptxas on this machine")
    return found


def test_machine_code_and_resources(ptxas):
    shared = ".shared .align 4 .b8 s[640];"
    text = HEADER + store_kernel() + store_kernel("other", "", shared, "st.shared.u32 [s], %r1;")
    result = assembler.assemble(text, "sm_90a", ptxas=ptxas)
    assert result.cubin.startswith(b"\x7fELF")
    assert set(result.kernels) == {"kernel", "other"}
    assert result.kernels["kernel"].shared_bytes == 0
    assert result.kernels["other"].shared_bytes == 640
    assert all(k.registers >= 4 for k in result.kernels.values())
    assert result.kernels["kernel"].spill_stores == result.kernels["kernel"].stack_bytes == 0
    assert result.warnings == ()


def test_stack_is_reported(ptxas):
    body = """
    cvt.u64.u32 %a1, %r1; mov.u64 %l1, l; add.s64 %l2, %l1, %a1;
    st.local.u32 [%l2], %r1; ld.local.u32 %r1, [l+8];
    """
    local = ".local .align 4 .b8 l[512]; .reg .b64 %l<3>;"
    text = HEADER + store_kernel(shared=local, body=body)
    assert assembler.assemble(text, "sm_90a", ptxas=ptxas).kernels["kernel"].stack_bytes == 512


def test_advisory_is_a_warning(ptxas):
    ignored = store_kernel(body="setmaxnreg.inc.sync.aligned.u32 232;")
    result = assembler.assemble(HEADER + ignored, "sm_90a", ptxas=ptxas)
    assert len(result.warnings) == 1
    assert "C7508" in result.warnings[0]
    honoured = store_kernel(directives=".maxnreg 168", body="setmaxnreg.inc.sync.aligned.u32 232;")
    assert not assembler.assemble(HEADER + honoured, "sm_90a", ptxas=ptxas).warnings


def test_line_info_names_the_source(ptxas):
    located = HEADER + store_kernel(body="\n.loc 1 7 3\n") + '.file 1 "source_of_kernel.py"\n'
    result = assembler.assemble(located, "sm_90a", ptxas=ptxas, line_info=True)
    assert b"source_of_kernel.py" in result.cubin


def test_bad_ptx_is_an_error_with_the_log(ptxas):
    text = HEADER + store_kernel(body="no.such.instruction %r1;")
    with pytest.raises(assembler.AssemblerError, match="does not accept the PTX") as caught:
        assembler.assemble(text, "sm_90a", ptxas=ptxas)
    assert caught.value.ptx == text
    assert "no.such.instruction" in caught.value.log or "error" in caught.value.log


def test_target_below_the_ptx_is_an_error(ptxas):
    with pytest.raises(assembler.AssemblerError, match=r"SM version|target"):
        assembler.assemble(HEADER + store_kernel(), "sm_80", ptxas=ptxas)


def test_missing_executable_is_an_error(tmp_path):
    with pytest.raises(assembler.AssemblerError, match="cannot run") as caught:
        assembler.assemble(HEADER, "sm_90a", ptxas=tmp_path / "ptxas")
    assert caught.value.ptx == HEADER


def test_threads_assemble_in_parallel(ptxas):
    texts = [HEADER + store_kernel(f"kernel_{i}") for i in range(4)]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda t: assembler.assemble(t, "sm_90a", ptxas=ptxas), texts))
    assert [list(r.kernels) for r in results] == [[f"kernel_{i}"] for i in range(4)]


def test_version_is_that_of_the_executable(ptxas):
    output = subprocess.run([ptxas, "--version"], capture_output=True, text=True, check=True)
    assert assembler.version(ptxas) in output.stdout
    assert assembler.version(ptxas).startswith("V")


def fake_ptxas(path: Path, words: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {words}\n")
    path.chmod(0o755)
    return path


@pytest.mark.skipif(os.name == "nt", reason="makes shell scripts")
def test_what_nobody_waits_for_is_ended(tmp_path, monkeypatch):
    """Where something else goes wrong meanwhile, neither the process nor its files stay."""
    slow = fake_ptxas(tmp_path / "ptxas", "slow; exec sleep 60")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    start = time.monotonic()
    with suppress(KeyError), assembler.assembling(HEADER, "sm_90a", ptxas=slow) as running:
        folder = running.source.parent
        assert (folder / "kernel.ptx").read_text() == HEADER
        raise KeyError
    assert time.monotonic() - start < 30
    assert running.process.returncode == -signal.SIGKILL
    assert not folder.exists()


@pytest.mark.skipif(os.name == "nt", reason="makes shell scripts")
def test_version_follows_a_replaced_executable(tmp_path):
    path = fake_ptxas(tmp_path / "ptxas", "release V1.2.3")
    assert assembler.version(path) == "V1.2.3"
    fake_ptxas(path, "release V10.20.30")
    assert assembler.version(path) == "V10.20.30"


@pytest.mark.skipif(os.name == "nt", reason="makes shell scripts")
def test_search_order(tmp_path, monkeypatch):
    explicit = tmp_path / "mine"
    on_path = fake_ptxas(tmp_path / "bin" / "ptxas", "V1.0")
    of_toolkit = fake_ptxas(tmp_path / "cuda" / "bin" / "ptxas", "V2.0")
    of_wheel = fake_ptxas(tmp_path / "site" / "nvidia" / "cu13" / "bin" / "ptxas", "V3.0")
    monkeypatch.setenv("PATH", str(on_path.parent))
    monkeypatch.setattr(assembler, "_ptxas_of_wheels", lambda: iter([of_wheel]))
    assert assembler.find_ptxas(explicit, tmp_path / "cuda") == explicit
    assert assembler.find_ptxas(None, tmp_path / "cuda") == of_wheel
    of_wheel.chmod(0o644)
    assert assembler.find_ptxas(None, tmp_path / "cuda") == of_toolkit
    assert assembler.find_ptxas() == on_path
    on_path.unlink()
    assert assembler.find_ptxas() is None
