"""The benchmark tables and plots say what the raw results say, and nothing else."""

import json
import re

import pytest

from tools import ladder_report, report

ENVIRONMENT = {
    "python": "3.12.0",
    "date": "2026-01-02",
    "host": "Some CPU",
    "gpu": "Some GPU, 1.2.3",
    "versions": {"numpy": "2.0", "triton": "3.6", "torch": None},
}


def gpu_row(provider, ms, **more):
    return {
        "section": "softmax", "case": "f32 8x8", "provider": provider, "ms": ms,
        "rate": 2e12 / ms, "of_copy": 1 / ms, **more,
    }  # fmt: skip


def product_row(provider, ms, **more):
    return {
        "section": "gemm", "case": "bf16 8x8x8 NT", "provider": provider, "ms": ms,
        "rate": 500e12 / ms, "of_bound": 0.5 / ms, "bound": 1000e12, **more,
    }  # fmt: skip


def stage_rows(number, ms, **more):
    """A stage of the ladder: its time, and its code."""
    case = {"case": f"step {number}", "provider": "blocklang", "stage": number}
    yield {
        **case, "section": "ladder", "size": "bf16 8x8x8", "ms": ms, "rate": 90e12 / ms,
        "operations": 2e9, "memory_bytes": 3e6, "intensity": 666.7, "on_chip_intensity": 4.0,
        "bound": 100e12, "bound_by": "on-chip bytes", "of_bound": 0.9 / ms, **more,
        "peaks": {"arithmetic": {"multiply-add": 67e12}, "on_chip": 33e12},
    }  # fmt: skip
    yield {
        **case, "section": "ladder_code", "tile": {"BLOCK_M": 8, "BLOCK_N": 16, "GROUP": 8},
        "program_threads": 32, "registers": 40, "shared_bytes": 3072, "spilled_bytes": 0,
        "programs": 2, "load_bytes": 0,
        "instructions": {"loads": 0, "copies": 3, "warp products": number},
    }  # fmt: skip


def counter_row(section, case):
    return {
        "section": section, "case": case, "provider": "blocklang", "kernel": "k",
        "nanoseconds": 2000.0, "multiply-add units": 10.0, "tensor cores": 20.0,
        "load and store unit": 30.0, "issue slots": 40.0, "warps": 50.0, "memory bytes": 7e6,
        "second-level cache bytes": 6e6, "waiting for memory": 1.0, "waiting for barriers": 2.0,
    }  # fmt: skip


