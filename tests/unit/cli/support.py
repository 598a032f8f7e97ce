"""What the tests of the command line share: running it in this process, and a kernel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from blocklang import compile as pipeline
from blocklang.cli import main

EXAMPLES = Path(__file__).resolve().parents[3] / "docs" / "cli"

TWO = """\
kernel first(x: *f32, N: constexpr):
    store(x + arange(0, N), missing)

kernel second(x: *f32, n: i32):
    store(x + arange(0, 4), n + nothing)
"""

needs_ptxas = pytest.mark.skipif(pipeline.ptxas() is None, reason="there is no ptxas")


@dataclass(frozen=True)
class Outcome:
    """What one command did."""

    code: int
    out: str
    err: str


class CommandLine:
    """Runs `blc` in this process, in a folder that has the examples of the documentation."""

    def __init__(self, capture: pytest.CaptureFixture[str], folder: Path) -> None:
        self.capture = capture
        self.folder = folder

    def __call__(self, *words: str, code: int = 0) -> Outcome:
        """Run a command, which must end with this exit code."""
        self.capture.readouterr()
        found = main([str(word) for word in words])
        out, err = self.capture.readouterr()
        assert found == code, f"exit code {found}\n{out}{err}"
        assert "Traceback" not in err
        return Outcome(found, out, err)

    def write(self, name: str, text: str) -> str:
        """Write a file into the folder."""
        (self.folder / name).write_text(text, encoding="utf-8")
        return name

    def names(self) -> set[str]:
        """The names of the files that are not examples."""
        examples = {path.name for path in EXAMPLES.iterdir()}
        return {path.name for path in self.folder.iterdir()} - examples
