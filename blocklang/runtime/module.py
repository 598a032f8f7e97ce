"""Loading machine code or PTX into a GPU's context, and what the loaded kernel uses.

A loaded kernel stays loaded for as long as its `Function` lives. Assembling PTX here, by the
driver, is the way without ptxas; see `codegen/nvptx/assembler.py` for the other one.
"""

from __future__ import annotations

import weakref
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from blocklang.runtime import cuda
from blocklang.runtime.errors import CudaError, LaunchError, ModuleLoadError

_LOG_BYTES = 64 * 1024
# Above this size a kernel must ask for its dynamic shared memory.
_SHARED_BYTES_WITHOUT_ASKING = 48 * 1024


@dataclass(frozen=True)
class FunctionResources:
    """What the driver says about a loaded kernel; bytes are per thread for `local`."""

    registers: int
    local_bytes: int
    static_shared_bytes: int
    constant_bytes: int
    threads_per_block: int


@dataclass(frozen=True, eq=False)
class Function:
    """A kernel loaded into `context` on GPU `device`; `handle` is its CUfunction."""

    name: str
    handle: int
    context: int
    device: int
    shared_bytes: int
    resources: FunctionResources
    log: str


def load(
    image: bytes | str,
    name: str,
    *,
    device: int,
    shared_bytes: int = 0,
    line_info: bool = False,
) -> Function:
    """Load the kernel `name` from a cubin (bytes) or from PTX (str, assembled by the driver).

    `shared_bytes` is its dynamic shared memory; the compiler has seen to it that the GPU has as
    much. Raises ModuleLoadError, and CudaError where the driver refuses anything else.
    """
    with cuda.activated(device) as context:
        module, log = _load_module(image, name, device, line_info)
        try:
            handle = cuda.call("cuModuleGetFunction", module, name.encode())
            resources = _resources(handle)
            if shared_bytes + resources.static_shared_bytes > _SHARED_BYTES_WITHOUT_ASKING:
                key = _function_attribute("MAX_DYNAMIC_SHARED_SIZE_BYTES")
                cuda.call("cuFuncSetAttribute", handle, key, shared_bytes)
        except LaunchError:
            cuda.call("cuModuleUnload", module)
            raise
    function = Function(name, int(handle), context, device, shared_bytes, resources, log)
    finalizer = weakref.finalize(function, _unload, int(module), context)
    finalizer.atexit = False
    return function


def _load_module(image: bytes | str, name: str, device: int, line_info: bool) -> tuple[Any, str]:
    bindings = cuda.driver()
    # The driver reads PTX up to its terminating zero.
    data = image.encode() + b"\0" if isinstance(image, str) else image
    information, errors = bytearray(_LOG_BYTES), bytearray(_LOG_BYTES)
    keys = bindings.CUjit_option
    options = {
        keys.CU_JIT_INFO_LOG_BUFFER: information,
        keys.CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES: _LOG_BYTES,
        keys.CU_JIT_ERROR_LOG_BUFFER: errors,
        keys.CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES: _LOG_BYTES,
    }
    if isinstance(image, str):
        options[keys.CU_JIT_LOG_VERBOSE] = 1
        options[keys.CU_JIT_GENERATE_LINE_INFO] = int(line_info)
    try:
        module = cuda.call(
            "cuModuleLoadDataEx", data, len(options), list(options), list(options.values())
        )
    except CudaError as error:
        kind = "PTX" if isinstance(image, str) else "machine code"
        place = cuda.device(device)
        raise ModuleLoadError(
            f"the driver does not accept the {kind} of {name} for {place.name} "
            f"({place.target}): {error.message}",
            error.help,
            _text(errors) or _text(information),
        ) from error
    return module, _text(information)


def _text(log: bytearray) -> str:
    return log.split(b"\0")[0].decode(errors="replace").strip()


def _function_attribute(name: str) -> object:
    return getattr(cuda.driver().CUfunction_attribute, f"CU_FUNC_ATTRIBUTE_{name}")


def _resources(handle: object) -> FunctionResources:
    def attribute(name: str) -> int:
        return int(cuda.call("cuFuncGetAttribute", _function_attribute(name), handle))

    return FunctionResources(
        registers=attribute("NUM_REGS"),
        local_bytes=attribute("LOCAL_SIZE_BYTES"),
        static_shared_bytes=attribute("SHARED_SIZE_BYTES"),
        constant_bytes=attribute("CONST_SIZE_BYTES"),
        threads_per_block=attribute("MAX_THREADS_PER_BLOCK"),
    )


def _unload(module: int, context: int) -> None:
    # Whoever owned the context may have destroyed it, and the module with it.
    with suppress(CudaError), cuda.pushed(context):
        cuda.call("cuModuleUnload", module)
