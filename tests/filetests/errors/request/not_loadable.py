"""A Python file for the command line that does not import."""

from pathlib import Path

from blocklang.cli.source import load_kernels


def act():
    load_kernels(str(Path(__file__).with_name("files") / "needs_too_much.py"))

# expected:
# files/needs_too_much.py:3:1: error[BL711]: files/needs_too_much.py cannot be imported: ModuleNotFoundError: No module named 'a_package_that_is_not_installed'
#     import a_package_that_is_not_installed  # noqa: F401
#     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
#   help: install what it imports for this Python
