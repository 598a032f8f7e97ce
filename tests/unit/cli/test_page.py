"""`docs/cli.md`: its examples work, and it has every option, stage and exit code."""

from __future__ import annotations

import re
import shlex

import numpy as np
import pytest

from blocklang.cli.arguments import COMMANDS, EXIT_CODES
from blocklang.cli.outputs import STAGES
from tests.unit.cli.support import needs_ptxas
from tools.cli_page import cli_page
from tools.generate_docs import table

PAGE = cli_page(table)
EXAMPLES = re.findall(r"^\$ blc (.*)$", PAGE, re.M)


@needs_ptxas
@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_work(blc, example):
    np.save("in.npy", np.ones((512, 1000), np.float32))
    outcome = blc(*shlex.split(example))
    assert "error" not in outcome.err
    for name in re.findall(r"-o (\S+)", example):
        assert (blc.folder / name).stat().st_size


def test_there_are_examples():
    assert len(EXAMPLES) > 10


def test_the_page_has_everything():
    for command in COMMANDS:
        assert f"### `{command.usage}`\n" in PAGE
        for _, options in command.groups:
            for option in options:
                assert option.help.replace("|", "\\|") in PAGE
    for stage in STAGES.values():
        assert f"| `{stage.name}` | " in PAGE
    for code, meaning in EXIT_CODES.items():
        assert f"| {code:d} | {meaning} |" in PAGE
