"""The launch path of one kernel: a generated function that fits the kernel's signature.

`kernel[grid](...)` runs the generated function, which binds the arguments as Python does and hands
them, in the order of the parameters, to the native fast path. What that does not know or does not
understand comes back here: the general path classifies every argument, checks that they fit
together, asks for a compiled kernel, launches it, and teaches the fast path. Whatever is wrong with
a launch is found and explained on the general path.

This module compiles nothing: `slow_path` does.
"""

from __future__ import annotations

import ctypes
import difflib
import linecache
import operator
import struct
import threading
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from types import MethodType
from typing import Any, Protocol

from blocklang.runtime import cuda, fast, flat, submit
from blocklang.runtime.arrays import HOST, Argument, classify
from blocklang.runtime.descriptor import TensorDescriptor
from blocklang.runtime.errors import (
    ArgumentRangeError,
    ArgumentTypeError,
    DescriptorError,
    GridError,
    LaunchError,
    MissingArgumentError,
    MissingConstexprError,
    MixedPlacesError,
    ReadOnlyArrayError,
    UnexpectedArgumentError,
)
from blocklang.runtime.specialise import (
    MISSING,
    ArgumentFacts,
    Parameter,
    Specialisation,
    argument_facts,
    check_range,
    typed_key,
)

PLACED = ("array", "descriptor")
"""The kinds of arguments that lie somewhere."""


class CompiledKernel(submit.GpuKernel, Protocol):
    """What `slow_path` returns; `kernel[grid](...)` returns the same object to the user.

    `function` and `threads` are read for GPUs only, `launch_host` is called for the CPU only, with
    the address of the packed parameters (`submit.Packer`). `written` are the indices of the
    parameters whose arrays the kernel writes. Indices count the parts of a tensor descriptor in
    place of it.
    """

    written: Collection[int]

    def launch_host(self, grid: tuple[int, int, int], slots: int) -> None:
        """Run every program of the grid on the CPU, and return when all have ended."""


