"""Line information as LLVM metadata, so that profilers and debuggers show kernel source.

Only what `.loc` directives need: a compile unit, a subprogram for each (file, function), a
location for each place, with `inlinedAt` for inlined calls.
"""

from __future__ import annotations

import os

from blocklang.ir.location import Location


class DebugInfo:
    """Collects metadata nodes. `first` is the number of the first node."""

    def __init__(self, kernel: str, place: Location) -> None:
        self.nodes: list[str] = []
        self._files: dict[str, int] = {}
        self._scopes: dict[tuple[str, str], int] = {}
        self._places: dict[Location, int] = {}
        file = self._file(place.file)
        self.unit = self._add(
            f'distinct !DICompileUnit(language: DW_LANG_C99, file: !{file}, producer: "blocklang", '
            "isOptimized: true, runtimeVersion: 0, emissionKind: DebugDirectivesOnly)"
        )
        self._type = self._add("!DISubroutineType(types: !{})")
        self.kernel_scope = self._scope(place.file, kernel)

    def location(self, place: Location) -> int:
        """The number of the node for `place`."""
        if place not in self._places:
            # A kernel's own ops belong to the kernel's scope, whatever called them.
            inlined = f", inlinedAt: !{self.location(place.caller)}" if place.caller else ""
            scope = self._scope(place.file, place.function) if place.caller else self.kernel_scope
            kind = "distinct !DILocation" if inlined else "!DILocation"
            self._places[place] = self._add(
                f"{kind}(line: {place.line}, column: {place.column}, scope: !{scope}{inlined})"
            )
        return self._places[place]

    def text(self) -> str:
        """All nodes, and the module's flags."""
        lines = [f"!{number} = {node}" for number, node in enumerate(self.nodes)]
        flags = len(self.nodes)
        lines.append(f'!{flags} = !{{i32 2, !"Debug Info Version", i32 3}}')
        return "\n".join(
            [*lines, f"!llvm.dbg.cu = !{{!{self.unit}}}", f"!llvm.module.flags = !{{!{flags}}}"]
        )

    def _add(self, node: str) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1

    def _file(self, path: str) -> int:
        if path not in self._files:
            directory, name = os.path.split(path)
            self._files[path] = self._add(
                f"!DIFile(filename: {_quote(name)}, directory: {_quote(directory or '.')})"
            )
        return self._files[path]

    def _scope(self, file: str, function: str) -> int:
        key = file, function
        if key not in self._scopes:
            number = self._file(file)
            self._scopes[key] = self._add(
                f"distinct !DISubprogram(name: {_quote(function or 'kernel')}, scope: !{number}, "
                f"file: !{number}, type: !{self._type}, unit: !{self.unit}, "
                "spFlags: DISPFlagDefinition)"
            )
        return self._scopes[key]


def _quote(text: str) -> str:
    return (
        '"'
        + "".join(
            c
            if c.isprintable() and c.isascii() and c not in '"\\'
            else "".join(f"\\{b:02X}" for b in c.encode())
            for c in text
        )
        + '"'
    )
