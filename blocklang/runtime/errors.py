"""What can go wrong when a kernel is launched, as errors for people.

Every class has a stable code, `BL5xx`, and every error says what was found and what to do. The
classes also derive from the built-in exception that a Python programmer would expect. Mistakes
inside kernels are compile errors (`blocklang.ir.diagnostics`), not launch errors.
"""

from __future__ import annotations

from collections.abc import Sequence


class LaunchError(Exception):
    """A kernel could not be launched, or its run failed: `message`, and `help` on what to do."""

    code = "BL500"

    def __init__(self, message: str, help: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.help = help

    def __str__(self) -> str:
        text = f"error[{self.code}]: {self.message}"
        return f"{text}\n  help: {self.help}" if self.help else text


class NoDriverError(LaunchError, RuntimeError):
    """No usable NVIDIA driver (or no cuda-python) on this machine."""

    code = "BL501"


class NoDeviceError(LaunchError, RuntimeError):
    """The driver works, but the wanted GPU does not exist."""

    code = "BL502"


class ArgumentTypeError(LaunchError, TypeError):
    """An argument is of a type that no kernel parameter can take."""

    code = "BL503"


class MissingArgumentError(LaunchError, TypeError):
    """A kernel parameter has neither an argument nor a default."""

    code = "BL504"


class UnexpectedArgumentError(LaunchError, TypeError):
    """The call has more positional arguments, or other keywords, than the kernel takes."""

    code = "BL505"


class MissingConstexprError(MissingArgumentError):
    """A compile-time parameter has neither a value nor a default."""

    code = "BL506"


class MixedPlacesError(LaunchError, ValueError):
    """The arrays of one launch are not all on the host, or not all on one GPU."""

    code = "BL507"

    def __init__(self, kernel: str, places: Sequence[tuple[str, str]]) -> None:
        listed = ", ".join(f"{name!r} is on {place}" for name, place in places)
        super().__init__(
            f"the arrays given to {kernel} are in different places: {listed}",
            "move them to one place, such as one GPU, before the launch",
        )
        self.places = tuple(places)


class ReadOnlyArrayError(LaunchError, ValueError):
    """The kernel writes to an array that must not be written."""

    code = "BL508"


class ArgumentRangeError(LaunchError, OverflowError):
    """A number does not fit the type of its parameter."""

    code = "BL509"


class GridError(LaunchError, ValueError):
    """The grid is of the wrong type, or out of the range of the target."""

    code = "BL510"


class CudaError(LaunchError, RuntimeError):
    """The CUDA driver refused a call; `name` and `number` are its own, such as
    CUDA_ERROR_OUT_OF_MEMORY and 2."""

    code = "BL512"

    def __init__(self, doing: str, name: str, number: int, meaning: str, help: str = "") -> None:
        super().__init__(f"{doing} failed: {meaning} ({name}, {number})", help)
        self.name = name
        self.number = number


class ModuleLoadError(LaunchError, RuntimeError):
    """The driver could not load or assemble the code of a kernel; `log` is what it printed."""

    code = "BL513"

    def __init__(self, message: str, help: str = "", log: str = "") -> None:
        super().__init__(f"{message}\n{log}" if log else message, help)
        self.log = log


class StreamError(LaunchError, TypeError):
    """The `stream` of a launch is not something that denotes a CUDA stream."""

    code = "BL514"


class DescriptorError(LaunchError, ValueError):
    """A tensor descriptor that is none, or not what the kernel takes."""

    code = "BL516"


class TensorMapError(LaunchError, ValueError):
    """The tensor memory accelerator cannot work on the tensor that an argument describes."""

    code = "BL517"


class ProgramError(LaunchError, RuntimeError):
    """A program of the grid stopped with a status that is not zero, such as a failed assertion."""

    code = "BL515"

    def __init__(self, message: str, status: int, help: str = "") -> None:
        super().__init__(message, help)
        self.status = status