class Launcher:
    """Launches one kernel; `launcher[grid]` is what `kernel[grid]` should return.

    `options` are the keyword arguments besides the parameters, with their defaults; like the
    compile-time parameters they are part of the specialisation. A parameter hides an option, or
    `stream`, of the same name. `slow_path` is called once for each specialisation, by one thread.
    """

    def __init__(
        self,
        name: str,
        parameters: Sequence[Parameter],
        options: Mapping[str, Any],
        slow_path: Callable[[Specialisation], CompiledKernel],
    ) -> None:
        self.name = name
        self.parameters = tuple(parameters)
        taken = {parameter.name for parameter in parameters}
        self.options = {key: value for key, value in options.items() if key not in taken}
        self._slow_path = slow_path
        self._kernels: dict[Hashable, tuple[CompiledKernel, submit.Packer]] = {}
        self._lock = threading.Lock()
        self._compiling: dict[Hashable, threading.Lock] = {}
        self._fast = fast.FastPath(self.parameters, len(self.options))
        self._flat = flat.FlatPaths(self.parameters, len(self.options))
        self._namespace: dict[str, Any] = {}
        self.run = self._generate()

    def __getitem__(self, grid: Any) -> Callable[..., Any]:
        return MethodType(self.run, grid)

    def specialise(self, named: Mapping[str, Any]) -> Specialisation:
        """What a launch with these arguments and options, by name, is compiled for; names that are
        neither are left to the launch.
        """
        values = tuple(named.get(p.name, p.default) for p in self.parameters)
        arguments, facts = self._look_at(values)
        options = {name: named.get(name, default) for name, default in self.options.items()}
        return Specialisation(self._place(arguments), tuple(facts), tuple(options.items()))

    def _generate(self) -> Callable[..., Any]:
        """Make `run(grid, *parameters, **options)` from source text."""
        names = [parameter.name for parameter in self.parameters]
        values = [*names, *self.options]
        # Names of our own that no parameter has.
        mark = "_"
        while any(name.startswith(mark) for name in values):
            mark += "_"
        stream = "None" if "stream" in names else "stream"
        signature = [f"{mark}grid"]
        signature += [f"{name}={mark}default_{i}" for i, name in enumerate(names)]
        signature += [f"*{mark}extra"]
        signature += [f"{name}={mark}option_{i}" for i, name in enumerate(self.options)]
        signature += ["stream=None"] if stream == "stream" else []
        signature += [f"**{mark}unknown"]
        listed = "".join(f"{name}, " for name in values)
        meta = ", ".join(f"{name!r}: {name}" for name in values)
        source = f"""\
def {mark}launch({", ".join(signature)}):
    if {mark}extra or {mark}unknown:
        {mark}reject({mark}extra, {mark}unknown)
    if {mark}grid.__class__ is not tuple:
        {mark}grid = {mark}resolve({mark}grid, {{{meta}}})
    {mark}outcome = {mark}fast.launch({mark}grid, {stream}, {listed})
    if {mark}outcome.__class__ is not bytes:
        return {mark}outcome
    return {mark}general({mark}outcome, {mark}grid, {stream}, ({listed}))
"""
        namespace: dict[str, Any] = {
            f"{mark}reject": self._reject,
            f"{mark}resolve": self._resolve_grid,
            f"{mark}fast": self._fast,
            f"{mark}general": self._launch,
            **{f"{mark}default_{i}": p.default for i, p in enumerate(self.parameters)},
            **{f"{mark}option_{i}": value for i, value in enumerate(self.options.values())},
        }
        file = f"<launcher of {self.name}>"
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        exec(compile(source, file, "exec"), namespace)
        run: Callable[..., Any] = namespace[f"{mark}launch"]
        run.__name__ = run.__qualname__ = self.name
        return run

    def _launch(self, key: bytes, grid: Any, stream: Any, values: tuple[Any, ...]) -> Any:
        """What the fast path does not know; `key` is its key, empty where it understood nothing.

        With descriptors, which it never understands, the fast path is tried with their parts.
        """
        path, parts = self._flat.prepare(values) or (self._fast, values)
        if parts is not values:
            outcome = path.launch(grid, stream, *parts)
            if outcome.__class__ is not bytes:
                return outcome
            key = outcome
        kernel, arguments, maps = self._launch_generally(grid, stream, values)
        if maps is not None:
            path.learn(key, kernel, arguments, parts, maps)
        return kernel

    def _launch_generally(
        self, grid: Any, stream: Any, values: tuple[Any, ...]
    ) -> tuple[CompiledKernel, Sequence[Argument | None], Sequence[Any] | None]:
        """The general path: the kernel, the parts of its arguments, and the tensor maps.

        None for maps where the fast path has nothing to learn: on the CPU, or if none were made.
        """
        sizes = self._grid_sizes(grid)
        given, facts = self._look_at(values)
        device = self._place(given)
        kernel, packer = self._kernel(device, facts, values)
        arguments, owners = _flattened(given)
        for index in kernel.written:
            argument = arguments[index]
            if argument is not None and not argument.writable:
                raise ReadOnlyArrayError(
                    f"{self.name} writes to {self.parameters[owners[index]].name!r}, "
                    "which is a read-only array",
                    "pass a writable copy",
                )
        empty = 0 in sizes
        slots = self._pack(packer, arguments, owners)
        if device == HOST:
            if not empty:
                kernel.launch_host(sizes, ctypes.addressof(slots))
            return kernel, arguments, None
        submit.check_grid(sizes, self.name, kernel.num_ctas)
        with cuda.activated(device) as context:
            handle = submit.choose_stream(stream, device, _arrays_in(values))
            submit.wait_for_producers(arguments, handle)
            maps: Sequence[Any] | None = None if kernel.tensor_maps else ()
            if not empty:
                maps = self._tensor_maps(kernel, arguments, owners)
                submit.submit(self.name, kernel, sizes, handle, slots, context, maps)
        return kernel, arguments, maps

    def _pack(
        self, packer: submit.Packer, arguments: Sequence[Argument | None], owners: Sequence[int]
    ) -> Any:
        """The arguments in their slots. ArgumentRangeError for a number that does not fit the type
        that arrays have given it; what is declared with a dtype has been looked at before.
        """
        try:
            return packer.pack(arguments)
        except struct.error:
            for index, dtype in packer.parameters:
                argument = arguments[index]
                assert argument is not None
                check_range(self.parameters[owners[index]], argument, dtype, self.name)
            raise

    def _tensor_maps(
        self, kernel: CompiledKernel, arguments: Sequence[Argument | None], owners: Sequence[int]
    ) -> Sequence[Any]:
        """The encoded maps of a kernel that needs some."""
        if not kernel.tensor_maps:
            return ()
        taken = [index for index, _ in kernel.parameters]
        numbers = tuple(arguments[index].value for index in taken)  # type: ignore[union-attr]
        names = [self.parameters[owners[index]].name for index in taken]
        return kernel.tensor_maps.encode(numbers, names, self.name)

    def _look_at(
        self, values: tuple[Any, ...]
    ) -> tuple[list[Argument | None], list[ArgumentFacts]]:
        """Classify the arguments (None for compile-time ones), and collect the facts about them."""
        arguments: list[Argument | None] = []
        facts = []
        for parameter, value in zip(self.parameters, values, strict=False):
            if value is MISSING:
                raise self._missing(parameter)
            if parameter.constexpr:
                arguments.append(None)
                facts.append(ArgumentFacts("constexpr", value=value))
                continue
            try:
                if parameter.descriptor is not None and not isinstance(value, TensorDescriptor):
                    named = {p.name: v for p, v in zip(self.parameters, values, strict=False)}
                    value = TensorDescriptor.from_tensor(value, *parameter.descriptor(named))
                argument = classify(value)
            except (ArgumentTypeError, ArgumentRangeError, DescriptorError) as error:
                raise type(error)(
                    f"{parameter.name!r} of {self.name}: {error.message}", error.help
                ) from None
            arguments.append(argument)
            facts.append(argument_facts(parameter, argument, self.name))
        return arguments, facts

    def _missing(self, parameter: Parameter) -> LaunchError:
        help_ = f"pass {parameter.name}=..., or give it a default"
        if parameter.constexpr:
            return MissingConstexprError(
                f"{self.name} needs a value for the compile-time parameter {parameter.name!r}",
                help_,
            )
        return MissingArgumentError(f"{self.name} needs an argument for {parameter.name!r}", help_)

    def _place(self, arguments: Sequence[Argument | None]) -> int:
        """Where the arrays are: a GPU's number or HOST. Without arrays: a GPU if there is one."""
        places = {a.device for a in arguments if a is not None and a.kind in PLACED}
        if len(places) == 1:
            return places.pop()
        if not places:
            return cuda.current_device() if cuda.available() else HOST
        raise MixedPlacesError(
            self.name,
            [
                (p.name, "the host" if a.device == HOST else f"GPU {a.device}")
                for p, a in zip(self.parameters, arguments, strict=True)
                if a is not None and a.kind in PLACED
            ],
        )

    def _kernel(
        self, device: int, facts: Sequence[ArgumentFacts], values: tuple[Any, ...]
    ) -> tuple[CompiledKernel, submit.Packer]:
        options = values[len(facts) :]
        key: Hashable = (
            device,
            *[
                self._constexpr_key(p.name, f.value) if p.constexpr else f
                for p, f in zip(self.parameters, facts, strict=True)
            ],
            *map(self._constexpr_key, self.options, options),
        )
        found = self._kernels.get(key)
        if found is not None:
            return found
        with self._lock:
            compiling = self._compiling.setdefault(key, threading.Lock())
        with compiling:
            found = self._kernels.get(key)
            if found is None:
                named = tuple(zip(self.options, options, strict=True))
                kernel = self._slow_path(Specialisation(device, tuple(facts), named))
                found = self._kernels[key] = kernel, submit.Packer(kernel.parameters)
        self._compiling.pop(key, None)
        return found

    def _constexpr_key(self, name: str, value: Any) -> Hashable:
        try:
            return typed_key(value)
        except TypeError:
            raise ArgumentTypeError(
                f"{name!r} of {self.name} is a compile-time value and must be hashable, "
                f"which {type(value).__name__} is not",
                "pass a tuple instead of a list",
            ) from None

    def _resolve_grid(self, grid: Any, meta: dict[str, Any]) -> tuple[Any, ...]:
        """A tuple from a grid of any other form; a function is given all arguments by name."""
        if callable(grid):
            grid = grid(meta)
        if isinstance(grid, list | tuple):
            return tuple(grid)
        return (grid,)

    def _grid_sizes(self, grid: tuple[Any, ...]) -> tuple[int, int, int]:
        help_ = "a grid is an integer, or a tuple of one to three, or a function that returns one"
        if not 1 <= len(grid) <= 3:
            raise GridError(f"the grid of {self.name} has {len(grid)} axes", help_)
        try:
            sizes = [operator.index(size) for size in grid]
        except TypeError:
            raise GridError(f"the grid of {self.name} is {grid!r}", help_) from None
        if min(sizes) < 0:
            raise GridError(f"the grid of {self.name} is {grid!r}", "sizes are 0 or more")
        x, y, z = sizes + [1] * (3 - len(sizes))
        return x, y, z

    def _reject(self, extra: tuple[Any, ...], unknown: dict[str, Any]) -> None:
        if extra:
            count = len(self.parameters)
            raise UnexpectedArgumentError(
                f"{self.name} takes {count} arguments, but {count + len(extra)} were given",
                "options such as num_warps are passed by keyword",
            )
        names = [*(parameter.name for parameter in self.parameters), *self.options, "stream"]
        name = next(iter(unknown))
        close = difflib.get_close_matches(name, names, 1)
        raise UnexpectedArgumentError(
            f"{self.name} has no parameter or option {name!r}",
            f"did you mean {close[0]!r}?" if close else "it takes " + ", ".join(names),
        )


def _flattened(
    arguments: Sequence[Argument | None],
) -> tuple[Sequence[Argument | None], Sequence[int]]:
    """The arguments with descriptors replaced by their parts, and which one each comes from."""
    if all(a is None or a.kind != "descriptor" for a in arguments):
        return arguments, range(len(arguments))
    flat: list[Argument | None] = []
    owners: list[int] = []
    for index, argument in enumerate(arguments):
        parts: Sequence[Argument | None] = (argument,)
        if argument is not None and argument.kind == "descriptor":
            parts = argument.value.arguments
        flat += parts
        owners += [index] * len(parts)
    return flat, owners


def _arrays_in(values: Sequence[Any]) -> Sequence[Any]:
    """The values of a launch, descriptors replaced by their arrays."""
    return [v.base if isinstance(v, TensorDescriptor) else v for v in values]
