"""A compiled kernel: its text at every stage, what it uses, and the means to launch it."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from blocklang.codegen.targets import CpuTarget, GpuTarget, Target
from blocklang.options import Options
from blocklang.runtime import module as gpu_module
from blocklang.runtime.cpu import HostFunction
from blocklang.runtime.tensor_map import TensorMaps

_BINARY = ("cubin", "object")


@dataclass(frozen=True)
class Resources:
    """What a kernel uses: per thread registers, stack and spilled bytes; per program shared memory
    and threads.

    Registers, stack and spills are 0 on CPUs, and for GPUs until the kernel is loaded where there
    is no assembler.
    """

    registers: int = 0
    stack_bytes: int = 0
    spill_stores: int = 0
    spill_loads: int = 0
    shared_bytes: int = 0
    threads: int = 1

    def occupancy(self, target: GpuTarget) -> float:
        """The share of a multiprocessor's threads that programs of this kernel can fill (0 to
        1).
        """
        per_warp = max(1, self.registers) * 32
        # Registers are allotted to warps in units of 256.
        warps_by_registers = target.registers_per_multiprocessor // (-(-per_warp // 256) * 256)
        by_registers = warps_by_registers // max(1, self.threads // 32)
        by_threads = target.threads_per_multiprocessor // self.threads
        programs = min(by_registers, by_threads, 32)
        if self.shared_bytes:
            # Every program takes 1 KiB for the system besides its own.
            programs = min(
                programs, target.shared_bytes_per_multiprocessor // (self.shared_bytes + 1024)
            )
        return programs * self.threads / target.threads_per_multiprocessor


class Stages(Mapping[str, Any]):
    """The kernel at every stage of its compilation, by name; machine code as bytes, else text.

    Stages that are seldom looked at are made when they are: `made` has a function for each.
    """

    def __init__(
        self, files: Mapping[str, bytes], made: Mapping[str, Callable[[], str]] | None = None
    ) -> None:
        self._files = {k: v for k, v in files.items() if k != "metadata"}
        self._made = dict(made or {})

    def __getitem__(self, stage: str) -> Any:
        if stage in self._made:
            return self._made[stage]()
        if stage not in self._files:
            raise KeyError(f"there is no stage {stage!r}; there are: {', '.join(self)}")
        contents = self._files[stage]
        return contents if stage in _BINARY else contents.decode()

    def __iter__(self) -> Iterator[str]:
        return iter([*self._files, *self._made])

    def __len__(self) -> int:
        return len(self._files) + len(self._made)


class CompiledKernel:
    """One kernel for one target and one specialisation.

    `asm` maps stages to texts (`source`, `bl`, `ir`, then `layout`, `shared`, `schedule` (what runs
    beside the threads), `llvm`, `ptx`, `cubin` for GPUs and `plan` (the loop nests), `llvm`,
    `host`, `object` for CPUs); `resources` and `metadata` tell what it needs. `parameters` are the
    runtime arguments that the machine code takes, as (index in `names`, type); `names` are the
    kernel's parameters, tensor descriptors replaced by their parts. `constants` are the values
    that are compiled in, by parameter.
    """

    def __init__(
        self,
        target: Target,
        options: Options,
        files: Mapping[str, bytes],
        names: Sequence[str],
        device: int = -1,
        constants: Mapping[str, Any] | None = None,
        made: Mapping[str, Callable[[], str]] | None = None,
    ) -> None:
        self.target = target
        self.options = options
        self.device = device
        self.constants = dict(constants or {})
        texts = dict(made or {})
        if isinstance(target, CpuTarget):
            texts["host"] = self._assembly
        self.asm = Stages(files, texts)
        self.metadata: dict[str, Any] = json.loads(files["metadata"])
        self.name: str = self.metadata["name"]
        arguments = self.metadata["arguments"]
        self.parameters = [(names.index(a["name"]), a["type"]) for a in arguments]
        self.written: Collection[int] = [names.index(a["name"]) for a in arguments if a["written"]]
        self.threads = int(self.metadata["threads"]) if isinstance(target, GpuTarget) else 1
        self.num_ctas = int(self.metadata.get("num_ctas", 1))

    @cached_property
    def tensor_maps(self) -> TensorMaps | None:
        """What makes the tensor maps that the machine code takes; None where it takes none."""
        recipes = self.metadata.get("tensor_maps")
        return TensorMaps(recipes) if recipes else None

    @property
    def resources(self) -> Resources:
        """What the kernel uses, as the assembler reported it."""
        found = dict(self.metadata.get("resources", {}))
        found["shared_bytes"] = self.metadata.get("shared_bytes", 0)
        return Resources(**found, threads=self.threads)

    @cached_property
    def function(self) -> gpu_module.Function:
        """The kernel loaded on its GPU. Raises LaunchError where it cannot be."""
        return gpu_module.load(
            self.asm["cubin"] if "cubin" in self.asm else self.asm["ptx"],
            self.metadata["symbol"],
            device=self.device,
            shared_bytes=self.metadata["shared_bytes"],
            line_info=self.options.line_info,
        )

    @cached_property
    def host_function(self) -> HostFunction:
        """The kernel loaded into this process."""
        from blocklang.codegen.cpu.host import LoadedCode

        code = LoadedCode(self.asm["object"], self.metadata["symbol"])
        scratch = self.metadata["scratch_bytes"]
        return HostFunction(self.name, code.address, scratch, self._explain, code)

    def _explain(self, status: int) -> str:
        place, message = self.metadata["asserts"][status - 1]
        return f"assertion failed at {place}: {message}"

    def _assembly(self) -> str:
        from blocklang.codegen.cpu.host import assembly

        assert isinstance(self.target, CpuTarget)
        return assembly(self.asm["llvm"], self.target)

    def launch_host(self, grid: tuple[int, int, int], slots: int) -> None:
        """Run every program of the grid on the CPU; `slots` is the address of the packed
        parameters.
        """
        self.host_function.run(grid, slots)

    def __repr__(self) -> str:
        return f"<{self.name} for {self.target.name}>"
