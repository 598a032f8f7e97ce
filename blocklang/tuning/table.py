"""The table of what a choice of the autotuner has found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from blocklang.cli import terminal
from blocklang.tuning.session import Session
from blocklang.tuning.trial import Trial

_HEADER = ("configuration", "registers", "spilled bytes", "shared bytes", "time", "")
_NUMBERS = (1, 2, 3, 4)


def show(session: Session) -> None:
    """Print the trials on standard error, fastest first, then those that were left out; or the
    choice that the disk cache had. Nothing where nothing was chosen.
    """
    name, key = session.launch.kernel.__name__, session.launch.key_text
    title = f"autotuning of {name}" + (f" for {key}" if key else "")
    if session.stored is not None:
        terminal.say(f"{title}: {session.stored} (from the disk cache)")
    if not session.trials:
        return
    rows = list(_rows(session.trials))
    # CPUs have no registers to report, and most choices no configuration that was left out.
    shown = [i for i in range(len(_HEADER)) if any(row[i] for row in rows)]
    numbers = [place for place, i in enumerate(shown) if i in _NUMBERS]
    terminal.table(
        title, [_HEADER[i] for i in shown], [[row[i] for i in shown] for row in rows], numbers
    )


def _rows(trials: Sequence[Trial]) -> Iterator[Sequence[str]]:
    # Without a time: what failed, and what a failure kept from being measured.
    ordered = sorted(trials, key=lambda trial: trial.rank)
    for position, trial in enumerate(ordered):
        note = trial.reason
        if trial.milliseconds is not None and position == 0:
            note = "best"
        yield (str(trial.config), *_resources(trial), _time(trial.milliseconds), note)


def _resources(trial: Trial) -> tuple[str, str, str]:
    if trial.kernel is None:
        return "", "", ""
    found = trial.kernel.resources
    if trial.kernel.target.backend == "cpu":
        return "", "", ""
    spilled = found.spill_stores + found.spill_loads
    registers = str(found.registers) if found.registers else ""
    return registers, str(spilled) if registers else "", str(found.shared_bytes)


def _time(milliseconds: float | None) -> str:
    if milliseconds is None:
        return ""
    return f"{1000 * milliseconds:.2f} us" if milliseconds < 1 else f"{milliseconds:.3f} ms"
