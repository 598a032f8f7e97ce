"""Tables and plots of a measure over sizes, for several providers: `perf_report`, `Benchmark`.

Tables go to the standard output and to CSV files, plots to PNG files or to the screen. Matplotlib
is loaded only to plot; without it, the tables are there all the same.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blocklang.cli import terminal


@dataclass
class Benchmark:
    """What is measured: the lines of one plot.

    The function is called for every x and every line, with `args`, with the x in each of its
    parameters `x_names` (a tuple in `x_vals` has one value for each), and with one of `line_vals`
    as `line_arg`. `line_names` are the names of the lines, `styles` their (colour, line style).
    """

    x_names: Sequence[str]
    x_vals: Sequence[Any]
    line_arg: str
    line_vals: Sequence[Any]
    line_names: Sequence[str]
    plot_name: str
    args: Mapping[str, Any] = field(default_factory=dict)
    xlabel: str = ""
    ylabel: str = ""
    x_log: bool = False
    y_log: bool = False
    styles: Sequence[tuple[str, str]] | None = None

    def __post_init__(self) -> None:
        if len(self.line_vals) != len(self.line_names):
            raise ValueError(
                f"{self.plot_name}: {len(self.line_vals)} line_vals, but {len(self.line_names)} "
                "line_names; each line has one name"
            )
        for x in self.x_vals:
            if isinstance(x, tuple | list) and len(x) != len(self.x_names):
                raise ValueError(
                    f"{self.plot_name}: {x!r} of x_vals has {len(x)} values; expected one for each "
                    f"of x_names: {', '.join(self.x_names)}"
                )


@dataclass
class Measured:
    """The results of one benchmark: one row for each x, `middle`, `low` and `high` with one column
    for each line.
    """

    benchmark: Benchmark
    xs: list[tuple[Any, ...]]
    middle: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]

    def table(self) -> npt.NDArray[Any]:
        """A structured array with a column for each name of x_names and line_names."""
        names = [*self.benchmark.x_names, *self.benchmark.line_names]
        columns = [np.array(column) for column in zip(*self.xs, strict=True)]
        columns += list(self.middle.T)
        table = np.empty(len(self.xs), [(n, c.dtype) for n, c in zip(names, columns, strict=True)])
        for name, column in zip(names, columns, strict=True):
            table[name] = column
        return table

    def save_csv(self, path: Path, precision: int) -> None:
        """Write the table as CSV, measures with `precision` decimals."""
        header = [*self.benchmark.x_names, *self.benchmark.line_names]
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            for x, values in zip(self.xs, self.middle, strict=True):
                writer.writerow([*x, *(f"{value:.{precision}f}" for value in values)])

    def print(self) -> None:
        """Print the table on the standard output."""
        header = [*self.benchmark.x_names, *self.benchmark.line_names]
        rows = [
            [*map(str, x), *(f"{value:.6g}" for value in values)]
            for x, values in zip(self.xs, self.middle, strict=True)
        ]
        unit = f" ({self.benchmark.ylabel})" if self.benchmark.ylabel else ""
        title = f"{self.benchmark.plot_name}{unit}:"
        terminal.table(title, header, rows, range(len(header)), file=sys.stdout)

    def figure(self) -> Any:
        """A Matplotlib figure; ImportError says what to install."""
        try:
            from matplotlib import pyplot
        except ImportError as error:
            raise ImportError(
                f"plots need Matplotlib ({error}): pip install matplotlib, or leave out "
                "show_plots and save_path"
            ) from None
        benchmark = self.benchmark
        figure, axes = pyplot.subplots()
        first = [x[0] for x in self.xs]
        for index, name in enumerate(benchmark.line_names):
            style = benchmark.styles[index] if benchmark.styles else (None, None)
            (line,) = axes.plot(
                first, self.middle[:, index], label=name, color=style[0], linestyle=style[1]
            )
            low, high = self.low[:, index], self.high[:, index]
            if not (np.isnan(low).all() or np.isnan(high).all()):
                axes.fill_between(first, low, high, alpha=0.15, color=line.get_color())
        axes.legend()
        axes.set_xlabel(benchmark.xlabel or ", ".join(benchmark.x_names))
        axes.set_ylabel(benchmark.ylabel)
        axes.set_xscale("log" if benchmark.x_log else "linear")
        axes.set_yscale("log" if benchmark.y_log else "linear")
        return figure


class PerformanceReport:
    """A measuring function with its benchmarks; `run` measures, prints, plots and saves."""

    def __init__(self, fn: Callable[..., Any], benchmarks: Benchmark | Sequence[Benchmark]) -> None:
        self.fn = fn
        self.benchmarks = [benchmarks] if isinstance(benchmarks, Benchmark) else list(benchmarks)
        self.__name__ = fn.__name__
        self.__doc__ = fn.__doc__

    def run(
        self,
        show_plots: bool = False,
        print_data: bool = False,
        save_path: str | Path = "",
        return_df: bool = False,
        save_precision: int = 6,
        **arguments: Any,
    ) -> Any:
        """Measure everything; `arguments` go to the function besides those of the benchmarks.

        With `save_path`, a folder that is made where it is missing, `PLOT_NAME.csv` and
        `PLOT_NAME.png` are written there. `return_df` returns the tables: NumPy structured arrays
        with the columns x_names and line_names (pandas.DataFrame takes them as they are), one, or
        a list where there are several benchmarks.
        """
        tables = []
        for benchmark in self.benchmarks:
            measured = self._measure(benchmark, arguments)
            if print_data:
                measured.print()
            if save_path:
                folder = Path(save_path)
                folder.mkdir(parents=True, exist_ok=True)
                measured.save_csv(folder / f"{benchmark.plot_name}.csv", save_precision)
            if save_path or show_plots:
                _plot(measured, Path(save_path) if save_path else None, show_plots)
            tables.append(measured.table())
        if not return_df:
            return None
        return tables[0] if len(tables) == 1 else tables

    def _measure(self, benchmark: Benchmark, arguments: Mapping[str, Any]) -> Measured:
        xs = [
            tuple(x) if isinstance(x, tuple | list) else (x,) * len(benchmark.x_names)
            for x in benchmark.x_vals
        ]
        values = np.full((3, len(xs), len(benchmark.line_vals)), np.nan)
        for row, x in enumerate(xs):
            for column, line in enumerate(benchmark.line_vals):
                result = self.fn(
                    **dict(zip(benchmark.x_names, x, strict=True)),
                    **{benchmark.line_arg: line},
                    **benchmark.args,
                    **arguments,
                )
                # A bare number is a measure without a range; None one that was left out.
                parts = result if isinstance(result, tuple | list) else (result,)
                for index, part in enumerate(parts):
                    values[index, row, column] = np.nan if part is None else part
        return Measured(benchmark, xs, *values)


def perf_report(
    benchmarks: Benchmark | Sequence[Benchmark],
) -> Callable[[Callable[..., Any]], PerformanceReport]:
    """Make a function that measures one point a report over `benchmarks`; call `.run()` on it.

    The function returns a number, or a tuple of (middle, lowest, highest).
    """
    return lambda fn: PerformanceReport(fn, benchmarks)


def _plot(measured: Measured, folder: Path | None, show: bool) -> None:
    figure = measured.figure()
    from matplotlib import pyplot

    try:
        if folder is not None:
            figure.savefig(folder / f"{measured.benchmark.plot_name}.png")
        if show:
            pyplot.show()
    finally:
        pyplot.close(figure)
