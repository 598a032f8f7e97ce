"""Environment variables: defaults, values, and errors that name the variable."""

from pathlib import Path

import pytest

from blocklang import environment
from blocklang.environment import EnvironmentVariableError


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    for variable in environment.VARIABLES:
        monkeypatch.delenv(variable.name, raising=False)


@pytest.mark.parametrize("variable", environment.VARIABLES, ids=lambda v: v.name)
@pytest.mark.parametrize("text", [None, "", "  "])
def test_unset_and_empty_give_the_default(variable, text, monkeypatch):
    if text is not None:
        monkeypatch.setenv(variable.name, text)
    assert variable.get() == variable.default


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        (environment.CACHE_DIR, "some/folder", Path("some/folder")),
        (environment.CACHE_DIR, "~/x", Path.home() / "x"),
        (environment.CHECK, "0", 0),
        (environment.CHECK, " 2 ", 2),
        (environment.CPU_THREADS, "3", 3),
        (environment.DEBUG, "1", True),
        (environment.DEBUG, "ON", True),
        (environment.DEBUG, "false", False),
        (environment.DUMP, "all", ("all",)),
        (environment.DUMP, "coalesce, dead-code", ("coalesce", "dead-code")),
        (environment.DISABLE_PASSES, "overlap-dots", ("overlap-dots",)),
        (environment.NO_COLOR, "0", True),
        (environment.PTXAS, __file__, Path(__file__)),
        (environment.TARGET, "sm_90a", "sm_90a"),
    ],
)
def test_values(variable, text, value, monkeypatch):
    monkeypatch.setenv(variable.name, text)
    assert variable.get() == value


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        (environment.CHECK, "3", "an integer from 0 to 2"),
        (environment.CHECK, "yes", "an integer from 0 to 2"),
        (environment.CPU_THREADS, "0", "an integer from 1 to 4096"),
        (environment.CPU_THREADS, "2.5", "an integer from 1 to 4096"),
        (environment.DEBUG, "2", "1 or 0"),
        (environment.DUMP, "a,,b", "names separated by commas"),
        (environment.DISABLE_PASSES, "licm", "some of specialize-warps, overlap-dots"),
        (environment.PTXAS, "/no/such/ptxas", "the path of an existing file"),
        (environment.TARGET, "sm_90a cpu", "one word"),
    ],
)
def test_bad_values_are_errors_that_say_what_was_expected(variable, text, expected, monkeypatch):
    monkeypatch.setenv(variable.name, text)
    with pytest.raises(EnvironmentVariableError) as caught:
        variable.get()
    message = str(caught.value)
    assert f"{variable.name} is {text!r}; expected {expected}" in message
    assert variable.default_text in message


def test_values_are_read_at_each_call(monkeypatch):
    assert environment.DEBUG.get() is False
    monkeypatch.setenv("BLOCKLANG_DEBUG", "1")
    assert environment.DEBUG.get() is True


def test_every_variable_is_in_the_table():
    variables = [v for v in vars(environment).values() if isinstance(v, environment.Variable)]
    assert sorted(variables, key=id) == sorted(environment.VARIABLES, key=id)
    names = [variable.name for variable in variables]
    assert len(set(names)) == len(names)
    assert all(name.startswith("BLOCKLANG_") or name == "NO_COLOR" for name in names)
