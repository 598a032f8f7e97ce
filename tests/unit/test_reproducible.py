"""What a kernel compiles to is the same in every process: nothing depends on where objects lie."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = 3
PROGRAM = """
import hashlib, json
from unittest import mock

from blocklang import compile as pipeline
from blocklang.kernel import load

SIZES = {"BM": 64, "BN": 64, "D": 64, "BLOCK": 256, "PIECES": (4, 128, 2, 64, 32)}
found = {}
with mock.patch.object(pipeline, "ptxas", return_value=None):
    for name in ("vector_add", "softmax", "layernorm", "gemm", "flash_attention"):
        for kernel in vars(load(f"examples/{name}.bl")).values():
            if not kernel.__blocklang_function__.is_kernel:
                continue
            sizes = {p.name: SIZES[p.name] for p in kernel.parameters if p.name in SIZES}
            for target in ("cpu", "sm_90a"):
                text = kernel.compile({}, sizes, target).asm["llvm"]
                found[f"{kernel.__name__} {target}"] = hashlib.sha256(text.encode()).hexdigest()
print(json.dumps(found))
"""


def compiled(folder: Path) -> dict[str, str]:
    """Digests of all kernels of the examples, as a process of its own compiles them."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, cwd=ROOT,
        env={**os.environ, "BLOCKLANG_CACHE_DIR": str(folder), "PYTHONHASHSEED": "random"},
    )  # fmt: skip
    found: dict[str, str] = json.loads(run.stdout)
    return found


def test_code_is_the_same_in_every_process(tmp_path: Path) -> None:
    first, *others = (compiled(tmp_path / str(number)) for number in range(PROCESSES))
    assert len(first) > 40
    for other in others:
        assert {name for name in first if first[name] != other[name]} == set()
