#!/usr/bin/env python3
"""From a fresh checkout to a running example, or to the tests, with nothing but Python.

    python3 bootstrap.py example softmax      run examples/softmax.py
    python3 bootstrap.py test                 run all checks: Ruff, mypy, pytest
    python3 bootstrap.py test -k cache        run pytest alone, with these arguments

Creates the virtual environment `.venv` (or the one that --venv names) where there is none, and
installs blocklang into it, editable, where it is missing or pyproject.toml has changed. Uses the
standard library only, and pip as the machine has configured it.

Older Pythons must be able to read this file, so that they can say that they are too old.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST_PYTHON = (3, 11)
ROOT = Path(__file__).resolve().parent
STAMP = "blocklang-installed.json"

CHECKS = (
    ("formatting", ["ruff", "format", "--check", "."]),
    ("lint", ["ruff", "check", "."]),
    ("types", ["mypy", "-p", "blocklang"]),
    ("tests", ["pytest", "-n", "auto"]),
)


def main():
    """Run the command line; the result is the exit code."""
    check_interpreter()
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="virtual environment")
    commands = parser.add_subparsers(dest="command", metavar="example|test", required=True)
    for name in ("example", "test"):
        command = commands.add_parser(name, allow_abbrev=False)
        # SUPPRESS: the default here would overwrite what was given before the command.
        command.add_argument("--venv", type=Path, default=argparse.SUPPRESS)
        if name == "example":
            command.add_argument("name", nargs="?", help="a program in examples/, without .py")
    known, others = parser.parse_known_args()
    venv = known.venv.resolve()
    if known.command == "example":
        return run_example(venv, known.name, others)
    return run_tests(venv, others)


def check_interpreter():
    """Stop with advice where this Python cannot do the work."""
    if sys.version_info < OLDEST_PYTHON:
        newer = [f"python3.{minor}" for minor in range(20, OLDEST_PYTHON[1] - 1, -1)]
        found = [name for name in newer if shutil.which(name)]
        stop(
            f"blocklang needs Python {version_text(OLDEST_PYTHON)} or newer; "
            f"this is {version_text(sys.version_info)} ({sys.executable}).",
            f"Try: {found[0]} {' '.join(sys.argv)}" if found else "Install a newer Python first.",
        )
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        stop(
            f"this Python ({sys.executable}) lacks the standard module {missing[0]}, "
            "which creates virtual environments.",
            "On Debian and Ubuntu: sudo apt install python3-venv. Or activate an environment of "
            "your own and use pip install -e '.[test]' there.",
        )


def run_example(venv, name, arguments):
    """Run one program of examples/ with the package installed."""
    # Every example is there in both languages; what they share is in Python alone.
    available = sorted(path.stem for path in (ROOT / "examples").glob("*.bl"))
    if name not in available:
        stop(
            f"there is no example {name!r}." if name else "which example?",
            "Available: " + (", ".join(available) or "none yet"),
        )
    python = prepare(venv, [])
    return run([python, Path("examples", f"{name}.py"), *arguments])


def run_tests(venv, arguments):
    """Run every check and report all that fail; with arguments, run pytest alone with them."""
    python = prepare(venv, ["test"])
    if arguments:
        return run([python, "-m", "pytest", *arguments])
    failed = []
    for title, command in CHECKS:
        say(f"== {title}")
        if run([python, "-m", *command]) != 0:
            failed.append(title)
    say(f"== failed: {', '.join(failed)}" if failed else "== all checks passed")
    return 1 if failed else 0


def prepare(venv, extras):
    """Return the Python of `venv`, which has blocklang and `extras` installed; stop on failure."""
    python = venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        say(f"Creating the virtual environment {shown(venv)}")
        if run([sys.executable, "-m", "venv", venv]) != 0:
            stop(f"the virtual environment {venv} could not be created.", "See the message above.")
    check_virtual_environment(python, venv)

    stamp = venv / STAMP
    digest = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + bytes(ROOT)).hexdigest()
    installed = read_stamp(stamp)
    current = installed.get("digest") == digest
    if current and set(extras) <= set(installed["extras"]):
        say(f"Using {shown(venv)} (pyproject.toml has not changed since the last installation)")
        return python

    extras = sorted({*extras, *installed.get("extras", [])})
    what = f".[{','.join(extras)}]" if extras else "."
    say(f"Installing blocklang into {shown(venv)}; the first time takes a minute or two")
    stamp.unlink(missing_ok=True)
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    if run([*pip, "--editable", what]) != 0:
        stop("pip could not install blocklang.", "Its messages above say why.")
    stamp.write_text(json.dumps({"digest": digest, "extras": extras}))
    return python


def check_virtual_environment(python, venv):
    """Stop where the environment is damaged or its Python too old."""
    question = f"import sys; sys.exit(0 if sys.version_info >= {OLDEST_PYTHON} else 3)"
    try:
        answer = subprocess.run([str(python), "-c", question], check=False).returncode
    except OSError:
        answer = 1
    if answer:
        problem = f"is older than {version_text(OLDEST_PYTHON)}" if answer == 3 else "does not run"
        stop(
            f"the Python of the virtual environment {venv} {problem}.",
            "Remove that folder, or name another one with --venv.",
        )


def read_stamp(stamp):
    """Return what was installed last; {} where that is unknown."""
    try:
        return json.loads(stamp.read_text())
    except (OSError, ValueError):
        return {}


def run(command):
    """Show and run a command in the checkout; return its exit code."""
    words = [str(word) for word in command]
    say("$ " + shlex.join([shown(Path(words[0])), *words[1:]]))
    return subprocess.run(words, cwd=str(ROOT), check=False).returncode


def shown(path):
    """Return the path relative to the checkout where it lies inside."""
    return str(path.relative_to(ROOT)) if ROOT in path.parents else str(path)


def version_text(version):
    """Return (3, 11, ...) as "3.11"."""
    return ".".join(map(str, version[:2]))


def say(line):
    """Print at once, so that lines stay in order with those of the commands."""
    print(line, flush=True)


def stop(problem, advice):
    """Leave with a message."""
    sys.exit(f"bootstrap.py: {problem}\n{advice}")


if __name__ == "__main__":
    sys.exit(main())
