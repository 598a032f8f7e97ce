"""Host machines and their code: target descriptions, object code, loading it into the process."""

from __future__ import annotations

import itertools
import threading
from functools import lru_cache

import llvmlite.binding as binding

from blocklang.codegen import llvm
from blocklang.codegen.errors import CodeNotLoadable, UnknownMachine
from blocklang.codegen.targets import CpuTarget


@lru_cache(maxsize=1)
def host_target() -> CpuTarget:
    """The CPU that this process runs on."""
    features = binding.get_host_cpu_features()
    return cpu_target(binding.get_process_triple(), binding.get_host_cpu_name(), features.flatten())


def cpu_target(triple: str, name: str = "", features: str = "") -> CpuTarget:
    """A CPU by LLVM's triple, name and features ("+avx2,-fma"); for ahead-of-time compilation."""
    on = {f[1:] for f in features.split(",") if f.startswith("+")}
    architecture = triple.split("-")[0]
    bits = 128
    if architecture in ("x86_64", "amd64"):
        bits = (
            512
            if {"avx512f", "avx512bw", "avx512vl", "avx512dq"} <= on
            else 256
            if "avx2" in on
            else 128
        )
    # Four vectors at a time hide the latency of most instructions; 16 registers hold two.
    many_registers = bits == 512 or architecture in ("aarch64", "arm64")
    return CpuTarget(name, triple, features, bits, 4 if many_registers else 2)


def object_code(text: str, target: CpuTarget) -> tuple[bytes, str]:
    """Object code for LLVM IR text, and the optimised LLVM IR."""
    with llvm.lock:
        llvm.initialize()
        machine = _machine(target)
        module = llvm.parse_module(text)
        module.triple = target.triple
        module.data_layout = str(machine.target_data)
        llvm.optimize(module, machine)
        return machine.emit_object(module), str(module)


def assembly(optimised: str, target: CpuTarget) -> str:
    """Assembly for LLVM IR that `object_code` has optimised."""
    with llvm.lock:
        llvm.initialize()
        text: str = _machine(target).emit_assembly(llvm.parse_module(optimised))
        return text


def _machine(target: CpuTarget) -> binding.TargetMachine:
    try:
        kind = binding.Target.from_triple(target.triple)
    except RuntimeError as problem:
        raise UnknownMachine(triple=target.triple, problem=problem) from None
    return kind.create_target_machine(
        cpu=target.name, features=target.features, opt=3, reloc="pic", codemodel="default"
    )


_ELF_MACHINES = {"x86_64": 62, "aarch64": 183}


def _check_machine(code: bytes, symbol: str) -> None:
    """LLVM would load ELF code of any architecture."""
    architecture = host_target().triple.split("-")[0]
    expected = _ELF_MACHINES.get(architecture)
    found = int.from_bytes(code[18:20], "little")
    if code[:4] == b"\x7fELF" and expected is not None and found != expected:
        raise CodeNotLoadable(symbol=symbol, problem=f"it is not for {architecture}")


class LoadedCode:
    """Object code in this process. Functions stay valid as long as this object lives."""

    _numbers = itertools.count()
    _engine: binding.orcjit.LLJIT | None = None
    _lock = threading.Lock()

    def __init__(self, code: bytes, symbol: str) -> None:
        _check_machine(code, symbol)
        with LoadedCode._lock, llvm.lock:
            if LoadedCode._engine is None:
                llvm.initialize()
                # The machine is consumed by the engine, which only links: its options are moot.
                LoadedCode._engine = binding.create_lljit_compiler(_machine(host_target()))
            library = binding.JITLibraryBuilder()
            library.add_object_img(code).add_current_process().export_symbol(symbol)
            try:
                self._tracker = library.link(
                    LoadedCode._engine, f"kernel{next(LoadedCode._numbers)}"
                )
            except RuntimeError as problem:
                raise CodeNotLoadable(symbol=symbol, problem=problem) from None
            self.address: int = self._tracker[symbol]
