"""The bootstrap script: what it refuses, when it installs, and that failures are failures.

Creating real environments is left to the continuous integration, which runs the script itself.
"""

import os
import sys
from pathlib import Path

import pytest

import bootstrap


@pytest.fixture
def commands(monkeypatch, tmp_path):
    """The commands that the script would run; creating an environment makes its Python."""
    python = tmp_path / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    recorded = []

    def record(command):
        words = [str(word) for word in command]
        recorded.append(words)
        if words[1:3] == ["-m", "venv"]:
            python.parent.mkdir(parents=True)
            python.write_text("")
        return 0

    monkeypatch.setattr(bootstrap, "run", record)
    monkeypatch.setattr(bootstrap, "check_virtual_environment", lambda python, venv: None)
    return recorded


def installations(commands):
    return [words[-1] for words in commands if "install" in words]


def test_installs_once_and_again_when_more_is_wanted(commands, tmp_path):
    venv = tmp_path / "venv"
    bootstrap.prepare(venv, [])
    bootstrap.prepare(venv, [])
    assert installations(commands) == ["."]
    bootstrap.prepare(venv, ["test"])
    bootstrap.prepare(venv, [])
    bootstrap.prepare(venv, ["test"])
    assert installations(commands) == [".", ".[test]"]
    assert sum("venv" in words for words in commands) == 1


def test_installs_again_when_the_project_file_changes(commands, tmp_path, monkeypatch):
    root = tmp_path / "checkout"
    root.mkdir()
    (root / "pyproject.toml").write_text("old")
    monkeypatch.setattr(bootstrap, "ROOT", root)
    bootstrap.prepare(tmp_path / "venv", ["test"])
    (root / "pyproject.toml").write_text("new")
    bootstrap.prepare(tmp_path / "venv", [])
    assert installations(commands) == [".[test]", ".[test]"]


def test_failed_installation_stops_and_is_not_remembered(commands, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(bootstrap, "run", lambda command: int("install" in command))
        with pytest.raises(SystemExit, match="pip could not install blocklang"):
            bootstrap.prepare(tmp_path / "venv", [])
    (tmp_path / "venv").mkdir(exist_ok=True)
    bootstrap.prepare(tmp_path / "venv", [])
    assert installations(commands) == ["."]


@pytest.mark.parametrize("failing", [title for title, _ in bootstrap.CHECKS])
def test_every_check_runs_and_each_failure_counts(failing, monkeypatch, capsys):
    ran = []

    def run(command):
        title = next(t for t, words in bootstrap.CHECKS if words == command[2:])
        ran.append(title)
        return int(title == failing)

    monkeypatch.setattr(bootstrap, "run", run)
    monkeypatch.setattr(bootstrap, "prepare", lambda venv, extras: "python")
    assert bootstrap.run_tests(Path("venv"), []) == 1
    assert ran == [title for title, _ in bootstrap.CHECKS]
    assert f"== failed: {failing}" in capsys.readouterr().out


def test_arguments_go_to_pytest_alone(commands, monkeypatch, tmp_path):
    monkeypatch.setattr(bootstrap, "prepare", lambda venv, extras: "python")
    monkeypatch.setattr(sys, "argv", ["bootstrap.py", "test", "-k", "x", "--venv", str(tmp_path)])
    assert bootstrap.main() == 0
    assert commands == [["python", "-m", "pytest", "-k", "x"]]


def test_old_python_is_refused_in_words(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    with pytest.raises(SystemExit, match=r"needs Python 3\.11 or newer; this is 3\.10"):
        bootstrap.check_interpreter()


@pytest.mark.parametrize("module", ["venv", "ensurepip"])
def test_missing_module_is_named(module, monkeypatch):
    present = bootstrap.importlib.util.find_spec
    monkeypatch.setattr(
        bootstrap.importlib.util,
        "find_spec",
        lambda name: None if name == module else present(name),
    )
    with pytest.raises(SystemExit, match=f"lacks the standard module {module}.*\n.*python3-venv"):
        bootstrap.check_interpreter()


def test_unknown_example_lists_those_there_are(tmp_path, monkeypatch):
    (tmp_path / "examples").mkdir()
    for name in ("softmax.py", "softmax.bl", "harness.py"):
        (tmp_path / "examples" / name).write_text("")
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match=r"no example 'nothing'.\nAvailable: softmax$"):
        bootstrap.run_example(tmp_path / "venv", "nothing", [])


def test_environment_that_does_not_run_is_refused(tmp_path):
    with pytest.raises(SystemExit, match=r"does not run.\nRemove that folder"):
        bootstrap.check_virtual_environment(tmp_path / "python", tmp_path)
    bootstrap.check_virtual_environment(Path(sys.executable), tmp_path)
