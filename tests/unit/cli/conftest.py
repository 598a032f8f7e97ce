"""The command line in a folder of its own, as if there were no GPU and no environment variable."""

from __future__ import annotations

import shutil

import pytest

from blocklang import environment
from blocklang.runtime import cuda
from tests.unit.cli.support import EXAMPLES, CommandLine


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def blc(capsys, tmp_path, monkeypatch, cache_folder):
    for variable in environment.VARIABLES:
        monkeypatch.delenv(variable.name, raising=False)
    monkeypatch.setenv("BLOCKLANG_CACHE_DIR", str(cache_folder))
    monkeypatch.setattr(cuda, "available", lambda: False)
    for path in EXAMPLES.iterdir():
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    return CommandLine(capsys, tmp_path)
