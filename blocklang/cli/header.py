"""The C header of a compiled kernel, for C99 and C++11 and later.

It needs no other header but <stdint.h>: neither CUDA's nor one of ours. The structure of the
arguments has the layout that `interface` computes; the header checks its size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from blocklang import __version__
from blocklang.ir.types import DType
from blocklang.runtime.tensor_map import MAP_BYTES

from .arguments import UsageError
from .interface import Argument, Interface, identifier, unique
from .manifest import GRID_LIMITS
from .tensor_maps import description

_OWN_CONSTANTS = (
    "SYMBOL",
    "TARGET",
    "ARGUMENTS",
    "THREADS",
    "SHARED_BYTES",
    "SCRATCH_BYTES",
    "TENSOR_MAPS",
    "H",
)
# Up to here, a block may have dynamic shared memory without asking for it.
_SHARED_BYTES_WITHOUT_ASKING = 48 * 1024


def header(interface: Interface) -> str:
    """The text of the header. UsageError for a kernel of a CPU whose name C cannot say."""
    lines = _gpu_lines(interface) if interface.is_gpu else _cpu_lines(interface)
    guard = f"BLOCKLANG_{interface.prefix.upper()}_H"
    return "\n".join(
        [
            *_comment(list(_introduction(interface))),
            f"#ifndef {guard}",
            f"#define {guard}",
            "",
            "#include <stdint.h>",
            "",
            "#ifdef __cplusplus",
            'extern "C" {',
            "#endif",
            "",
            *lines,
            "",
            "#ifdef __cplusplus",
            "}",
            "#endif",
            "",
            f"#endif /* {guard} */",
            "",
        ]
    )


def _introduction(interface: Interface) -> Iterator[str]:
    kernel, prefix = interface.kernel, interface.prefix
    where = kernel.target.name if interface.is_gpu else f"CPUs ({kernel.target.name or 'any'})"
    yield f"The kernel {kernel.name} for {where}."
    yield f"Made by blocklang {__version__} from {interface.source}."
    yield ""
    if interface.is_gpu:
        yield f"Get the function {prefix.upper()}_SYMBOL from the machine code or PTX, then:"
        yield ""
        yield from (f"    {line}" for line in _gpu_usage(interface))
        yield ""
        limits = " x ".join(map(str, GRID_LIMITS))
        if kernel.num_ctas == 1:
            yield "A block of the grid runs one program of the kernel. Grids have at most"
        else:
            yield f"{kernel.num_ctas} blocks along x, a cluster, run one program of the kernel:"
            yield "the grid that is launched has so many times the programs. Grids have at most"
        yield f"{limits} blocks."
        if kernel.metadata["shared_bytes"] > _SHARED_BYTES_WITHOUT_ASKING:
            yield ""
            yield "Before the first launch, allow the shared memory:"
            yield ""
            yield "    cuFuncSetAttribute(function,"
            yield "        CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,"
            yield f"        {prefix.upper()}_SHARED_BYTES);"
    else:
        yield from _cpu_contract(interface)


def _gpu_usage(interface: Interface) -> Iterator[str]:
    prefix, upper = interface.prefix, interface.prefix.upper()
    parameters = "NULL"
    if interface.arguments:
        yield f"struct {prefix}_arguments arguments = {{...}};"
        if interface.tensor_maps:
            yield f"CUtensorMap tensor_maps[{upper}_TENSOR_MAPS] = {{...}};"
        yield f"void *parameters[{_parameter_count(interface)}];"
        maps = "tensor_maps, " if interface.tensor_maps else ""
        yield f"{prefix}_parameters(&arguments, {maps}parameters);"
        parameters = "parameters"
    # The blocks of threads of a cluster are one program.
    across = f"{upper}_NUM_CTAS * grid_x" if interface.kernel.num_ctas > 1 else "grid_x"
    yield f"cuLaunchKernel(function, {across}, grid_y, grid_z, {upper}_THREADS, 1, 1,"
    yield f"               {upper}_SHARED_BYTES, stream, {parameters}, NULL);"


def _cpu_contract(interface: Interface) -> Iterator[str]:
    upper = interface.prefix.upper()
    yield "The function runs the programs begin <= i < end of the grid, where program"
    yield "(x, y, z) has the number i = x + grid_x * (y + grid_y * z). Several threads may"
    yield "run different ranges at a time, in any order."
    yield f"`scratch` is memory of the calling thread alone: {upper}_SCRATCH_BYTES bytes,"
    yield "aligned to 64, which need not be cleared."
    yield "The result is 0, or another number where a program has stopped:"
    yield "an assertion of the kernel has failed. Then the programs after it have not run."


def _gpu_lines(interface: Interface) -> list[str]:
    kernel, prefix, upper = interface.kernel, interface.prefix, interface.prefix.upper()
    arguments = interface.arguments
    lines = [
        *_constants(interface),
        f"#define {upper}_THREADS {kernel.threads}",
        f"#define {upper}_SHARED_BYTES {kernel.metadata['shared_bytes']}",
        *([f"#define {upper}_NUM_CTAS {kernel.num_ctas}"] if kernel.num_ctas > 1 else []),
        *_tensor_maps(interface),
    ]
    if not arguments:
        return lines
    start = f"static inline void {prefix}_parameters("
    return [
        *lines,
        "",
        *_structure(interface),
        "",
        "/* Point `parameters` to the arguments, which must live until the launch returns. */",
        f"{start}struct {prefix}_arguments *arguments,",
        *([f"{' ' * len(start)}void *tensor_maps,"] if interface.tensor_maps else []),
        f"{' ' * len(start)}void *parameters[{_parameter_count(interface)}])",
        "{",
        *(f"    parameters[{i}] = &arguments->{a.member};" for i, a in enumerate(arguments)),
        *(
            f"    parameters[{len(arguments) + i}] = (uint8_t *)tensor_maps + {MAP_BYTES * i};"
            for i in range(len(interface.tensor_maps))
        ),
        "}",
    ]


def _parameter_count(interface: Interface) -> str:
    upper = interface.prefix.upper()
    return f"{upper}_ARGUMENTS" + (f" + {upper}_TENSOR_MAPS" if interface.tensor_maps else "")


def _tensor_maps(interface: Interface) -> list[str]:
    """How many maps there are, and how each is encoded."""
    members = [argument.member for argument in interface.arguments]
    recipes = interface.tensor_maps
    if not recipes:
        return []
    lines = [line for i, recipe in enumerate(recipes) for line in description(i, recipe, members)]
    return [*_comment(lines), f"#define {interface.prefix.upper()}_TENSOR_MAPS {len(recipes)}"]


def _cpu_lines(interface: Interface) -> list[str]:
    upper = interface.prefix.upper()
    if identifier(interface.symbol) != interface.symbol:
        raise UsageError(
            f"C has no function that is called {interface.symbol!r}",
            "give the kernel another name, or leave the header out with --no-sidecars",
        )
    structure = ["", *_structure(interface)] if interface.arguments else []
    parameters = f"const struct {interface.prefix}_arguments *" if structure else "const void *"
    return [
        *_constants(interface),
        f"#define {upper}_SCRATCH_BYTES {interface.scratch_bytes}",
        *structure,
        "",
        f"int32_t {interface.symbol}({parameters}arguments,",
        "    int64_t grid_x, int64_t grid_y, int64_t grid_z,",
        "    int64_t begin, int64_t end, void *scratch);",
    ]


def _constants(interface: Interface) -> Iterator[str]:
    upper = interface.prefix.upper()
    taken = {f"{upper}_{name}" for name in _OWN_CONSTANTS}
    if interface.constants:
        yield "/* Compiled in; another value needs another compilation. */"
    for name, value in interface.constants.items():
        macro = unique(f"{upper}_{identifier(name).upper().rstrip('_')}", taken)
        text = c_literal(value)
        yield f"#define {macro} {text}" if text else f"/* {_safe(f'{name} is {value!r}')} */"
    yield from [""] if interface.constants else []
    target = interface.kernel.target.name if interface.is_gpu else "cpu"
    yield f'#define {upper}_SYMBOL "{interface.symbol}"'
    yield f'#define {upper}_TARGET "{target}"'
    yield f"#define {upper}_ARGUMENTS {len(interface.arguments)}"


def c_literal(value: Any) -> str:
    """A compile-time value in C; empty where C has no literal for it."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, int):
        if not -(2**63) < value < 2**64:
            return ""
        suffix = "ULL" if value >= 2**63 else ""
        return f"{value}{suffix}" if value >= 0 else f"({value})"
    if isinstance(value, float):
        text = repr(value)
        plain = all(c in "0123456789.e+-" for c in text)
        return (f"({text})" if value < 0 else text) if plain else ""
    if isinstance(value, DType):
        return f'"{value}"'
    if isinstance(value, str) and value.isascii() and value.isprintable():
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return ""


