"""Every notebook of examples/ runs from top to bottom, and is committed without outputs."""

import json
import warnings
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples"
NOTEBOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))
SECONDS = 120


def test_every_example_has_a_notebook():
    examples = sorted(path.with_suffix(".ipynb").name for path in FOLDER.glob("*.bl"))
    assert examples == NOTEBOOKS


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_has_no_outputs(name):
    cells = json.loads((FOLDER / name).read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)


# Jupyter's packages warn of each other and of the event loop; none of it is ours.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_runs(name):
    for package in ("ipykernel", "matplotlib"):
        pytest.importorskip(package)
    nbclient, nbformat = (pytest.importorskip(package) for package in ("nbclient", "nbformat"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        notebook = nbformat.read(FOLDER / name, as_version=4)
        resources = {"metadata": {"path": str(FOLDER)}}
        nbclient.NotebookClient(notebook, timeout=SECONDS, resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
