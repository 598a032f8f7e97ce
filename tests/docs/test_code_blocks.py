"""The code in README.md and docs/ works.

The ```python blocks of a page run in their order, in one namespace, in a folder that has the
examples; ```pycon blocks must print what they show; of ```sh blocks the lines that call `blc` run.
A block that cannot run everywhere says why in a comment on the line before it:

    <!-- not run: needs a GPU -->
"""

import doctest
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"^(?P<fence>```+)(?P<language>\w+)\n(?P<code>.*?)^(?P=fence)$", re.DOTALL | re.M
)
NOT_RUN = re.compile(r"<!-- not run: \w.* -->\n\Z")
# Pages whose blocks are checked, in ways of their own, by another test.
CHECKED_ELSEWHERE = {"docs/cli.md": "tests/unit/cli/test_page.py"}


def blocks(page, language):
    """The runnable blocks of a page: line number and code."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(text):
        before = text[: match.start()]
        if match["language"] == language and not NOT_RUN.search(before):
            found.append((before.count("\n") + 1, match["code"]))
    return found


def pages_with(language):
    """A parameter for each page that has blocks of the language."""
    names = [page.relative_to(ROOT).as_posix() for page in PAGES if blocks(page, language)]
    return pytest.mark.parametrize("name", [n for n in names if n not in CHECKED_ELSEWHERE])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder that readers are in: their copy of the examples."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pages_with("python")
def test_python_blocks_run(name, folder):
    program = ""
    for line, code in blocks(ROOT / name, "python"):
        # Errors then have the line numbers of the page.
        program += "\n" * (line - program.count("\n")) + code
    path = folder / (Path(name).stem.replace("-", "_") + "_blocks.py")
    path.write_text(program, encoding="utf-8")
    runpy.run_path(str(path), run_name="blocks")


@pages_with("pycon")
def test_sessions_print_what_they_show(name, folder):
    code = "\n".join(code for _, code in blocks(ROOT / name, "pycon"))
    test = doctest.DocTestParser().get_doctest(code, {}, name, name, 0)
    failures = []
    runner = doctest.DocTestRunner(verbose=False)
    runner.run(test, out=failures.append)
    assert test.examples
    assert not failures, "".join(failures)


@pages_with("sh")
def test_commands_run(name, folder):
    for _, code in blocks(ROOT / name, "sh"):
        for line in code.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["blc"]:
                command = [sys.executable, "-m", "blocklang", *words[1:]]
                run = subprocess.run(command, capture_output=True, text=True, check=False)
                assert run.returncode == 0, f"{line}\n{run.stdout}{run.stderr}"


def test_other_tests_of_pages_exist():
    for page, test in CHECKED_ELSEWHERE.items():
        assert page in (ROOT / test).read_text(encoding="utf-8")


def test_blocks_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "Text.\n\n```python\nx = 1\n```\n<!-- not run: needs a GPU -->\n```python\ny\n```\n"
        "```sh\nblc\n```\n```python\nz\n```\n"
    )
    assert blocks(page, "python") == [(3, "x = 1\n"), (13, "z\n")]
    assert blocks(page, "sh") == [(10, "blc\n")]