ROWS = [
    gpu_row("copy", 1.0),
    gpu_row("triton", 2.0, configuration="w4", correct=True),
    gpu_row("blocklang", 1.6, configuration="w2", correct=True),
    gpu_row("blocklang-shaped", 1.25, configuration="short 4r w1", correct=True),
    {"section": "launch", "case": "3 arrays", "provider": "blocklang", "microseconds": 3.0},
    {"section": "launch", "case": "3 arrays", "provider": "floor: ctypes", "microseconds": 2.0},
    {"section": "first_launch", "case": "softmax", "provider": "triton", "ms": 250.0},
    {"section": "first_launch", "case": "softmax", "provider": "blocklang", "ms": 100.0},
    {"section": "cpu", "case": "add", "provider": "copy", "ms": 1.0},
    {"section": "cpu", "case": "add", "provider": "numpy", "ms": 4.0, "of_copy": 0.25},
    {
        "section": "cpu",
        "case": "add",
        "provider": "blocklang",
        "ms": 2.0,
        "of_copy": 0.5,
        "threads": 2,
    },
    {
        "section": "cpu_products",
        "case": "product",
        "provider": "numpy",
        "rate": 5e10,
        "of_numpy": 1.0,
    },
    {
        "section": "cpu_products",
        "case": "product",
        "provider": "blocklang",
        "rate": 4e10,
        "of_numpy": 0.8,
        "threads": 2,
    },
    {"section": "import", "case": "fresh process", "provider": "blocklang", "ms": 30.0},
    product_row("cublas", 1.0, correct=True),
    product_row("blocklang", 0.8, correct=True, configuration="BLOCK_M=64"),
    {**product_row("triton", 2.0), "case": "bf16 9x9x9 NN"},
    {**product_row("cudnn", 1.0), "section": "attention", "case": "2x8, full"},
    {**product_row("triton", 2.0), "section": "attention", "case": "2x8, full"},
    {**product_row("blocklang", 0.8), "section": "attention", "case": "2x8, full"},
    {**product_row("cudnn", 1.0), "section": "attention_backward", "case": "2x8, full"},
    {**product_row("blocklang", 1.25), "section": "attention_backward", "case": "2x8, full"},
]
ROWS += [*stage_rows(2, 1.0), *stage_rows(1, 3.0)]
ROWS += [counter_row("ladder_counters", "step 1"), counter_row("counters", "product")]
ROWS += [{"section": "ladder", "case": "cublas", "provider": "cublas", "ms": 0.8, "rate": 112e12}]
EXPECTED = {
    "ladder": "| 2. step 2 | 1.000 | 90.0 | 3.00 | 0.250 | 100 | on-chip bytes | 90% | 80.0% |",
    "ladder_counters": "| 1. step 1 | 2 | 10% | 20% | 30% | 40% | 50% | 6 | barriers |",
    "counters": "| product | blocklang | 2 | 20% | 10% | 40% | 30% | 6 | 7 |",
    "ladder_code": "| 2. step 2 | 8×16 | 32 | 40 | 3 | 0 | 2 | – | 3 copies, 2 warp products |",
    "softmax": "| f32 8x8 | 2.00 | 1.00 | 1.25 | 1.25 | 1.60 (short 4r) | 80% |",
    "gemm": "| bf16 8x8x8 NT | 1000 | 500 | – | 625 | 1.25 | – | 62% |",
    "attention": "| 2x8, full | 1000 | 500 | 250 | 625 | 1.25 | 2.50 | 62% |",
    "attention_backward": "| 2x8, full | 1000 | 500 | 400 | 0.80 | 40% |",
    "launch": "| 3 arrays | blocklang | 3.00 | 1.5 |",
    "first_launch": "| softmax | 250 | 100 | 2.5 × |",
    "cpu": "| add | 1.00 | 4.00 | 2.00 | 2.0 × | 50% |",
    "cpu_products": "| product | 50 | 40 | 0.80 |",
    "import": "| `import blocklang` | 30 |",
}


@pytest.fixture
def project(tmp_path):
    """A checkout with results and pages that ask for them."""
    write_rows(tmp_path, "all", ROWS)
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(f"Before.\n{marks('cpu')}\nAfter.\n")
    (tmp_path / "docs/performance.md").write_text(marks(" ".join(EXPECTED)))
    return tmp_path


def write_rows(root, name, rows):
    folder = root / "benchmarks/results"
    folder.mkdir(parents=True, exist_ok=True)
    contents = {"environment": ENVIRONMENT, "rows": rows}
    (folder / f"{name}.json").write_text(json.dumps(contents))


def marks(names):
    return f"<!-- benchmarks:begin {names} -->\nold\n<!-- benchmarks:end -->"


def test_committed_tables_and_plots_are_those_of_the_results():
    assert report.main(["--check"]) == 0


def test_committed_pages_ask_for_every_table():
    pages = [(report.ROOT / name).read_text(encoding="utf-8") for name in report.PAGES]
    found = report.MARKED.findall("".join(pages))
    assert {name for _, names, _ in found for name in names.split()} == set(report.TABLES)


@pytest.mark.parametrize("section", EXPECTED)
def test_table(section, project):
    sections = report.read_results(project / "benchmarks/results")
    page = report.fill(marks(section), sections)
    assert EXPECTED[section] in page.splitlines()
    assert "old" not in page
    machine = {"import": "Some CPU"}.get(section, "Some GPU")
    if section.startswith("cpu"):
        machine = "Some CPU, 2 threads"
    assert f"*{machine}, 2026-01-02; Python 3.12.0, numpy 2.0, triton 3.6.*" in page
    assert report.fill(page, sections) == page
    assert "![" not in page
    has_plot = section not in (
        "launch",
        "first_launch",
        "ladder_code",
        "ladder_counters",
        "counters",
        "cpu_products",
        "import",
    )
    assert (f"(pictures/{section}.svg)" in report.fill(page, sections, "pictures")) == has_plot


def test_products_that_one_provider_lacks_are_shown(project):
    sections = report.read_results(project / "benchmarks/results")
    page = report.fill(marks("gemm"), sections)
    assert "| bf16 9x9x9 NN | 1000 | – | 250 | – | – | – | – |" in page.splitlines()


