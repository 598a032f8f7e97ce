"""Kernels as users hold them: the `jit` decorator, files of `.bl` kernels, compilation without a
launch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import cached_property
from types import SimpleNamespace
from typing import Any, overload

from blocklang import environment
from blocklang.errors import UnknownCompileOption
from blocklang.options import DEFAULTS, Options
from blocklang.runtime.arrays import HOST
from blocklang.runtime.specialise import MISSING, Parameter, Specialisation


class JitFunction:
    """A kernel, or a function that kernels call.

    `kernel[grid](*arguments, **options)` launches it: on the CPU for NumPy arrays, on a GPU for
    arrays there. `grid` is an int, a tuple of up to three, or a function of the arguments by name
    that returns one. Returns the `CompiledKernel`.
    """

    def __init__(
        self,
        function: Callable[..., Any] | None,
        syntax: Any = None,
        do_not_specialize: tuple[int | str, ...] = (),
        do_not_specialize_on_alignment: tuple[int | str, ...] = (),
        debug: bool = False,
    ) -> None:
        self._function = function
        self._syntax = syntax
        self._unspecialized = do_not_specialize
        self._unaligned = do_not_specialize_on_alignment
        self._debug = debug
        self.__name__ = syntax.name if function is None else function.__name__
        self.__doc__ = syntax.documentation if function is None else function.__doc__
        self.__module__ = "" if function is None else function.__module__
        self.__wrapped__ = function

    @cached_property
    def __blocklang_function__(self) -> Any:
        """The syntax tree, parsed when it is first needed."""
        if self._syntax is not None:
            return self._syntax
        from blocklang.frontend.python import parse_python

        assert self._function is not None
        return parse_python(self._function)

    @cached_property
    def parameters(self) -> list[Parameter]:
        """The parameters as launches see them."""
        from blocklang.signature import declared_descriptor, declared_dtype, default_value

        tree = self.__blocklang_function__
        found = []
        for index, parameter in enumerate(tree.parameters):
            named = {index, parameter.name}
            found.append(
                Parameter(
                    parameter.name,
                    constexpr=parameter.is_constexpr,
                    dtype=None if parameter.is_constexpr else declared_dtype(parameter),
                    specialize=not named & set(self._unspecialized),
                    specialize_alignment=not named & set(self._unaligned),
                    default=default_value(tree, parameter, MISSING),
                    descriptor=declared_descriptor(parameter),
                )
            )
        return found

    @cached_property
    def _launcher(self) -> Any:
        from blocklang.runtime.launcher import Launcher

        options = {**DEFAULTS, "debug": self._debug or environment.DEBUG.get()}
        return Launcher(self.__name__, self.parameters, options, self._compile_specialisation)

    def __getitem__(self, grid: Any) -> Callable[..., Any]:
        return self._launcher[grid]

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        raise TypeError(
            f"{self.__name__} is a kernel: launch it with {self.__name__}[grid](...), or call it "
            "from another kernel"
        )

    def warmup(self, *arguments: Any, grid: Any = (1,), **keywords: Any) -> Any:
        """Compile for these arguments, as a launch would, without running; returns the
        `CompiledKernel`.
        """
        return self._launcher[(0,)](*arguments, **keywords)

    def compile(
        self,
        signature: Mapping[str, Any] | None = None,
        constexprs: Mapping[str, Any] | None = None,
        target: str = "cpu",
        passes: Any = None,
        **options: Any,
    ) -> Any:
        """Compile ahead of time, without arrays and without a GPU.

        `signature` gives each runtime parameter its type as in Triton: "*fp32", "i64", with ":16"
        where pointer or value is divisible by 16; a number (or None) instead of a type is a value
        that the code is specialised to. What a `.bl` file declares may be left out. `constexprs`
        gives compile-time parameters, `options` are those of a launch. A `PassManager` as `passes`
        observes the compilation, which then takes nothing from the cache. Returns the
        `CompiledKernel`. Raises CompileError.
        """
        from blocklang.signature import bind_signature

        tree = self.__blocklang_function__
        bound = bind_signature(tree, signature or {}, constexprs or {})
        return self._compile(bound, target, HOST, options, passes)

    def specialise(self, arguments: Mapping[str, Any]) -> Specialisation:
        """What a launch with these arguments and options, by name, is compiled for.

        Raises LaunchError where they do not fit the parameters.
        """
        found: Specialisation = self._launcher.specialise(arguments)
        return found

    def address(self, specialisation: Specialisation) -> str:
        """The key under which the disk cache has, or would have, the kernel compiled for this:
        a hash of its IR, its options, the target and the compiler. Raises CompileError.
        """
        from blocklang.compile import address, parse_target

        bound, target = self._bind(specialisation)
        options = self._options(dict(specialisation.options))
        return address(self._lower(bound, options), parse_target(target), options)[1]

    def _bind(self, specialisation: Specialisation) -> tuple[Any, str]:
        from blocklang.runtime import cuda
        from blocklang.signature import bind_facts

        target = (
            "cpu" if specialisation.device == HOST else cuda.device(specialisation.device).target
        )
        return bind_facts(self.__blocklang_function__, specialisation.arguments), target

    def _compile_specialisation(self, specialisation: Specialisation) -> Any:
        bound, target = self._bind(specialisation)
        return self._compile(bound, target, specialisation.device, dict(specialisation.options))

    def _options(self, given: dict[str, Any]) -> Options:
        unknown = set(given) - set(DEFAULTS)
        if unknown:
            raise UnknownCompileOption(name=min(unknown), known=", ".join(DEFAULTS))
        return Options(**{"debug": self._debug or environment.DEBUG.get(), **given})

    def _lower(self, bound: Any, options: Options) -> Any:
        from blocklang.frontend.lower import lower_kernel

        return lower_kernel(
            self.__blocklang_function__,
            bound.types,
            bound.facts,
            bound.constexprs,
            {"debug": options.debug},
        )

    def _compile(
        self, bound: Any, target: str, device: int, options: dict[str, Any], passes: Any = None
    ) -> Any:
        from blocklang.compile import compile_module, parse_target
        from blocklang.compiled import CompiledKernel

        chosen = self._options(options)
        tree = self.__blocklang_function__
        with passes.measure("types and IR") if passes else nullcontext():
            module = self._lower(bound, chosen)
        where = parse_target(target)
        files = compile_module(module, where, chosen, passes)
        texts = {"source": tree.source.encode()}
        return CompiledKernel(
            where, chosen, {**texts, **files}, bound.names(tree), device, bound.constexprs,
            {"bl": lambda: _kernel_text(tree, bound, chosen.debug, files["ir"])},
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<kernel {self.__name__}>"


def _kernel_text(tree: Any, bound: Any, debug: bool, ir: bytes) -> str:
    from blocklang.standalone import kernel_text

    return kernel_text(tree, bound, debug, ir.decode())


@overload
def jit(function: Callable[..., Any]) -> JitFunction: ...
@overload
def jit(
    *,
    do_not_specialize: tuple[int | str, ...] = (),
    do_not_specialize_on_alignment: tuple[int | str, ...] = (),
    debug: bool = False,
) -> Callable[[Callable[..., Any]], JitFunction]: ...
def jit(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Make a Python function a kernel, or a function that kernels call.

    `do_not_specialize` and `do_not_specialize_on_alignment` list parameters (by name or position)
    for whose values, or divisibility, no code of its own is compiled. `debug` compiles
    `device_assert`.
    """
    if function is None:
        return lambda actual: JitFunction(actual, **options)
    return JitFunction(function, **options)


def load(path: str | os.PathLike[str]) -> SimpleNamespace:
    """The kernels and functions of a `.bl` file, as attributes. Raises CompileError where it is
    wrong.
    """
    from blocklang.frontend import syntax
    from blocklang.frontend.text import load_file
    from blocklang.parser_tables import prepare_parser

    prepare_parser()
    scope = load_file(path)
    return SimpleNamespace(
        **{
            name: JitFunction(None, tree)
            for name, tree in scope.items()
            if isinstance(tree, syntax.Function)
        }
    )
