#!/usr/bin/env python3
"""Run the examples under the tools of compute-sanitizer, and write down what they found.

    python -m tools.sanitize results.json [--commit HASH] [--examples gemm flash_attention ...]

Each example checks its own results, too. A row of section `sanitizer` has the tool's errors, or its
last words where it has not come to an end: `crashes` counts the runs in which the sanitizer itself
was ended by a signal, after which it is tried again. Needs a GPU, and torch or cuda-python.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.record import Results

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
        "compute-sanitizer", "--tool", tool, sys.executable, f"examples/{example}.py",
        "--device", "gpu", "--rows", str(rows), "--columns", str(columns), "--dtype", "bfloat16",
    ]  # fmt: skip
    crashes = 0
    while True:
        with tempfile.TemporaryDirectory() as folder:
            environment = {**os.environ, "BLOCKLANG_CACHE_DIR": folder}
            try:
                run = subprocess.run(
                    command, capture_output=True, text=True, cwd=ROOT, env=environment,
                    timeout=SECONDS,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                return {"errors": None, "status": f"not done in {SECONDS} s", "crashes": crashes}
        found = SUMMARY.search(run.stdout)
        if found:
            status = "correct" if run.returncode == 0 else run.stdout.splitlines()[-1]
            return {"errors": int(found[1]), "status": status, "crashes": crashes}
        crashes += 1
        if run.returncode >= 0 or crashes == ATTEMPTS:
            last = (run.stdout + run.stderr).splitlines()[-1:]
            status = f"ended with {run.returncode}: {' '.join(last)}"
            return {"errors": None, "status": status, "crashes": crashes}


def main() -> int:
    """Run everything; 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="where the JSON goes")
    parser.add_argument("--commit", default="", help="the commit, where git cannot tell")
    parser.add_argument("--examples", nargs="*", default=EXAMPLES)
    arguments = parser.parse_args()
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
