"""Applies the worked examples of docs/add-*.md to a copy of the project.

A fence whose language is followed by a path is a file to write or, for `diff`, lines to add to it;
what stands on lines that begin with a space says where.

    ```diff blocklang/compile.py
     from blocklang.ir.passes.manager import Pass, PassManager
    +from blocklang.ir.passes.reassociate import Reassociate
    ```
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("blocklang", "tests", "tools", "docs", "pyproject.toml")
FENCE = re.compile(
    r"^```(?P<language>\w+) (?P<path>[\w./-]+\.\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.M
)


def copy_project(target: Path) -> None:
    """A copy of what an example may change or run."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", ".*")
            shutil.copytree(source, target / name, ignore=ignored)
        else:
            shutil.copy(source, target / name)


def apply_page(page: str, target: Path) -> list[str]:
    """Apply all fences of a page; the paths of the files that it writes or changes."""
    text = (ROOT / page).read_text(encoding="utf-8")
    paths = []
    for fence in FENCE.finditer(text):
        path = target / fence["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        if fence["language"] == "diff":
            changed = add_lines(path.read_text(encoding="utf-8"), fence["text"])
            path.write_text(changed, encoding="utf-8")
        else:
            path.write_text(fence["text"], encoding="utf-8")
        paths.append(fence["path"])
    return paths


def add_lines(text: str, diff: str) -> str:
    """`text` with the added lines of each part of `diff`; parts are separated by `...`."""
    for part in diff.split("...\n"):
        lines = part.splitlines(keepends=True)
        assert all(line[0] in " +-\n" for line in lines), "lines begin with a space, + or -"
        before = "".join(line[1:] or "\n" for line in lines if line[0] != "+")
        after = "".join(line[1:] or "\n" for line in lines if line[0] != "-")
        assert text.count(before) == 1, f"{text.count(before)} places for:\n{before}"
        text = text.replace(before, after)
    return text


def run(target: Path, *words: str) -> str:
    """Run Python in the copy; what it prints. AssertionError if it fails."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(target),
        "BLOCKLANG_CACHE_DIR": str(target / "c"),
    }
    command = [sys.executable, *words]
    done = subprocess.run(
        command, cwd=target, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
