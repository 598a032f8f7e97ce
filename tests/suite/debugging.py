"""Assertions and printing, whose effects are outside of arrays: run as a program of its own.

`python -m tests.suite.debugging cpu|gpu NAME` launches one kernel and says how that ended. A failed
assertion on a GPU leaves the process without a usable GPU, hence the process.
"""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import numpy as np

import blocklang
import blocklang.language as bl


@blocklang.jit(debug=True)
def checked(x, out, n, limit, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    v = bl.load(x + i, mask=i < n, other=0)
    bl.device_assert(v < limit, "too large", mask=i < n)
    bl.device_assert(n <= BLOCK, "100% wrong")
    bl.store(out + i, v * 2, mask=i < n)


@blocklang.jit(debug=True)
def checked_scalar(x, out, limit):
    v = bl.load(x)
    bl.device_assert(v < limit, "scalar too large")
    bl.store(out, v * 2)


@blocklang.jit
def printed(x, y, z, n, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    v = bl.load(x + i)
    bl.device_print("start 100%")
    bl.device_print("v: ", v)
    if bl.program_id(0) == 1:
        for k in range(n):
            bl.device_print("k=", k, i[:, None] + bl.arange(0, 2)[None, :])
    bl.device_print("half ", bl.load(y), bl.load(z))
    bl.device_print("0x", v, hex=True)
    bl.device_print("wide ", bl.load(z).to(bl.float64) * 2, bl.load(x + 1) > 0)


ARRAYS = {
    "x": np.array([5, -3, 7, 100], np.int32),
    "y": np.array([1.5], np.float16),
    "z": np.array([-0.25], np.float32),
}


def printed_lines() -> list[str]:
    """What `printed` prints, in some order."""
    lines = []
    for program in range(2):
        place = f"pid ({program}, 0, 0) "
        lines.append(f"{place}idx () start 100%")
        lines += [f"{place}idx ({i}) v: {v}" for i, v in enumerate(ARRAYS["x"])]
        bits = ARRAYS["x"].astype(np.int64).view(np.uint64)
        lines += [f"{place}idx ({i}) 0x{v:x}" for i, v in enumerate(bits)]
        lines += [f"{place}idx () half 1.500000", f"{place}idx () half -0.250000"]
        lines += [f"{place}idx () wide -0.500000", f"{place}idx () wide 0"]
    place = "pid (1, 0, 0) "
    for k in range(2):
        lines.append(f"{place}idx () k={k}")
        lines += [f"{place}idx ({i}, {j}) k={i + j}" for i in range(4) for j in range(2)]
    return lines


NAMES = ("passing", "failing", "ignored", "scalar", "printed")


def launch(name: str, put: Any) -> None:
    """Launch the kernel of a test on arrays that `put` makes of NumPy arrays."""
    arrays = {key: put(value) for key, value in ARRAYS.items()}
    out = put(np.zeros(4, np.int32))
    if name == "printed":
        printed[(2,)](*arrays.values(), 2, BLOCK=4)
    elif name == "scalar":
        checked_scalar[(1,)](arrays["x"], out, 5)
    else:
        # The last element is the largest one: it is looked at only when all four are.
        n = 3 if name == "passing" else 4
        checked[(1,)](arrays["x"], out, n, 50, BLOCK=4, debug=name != "ignored")


def run(device: str, name: str) -> tuple[int, str]:
    """Run this program: its exit status and all that it wrote."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.suite.debugging", device, name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stdout + done.stderr


def check(device: str, name: str) -> None:
    """Run one test and compare. Raises AssertionError."""
    status, output = run(device, name)
    if name == "printed":
        assert status == 0, output
        found = [line for line in output.splitlines() if line.startswith("pid")]
        assert sorted(found) == sorted(printed_lines())
    elif name in ("failing", "scalar"):
        assert status == 3, output
        assert "too large" in output
        assert re.search(r"debugging\.py:?\D*\d+", output)
    else:
        assert status == 0, output
        assert "too large" not in output


def main() -> int:
    """Launch on the device of the command line; 3 if the launch or the kernel failed."""
    device, name = sys.argv[1:]
    if device == "cpu":
        wait, put = lambda: None, np.copy
    else:
        from blocklang.runtime import cuda, device_array

        wait, put = cuda.synchronize, device_array
    try:
        launch(name, put)
        wait()
    except blocklang.LaunchError as error:
        print(error, flush=True)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