def _structure(interface: Interface) -> list[str]:
    prefix = interface.prefix
    lines = [f"struct {prefix}_arguments {{"]
    end = 0
    names = {argument.member for argument in interface.arguments}
    for argument in interface.arguments:
        gap = 0 if interface.is_gpu else argument.offset - end
        lines += _padding(gap, names)
        lines.append(
            f"    {argument.c_type} {argument.member}; /* {_about(argument, interface)} */"
        )
        end = argument.offset + argument.size
    lines += _padding(0 if interface.is_gpu else interface.size - end, names)
    check = f"sizeof(struct {prefix}_arguments) == {interface.size} ? 1 : -1"
    return [*lines, "};", f"typedef char {prefix}_arguments_have_the_right_size[{check}];"]


def _padding(size: int, names: set[str]) -> list[str]:
    return [f"    uint8_t {unique('unused', names)}[{size}];"] if size else []


def _about(argument: Argument, interface: Interface) -> str:
    if not argument.type.startswith("*"):
        facts = argument.type
    else:
        place = "device address" if interface.is_gpu else "address"
        use = "read and written" if argument.written else "read"
        facts = f"{place} of {argument.type[1:]}, {use}"
    divisible = f"; divisible by {argument.divisible}" if argument.divisible > 1 else ""
    return _safe(facts + divisible)


def _comment(lines: list[str]) -> list[str]:
    return ["/*", *(f" * {_safe(line)}".rstrip() for line in lines), " */"]


def _safe(text: str) -> str:
    """Text that does not end the comment that it stands in."""
    return text.replace("*/", "* /").replace("/*", "/ *").replace("\n", " ")
