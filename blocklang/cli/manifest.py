"""The manifest: what a program needs to know to load and launch a compiled kernel, as JSON.

`SCHEMA` is the JSON Schema of every manifest; the documentation shows it. `format` in it grows
when a field changes its meaning or goes away, not when one is added.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from blocklang import __version__
from blocklang.codegen.targets import CpuTarget, GpuTarget
from blocklang.ir.types import DType

from .interface import Interface

FORMAT = 1
GRID_LIMITS = (2**31 - 1, 65535, 65535)


def _object(properties: dict[str, Any], about: str, optional: tuple[str, ...] = ()) -> Any:
    required = [name for name in properties if name not in optional]
    return {
        "type": "object",
        "description": about,
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _text(about: str) -> dict[str, Any]:
    return {"type": "string", "description": about}


def _count(about: str) -> dict[str, Any]:
    return {"type": "integer", "minimum": 0, "description": about}


_ARGUMENT = _object(
    {
        "name": _text("its name in the kernel"),
        "member": _text("its name in the structure of the header"),
        "type": _text("i32, f32, ...; *f32 for a pointer to f32"),
        "c_type": _text("its C type; 16-bit floats are passed as their bits"),
        "size": _count("its bytes"),
        "offset": _count("its place in the structure, in bytes"),
        "divisible": _count("its value, or its address in bytes, must be divisible by this"),
        "written": {"type": "boolean", "description": "whether the kernel writes through it"},
    },
    "a run-time argument",
)
_TARGET = _object(
    {
        "name": _text("sm_90a, ..., or cpu"),
        "kind": {"enum": ["gpu", "cpu"]},
        "ptx_version": _text("GPU: the PTX version that the driver must understand"),
        "triple": _text("CPU: LLVM's name of the kind of machine"),
        "processor": _text("CPU: LLVM's name of the processor"),
        "features": _text("CPU: LLVM's list of the features that the processor must have"),
    },
    "what the code is for",
    ("ptx_version", "triple", "processor", "features"),
)
_LAUNCH = _object(
    {
        "threads": _count("GPU: threads in a block, all along x"),
        "num_warps": _count("GPU: the same in warps of 32"),
        "num_ctas": _count("GPU: blocks of one program, neighbours along x, where not 1"),
        "shared_bytes": _count("GPU: dynamic shared memory of a block"),
        "grid_limits": {
            "type": "array",
            "items": {"type": "integer"},
            "minItems": 3,
            "maxItems": 3,
            "description": "GPU: the most blocks along x, y and z; a block, or `num_ctas`, "
            "run one program",
        },
        "scratch_bytes": _count("CPU: bytes of memory that each thread lends, aligned to 64"),
        "argument_bytes": _count("bytes of the structure of the arguments"),
    },
    "how to launch it",
    ("threads", "num_warps", "num_ctas", "shared_bytes", "grid_limits", "scratch_bytes"),
)
_EXPRESSION: dict[str, Any] = {
    "type": "array",
    "description": '["arg", type, number of the argument], ["const", type, integer], or '
    "[op of the IR, type, its attributes, expression, ...]",
}
_TENSOR_MAP = _object(
    {
        "pointer": {**_EXPRESSION, "description": "the address; " + _EXPRESSION["description"]},
        "shape": {"type": "array", "items": _EXPRESSION, "description": "sizes by axis"},
        "strides": {
            "type": "array",
            "items": _EXPRESSION,
            "description": "by axis of the tensor, in elements",
        },
        "element": _text("the type of the elements, such as bf16"),
        "axes": {
            "type": "array",
            "items": {"type": "integer"},
            "description": "the axes of the tensor from slowest to fastest",
        },
        "box": {
            "type": "array",
            "items": {"type": "integer"},
            "description": "what one copy moves along each of `axes`",
        },
        "swizzle": {"enum": [0, 32, 64, 128], "description": "in bytes"},
        "padding": {"enum": ["zero", "nan"], "description": "what lies outside"},
        "rounding": {
            "enum": ["", "tf32"],
            "description": "what copies to shared memory round float32 to",
        },
    },
    "a tensor map",
)
_RESOURCES = _object(
    {
        "registers": _count("registers of a thread"),
        "stack_bytes": _count("stack of a thread"),
        "spill_stores": _count("bytes of registers that are stored for want of room"),
        "spill_loads": _count("bytes of them that are loaded again"),
    },
    "what the assembler says; null on CPUs and where there was no assembler",
)
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "blocklang kernel",
    **_object(
        {
            "format": {"const": FORMAT},
            "blocklang": _text("the version of blocklang"),
            "kernel": _text("the kernel's name"),
            "symbol": _text("the name of the entry in the machine code"),
            "source": _text("the file that it was compiled from"),
            "target": _TARGET,
            "files": {
                "type": "object",
                "description": "what was written with it, by stage, relative to the manifest",
                "additionalProperties": {"type": "string"},
            },
            "arguments": {"type": "array", "items": _ARGUMENT, "description": "in order"},
            "constants": {
                "type": "object",
                "description": "what is compiled in: compile-time parameters and fixed arguments; "
                "what JSON cannot say (dtypes, infinities) as text",
            },
            "launch": _LAUNCH,
            "tensor_maps": {
                "type": "array",
                "items": _TENSOR_MAP,
                "description": "GPU: parameters of 128 bytes, aligned to 64, that follow the "
                "arguments, as cuTensorMapEncodeTiled makes them",
            },
            "resources": {"anyOf": [_RESOURCES, {"type": "null"}]},
            "options": {
                "type": "object",
                "description": "the options of the compilation, by name",
                "additionalProperties": {"type": ["boolean", "integer"]},
            },
        },
        "everything that a program needs to know to load and launch the kernel",
    ),
}


def manifest(interface: Interface, path: str, files: Mapping[str, str]) -> str:
    """The text of the manifest at `path`; `files` are paths by stage."""
    kernel = interface.kernel
    resources = kernel.metadata.get("resources")
    folder = os.path.dirname(path) or "."
    contents = {
        "format": FORMAT,
        "blocklang": __version__,
        "kernel": kernel.name,
        "symbol": interface.symbol,
        "source": interface.source,
        "target": _target(interface),
        "files": {stage: _relative(file, folder) for stage, file in files.items()},
        "arguments": [asdict(argument) for argument in interface.arguments],
        "constants": {name: json_value(v) for name, v in interface.constants.items()},
        "launch": _launch(interface),
        "tensor_maps": interface.tensor_maps,
        "resources": resources and {name: resources[name] for name in _RESOURCES["properties"]},
        "options": asdict(kernel.options),
    }
    return json.dumps(contents, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def json_value(value: Any) -> Any:
    """A compile-time value as JSON can say it; as text where it cannot."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, tuple):
        return [json_value(item) for item in value]
    return str(value) if isinstance(value, DType | float) else repr(value)


def _relative(file: str, folder: str) -> str:
    return os.path.relpath(file, folder).replace(os.sep, "/")


def _target(interface: Interface) -> dict[str, str]:
    target = interface.kernel.target
    if isinstance(target, CpuTarget):
        return {
            "name": "cpu",
            "kind": "cpu",
            "triple": target.triple,
            "processor": target.name,
            "features": target.features,
        }
    return {"name": target.name, "kind": "gpu", "ptx_version": interface.ptx_version}


def _launch(interface: Interface) -> dict[str, Any]:
    kernel = interface.kernel
    found: dict[str, Any] = {"argument_bytes": interface.size}
    if not isinstance(kernel.target, GpuTarget):
        return {**found, "scratch_bytes": interface.scratch_bytes}
    if kernel.num_ctas > 1:
        found["num_ctas"] = kernel.num_ctas
    return {
        **found,
        "threads": kernel.threads,
        "num_warps": kernel.options.num_warps,
        "shared_bytes": kernel.metadata["shared_bytes"],
        "grid_limits": list(GRID_LIMITS),
    }
