"""What wraps a kernel and is launched like it: the common part of autotuners and heuristics."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from types import MethodType
from typing import Any

from blocklang.errors import ChosenTwice, NotAKernel, UnknownParameter
from blocklang.kernel import JitFunction
from blocklang.runtime.specialise import MISSING, Parameter, Specialisation


class KernelDecorator:
    """A kernel (`fn`), some of whose arguments are chosen here rather than at the launch.

    `decorator` is the word for it in errors. Raises CompileError where `fn` is not a kernel.
    """

    decorator = ""

    def __init__(self, fn: Any) -> None:
        if not isinstance(fn, JitFunction | KernelDecorator):
            name = getattr(fn, "__name__", None)
            found = f"the function {name}" if name else f"a value of type {type(fn).__name__}"
            raise NotAKernel(decorator=self.decorator, found=found)
        self.fn: Any = fn
        self.__name__: str = fn.__name__
        self.__doc__ = fn.__doc__
        self.__module__ = fn.__module__
        self.__wrapped__ = fn

    @property
    def __blocklang_function__(self) -> Any:
        return self.fn.__blocklang_function__

    @property
    def parameters(self) -> list[Parameter]:
        """The parameters of the kernel."""
        found: list[Parameter] = self.fn.parameters
        return found

    def __getitem__(self, grid: Any) -> Callable[..., Any]:
        return MethodType(self._launch, grid)

    def _launch(self, grid: Any, *arguments: Any, **keywords: Any) -> Any:
        raise NotImplementedError

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self.fn(*arguments, **keywords)

    def compile(
        self,
        signature: Mapping[str, Any] | None = None,
        constexprs: Mapping[str, Any] | None = None,
        target: str = "cpu",
        **options: Any,
    ) -> Any:
        """Compile the kernel ahead of time with the values and options that are given: as the
        kernel's own `compile`. Nothing is chosen, since there are no arguments to choose by.
        """
        return self.fn.compile(signature, constexprs, target, **options)

    def address(self, specialisation: Specialisation) -> str:
        """The key of a specialisation in the disk cache; see `JitFunction.address`."""
        found: str = self.fn.address(specialisation)
        return found

    def named(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a launch by name, with defaults where they are not given."""
        return {**self._defaults, **dict(zip(self._names, arguments, strict=False)), **keywords}

    @cached_property
    def _names(self) -> list[str]:
        return [parameter.name for parameter in self.parameters]

    @cached_property
    def _defaults(self) -> dict[str, Any]:
        return {p.name: p.default for p in self.parameters if p.default is not MISSING}

    def _require_parameters(self, names: Iterable[str], where: str) -> None:
        """Raise CompileError for a name that is no parameter of the kernel."""
        for name in names:
            if name not in self._names:
                close = difflib.get_close_matches(name, self._names, 1)
                raise UnknownParameter(
                    self.__blocklang_function__.location,
                    kernel=self.__name__,
                    name=name,
                    instead=f"{where} names it; "
                    + (
                        f"did you mean {close[0]!r}?"
                        if close
                        else f"the parameters are: {', '.join(self._names)}"
                    ),
                )

    def _reject_given(
        self, chosen: Iterable[str], arguments: Sequence[Any], keywords: Mapping[str, Any]
    ) -> None:
        """Raise CompileError where a launch gives what is chosen here."""
        given = {*self._names[: len(arguments)], *keywords}
        for name in chosen:
            if name in given:
                raise ChosenTwice(name=name, kernel=self.__name__, chooser=self.decorator)

    def __repr__(self) -> str:
        return f"<{self.decorator} of {self.fn!r}>"
