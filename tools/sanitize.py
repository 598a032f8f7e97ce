#!/usr/bin/env python3
"""Run the examples under the tools of compute-sanitizer, and write down what they found.

    python -m tools.sanitize results.json [--commit HASH] [--examples gemm flash_attention ...]

Each example checks its own results, too. A row of section `sanitizer` has the tool's errors, or its
last words where it has not come to an end: `crashes` counts the runs in which the sanitizer itself
was ended by a signal, after which it is tried again. Needs a GPU, and torch or cuda-python.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.record import Results, parser

SANITIZER = "compute-sanitizer"
ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ("gemm", "flash_attention", "softmax", "layernorm")
TOOLS = ("memcheck", "racecheck", "synccheck")
SUMMARY = re.compile(r"(?:ERROR|RACECHECK) SUMMARY: (\d+)")
# Small, since every instruction is looked at; no tile of the examples divides them.
SIZES = {"gemm": (200, 136), "flash_attention": (200, 64)}
ATTEMPTS = 3
SECONDS = 240


def check(tool: str, example: str) -> dict[str, Any]:
    """What one tool says of one example."""
    rows, columns = SIZES.get(example, (130, 257))
    command = [
        SANITIZER, "--tool", tool, sys.executable, f"examples/{example}.py",
        "--device", "gpu", "--rows", str(rows), "--columns", str(columns), "--dtype", "bfloat16",
    ]  # fmt: skip
    for crashes in range(ATTEMPTS):
        code, text = execute(command)
        if code is None:
            return {"errors": None, "status": f"not done in {SECONDS} s", "crashes": crashes}
        found = SUMMARY.search(text)
        last = text.splitlines()[-1] if text else ""
        if found:
            status = "correct" if code == 0 else last
            return {"errors": int(found[1]), "status": status, "crashes": crashes}
        if code >= 0:
            break
    crashes += code < 0
    return {"errors": None, "status": f"ended with {code}: {last}", "crashes": crashes}


def execute(command: Sequence[str]) -> tuple[int | None, str]:
    """The exit status of a command (None: it took too long, and was ended) and what it wrote."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
            env={**os.environ, "BLOCKLANG_CACHE_DIR": folder}, start_new_session=True,
        )  # fmt: skip
        try:
            text, _ = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            # The example is a process of its own, which holds the GPU.
            os.killpg(process.pid, signal.SIGKILL)
            text, _ = process.communicate()
            return None, text
        return process.returncode, text


def main() -> int:
    """Run everything; 1 if anything was found."""
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--examples", nargs="*", default=EXAMPLES)
    arguments = options.parse_args()
    if shutil.which(SANITIZER) is None:
        options.error(f"there is no {SANITIZER} on the path: it comes with the CUDA toolkit")
    results = Results(arguments.commit)
    cases = [(tool, example) for example in arguments.examples for tool in TOOLS]
    with ThreadPoolExecutor(len(TOOLS)) as pool:
        for (tool, example), found in zip(
            cases, pool.map(check, *zip(*cases, strict=True)), strict=True
        ):
            results.add("sanitizer", example, tool, **found)
            results.write(arguments.output)
    return int(any(row["errors"] != 0 or row["status"] != "correct" for row in results.rows))


if __name__ == "__main__":
    sys.exit(main())