def test_pages_are_written_and_then_current(project, monkeypatch, capsys):
    drawn = []
    monkeypatch.setattr(report, "draw", lambda section, path: drawn.append((section.name, path)))
    assert report.main(["--check"], project) == 1
    assert report.main([], project) == 0
    readme = (project / "README.md").read_text()
    assert re.fullmatch(r"Before\.\n<!--.*\| add \|.*-->\nAfter\.\n", readme, re.DOTALL)
    assert [name for name, _ in drawn] == [
        "softmax",
        "cpu",
        "gemm",
        "attention",
        "attention_backward",
        "ladder",
    ]
    for name, path in drawn:
        path.parent.mkdir(exist_ok=True)
        sections = report.read_results(project / "benchmarks/results")
        path.write_text(f"<svg>{sections[name].digest}</svg>")
    assert report.main(["--check"], project) == 0
    capsys.readouterr()
    write_rows(project, "all", [{**row, "ms": 9.0} for row in ROWS])
    assert report.main(["--check"], project) == 1
    stale = capsys.readouterr().out
    assert "docs/images/cpu.svg" in stale
    assert "README.md" in stale


def test_plot_shows_every_provider_and_its_digest(project):
    pytest.importorskip("matplotlib")
    section = report.read_results(project / "benchmarks/results")["softmax"]
    texts = []
    for _ in range(2):
        report.draw(section, project / "plot.svg")
        texts.append((project / "plot.svg").read_text())
    assert texts[0] == texts[1]
    for text in ("triton", "blocklang-shaped", "f32 8x8", section.digest):
        assert text in texts[0]


def test_wrong_results_are_refused(project):
    write_rows(project, "wrong", [gpu_row("triton", 1.0, correct=False)])
    with pytest.raises(ValueError, match=r"wrong\.json: f32 8x8 by triton was wrong"):
        report.stale(project)


def test_of_several_runs_the_median_is_shown(project):
    for run, ms in (("", 0.5), (".2", 1.0), (".3", 2.0)):
        rows = [product_row("cublas", 1.0), product_row("blocklang", ms)]
        write_rows(project, f"runs{run}", [{**row, "case": "bf16 7x7x7 NT"} for row in rows])
    page = report.fill(marks("gemm"), report.read_results(project / "benchmarks/results"))
    assert "| bf16 7x7x7 NT | 1000 | 500 | – | 500 | 1.00 | – | 50% |" in page.splitlines()
    assert "*Some GPU, 2026-01-02, medians of up to 3 runs; Python 3.12.0" in page


@pytest.mark.parametrize("name", ["more", "more.2", "twice"])
def test_results_that_are_there_twice_are_refused(project, name):
    write_rows(project, name, ROWS[:1] * (1 + (name == "twice")))
    with pytest.raises(ValueError, match="softmax, f32 8x8: copy is there twice"):
        report.stale(project)


def test_unknown_tables_are_refused():
    with pytest.raises(ValueError, match=r"no table is called nothing; there are: softmax"):
        report.fill(marks("nothing"), {})


def test_sections_without_results_give_nothing():
    assert report.fill(marks("cpu"), {}) == marks("cpu").replace("old\n", "")


def test_ladder_without_library(project):
    rows = [row for row in ROWS if row["section"] == "ladder" and row["provider"] != "cublas"]
    write_rows(project, "all", rows)
    section = report.read_results(project / "benchmarks/results")["ladder"]
    first, second = ladder_report.speed_table(section).splitlines()[-2:]
    assert first == "| 1. step 1 | 3.000 | 30.0 | – | 0.250 | 100 | on-chip bytes | 30% | – |"
    assert second.endswith("| 90% | – |")


def test_plot_of_the_ladder(project):
    pytest.importorskip("matplotlib")
    section = report.read_results(project / "benchmarks/results")["ladder"]
    report.draw(section, project / "plot.svg")
    text = (project / "plot.svg").read_text()
    for part in ("1. step 1", "2. step 2", "cuBLAS", "multiply-add", section.digest):
        assert part in text


def test_pages_in_folders_find_the_plots(project):
    page = project / "docs/tutorials/gemm_ladder.md"
    page.parent.mkdir()
    page.write_text(marks("ladder"))
    pages, _ = report.stale(project)
    assert "](../images/ladder.svg)" in pages[page]
