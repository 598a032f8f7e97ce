"""What the package exports, and its two host helpers."""

import importlib.util

import pytest

import blocklang


@pytest.mark.parametrize("name", sorted(blocklang._EXPORTS))
def test_exported_name_loads(name):
    if not module_exists(blocklang._EXPORTS[name]):
        pytest.skip(f"{blocklang._EXPORTS[name]} is not written yet")
    assert getattr(blocklang, name) is getattr(blocklang, name)
    assert name in dir(blocklang)


@pytest.mark.parametrize("name", sorted(blocklang._EXPORTS))
def test_no_module_hides_an_export(name):
    """Importing the module blocklang.NAME would put it in the place of the exported NAME."""
    if blocklang._EXPORTS[name] != f"blocklang.{name}":
        assert not module_exists(f"blocklang.{name}")


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        blocklang.no_such_name  # noqa: B018


def module_exists(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize(
    ("numerator", "denominator", "quotient"),
    [(0, 8, 0), (1, 8, 1), (8, 8, 1), (9, 8, 2), (-9, 8, -1), (10**20 + 1, 10, 10**19 + 1)],
)
def test_cdiv(numerator, denominator, quotient):
    assert blocklang.cdiv(numerator, denominator) == quotient


@pytest.mark.parametrize(
    ("value", "power"), [(-3, 1), (0, 1), (1, 1), (2, 2), (3, 4), (1024, 1024), (1025, 2048)]
)
def test_next_power_of_2(value, power):
    assert blocklang.next_power_of_2(value) == power
