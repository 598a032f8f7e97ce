"""Source locations: where in the user's program an op, a syntax node or an error comes from.

A location is a half-open range of one file, with 1-based lines and columns (columns count
characters), and the chain of calls through which inlining brought it there: `caller` is the place
of the call. Locations are immutable; every op and block argument carries one through every pass.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Location:
    """A range `line:column` to `end_line:end_column` (exclusive) of `file`, inside `function`."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int
    function: str = ""
    caller: Location | None = None

    @property
    def frames(self) -> tuple[Location, ...]:
        """This location and its callers, outermost call first."""
        frames: list[Location] = []
        location: Location | None = self
        while location is not None:
            frames.append(location)
            location = location.caller
        return tuple(reversed(frames))

    def called_from(self, call: Location) -> Location:
        """This location as seen after inlining the function at `call`."""
        caller = call if self.caller is None else self.caller.called_from(call)
        return replace(self, caller=caller)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


SYNTHETIC = Location("<synthetic>", 0, 0, 0, 0)
"""For modules built by hand in tests and by tools; a compiled kernel must not contain it."""
