"""What a measurement says of the paper's claim: one row for each finding, shown where it was computed.

A notebook ends with `verdict(...)`: its output carries the row as data, and `python -m benchmarks.findings` reads the
rows out of the executed notebooks. So the README's table holds what a reader sees in the notebook, and nothing else.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

__all__ = ["MIME", "Finding", "interval", "verdict"]

MIME = "application/vnd.inflab.finding+json"
SHOWN, NOT_SHOWN, NOT_RUN = "shown", "not shown at this scale", "not run"


@dataclass(frozen=True)
class Finding:
    """A row of the table of findings.

    Args:
        finding: what the paper found, in words.
        section: of Grosse et al. 2023.
        criterion: what counts as shown, fixed before the run.
        measured: the number in words, with its unit.
        value: the number; NaN when nothing was run.
        low: of its 95% interval.
        high: of its 95% interval.
        seeds: trainings it rests on.
        verdict: "shown", "not shown at this scale" or "not run".
        reason: what was looked into where it is not shown; the limits where it is.
    """

    finding: str
    section: str
    criterion: str
    measured: str
    value: float
    low: float
    high: float
    seeds: int
    verdict: str
    reason: str = ""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {MIME: plain(self), "text/html": self._html(), "text/plain": self._text()}

    def _text(self) -> str:
        said = f"{self.finding}: {self.verdict}. {self.measured}: {_number(self.value)} ({_bounds(self)})"
        return f"{said}, {self.seeds} seeds. Criterion: {self.criterion}. {self.reason}".strip()

    def _html(self) -> str:
        rows = {
            "finding": f"{self.finding} (section {self.section})",
            "counts as shown when": self.criterion,
            "measured": f"{self.measured}: <b>{_number(self.value)}</b> ({_bounds(self)}), {self.seeds} trainings",
            "verdict": f"<b>{html.escape(self.verdict)}</b>",
            "remarks": self.reason,
        }
        keep = {"measured", "verdict"}  # written here, with marks of their own
        cells = "".join(
            f"<tr><th style='text-align:left;vertical-align:top;white-space:nowrap'>{name}</th>"
            f"<td style='text-align:left'>{text if name in keep else html.escape(text)}</td></tr>"
            for name, text in rows.items()
            if text
        )
        return f"<table style='max-width:60em'>{cells}</table>"


def verdict(
    finding: str,
    section: str,
    criterion: str,
    measured: str,
    value: float,
    bounds: Sequence[float],
    *,
    seeds: int,
    shown: bool | None,
    reason: str = "",
) -> Finding:
    """The last cell of a notebook: its row of the table of findings.

    Args:
        finding: what the paper found, in words.
        section: of Grosse et al. 2023, such as "5.3.4".
        criterion: what counts as shown, fixed before the run.
        measured: what the value is, with its unit.
        value: the number.
        bounds: low and high of its 95% interval.
        seeds: trainings it rests on.
        shown: whether the criterion holds; None when nothing was run.
        reason: what was looked into where it is not shown; the limits where it is.

    Returns:
        The row, which a notebook shows as a table.

    Raises:
        ValueError: when a finding that was run has no finite number, or is not shown and says no reason.
    """
    low, high = (float(bound) for bound in bounds)
    if shown is not None and not np.isfinite([float(value), low, high]).all():
        raise ValueError(f"value={value} with bounds={bounds}: a finding that was run has a number and an interval")
    if not shown and not reason:
        raise ValueError("reason is empty: say why it is not shown, or not run")
    word = NOT_RUN if shown is None else SHOWN if shown else NOT_SHOWN
    return Finding(finding, section, criterion, measured, float(value), low, high, int(seeds), word, reason)


def interval(
    value_sq: Sequence[Any],
    statistic: Callable[..., Any] = np.mean,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """A statistic over trainings and queries, with its bootstrap interval.

    Trainings are drawn with replacement, then the queries of each: what varies is who was trained and what was asked.
    With three trainings the interval is rough; it is never narrower than what the queries alone say.

    Args:
        value_sq: one array of values for each training.
        statistic: of the values of a training; its mean over the trainings is reported.
        level: of the interval.
        resamples: how many.
        seed: of the draw.

    Returns:
        Value, low, high.

    Raises:
        ValueError: when there is no value, or one that is not finite.
    """
    groups = [np.asarray(values, float).ravel() for values in value_sq]
    if not groups or any(not len(g) or not np.isfinite(g).all() for g in groups):
        raise ValueError("value_sq holds a training without values, or a value that is not finite")
    rng = np.random.default_rng(seed)
    drawn = np.empty(resamples)
    for number in range(resamples):
        chosen = rng.integers(len(groups), size=len(groups))
        drawn[number] = np.mean([
            statistic(groups[c][rng.integers(len(groups[c]), size=len(groups[c]))]) for c in chosen
        ])
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(np.mean([statistic(g) for g in groups])), float(low), float(high)


def plain(finding: Finding) -> dict[str, Any]:
    """The row as JSON: a number that is not there is null."""
    row = asdict(finding)
    return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in row.items()}


def of_plain(row: dict[str, Any]) -> Finding:
    """The row that `plain` wrote."""
    numbers = {"value", "low", "high"}
    return Finding(**{
        f.name: float("nan") if f.name in numbers and row[f.name] is None else row[f.name] for f in fields(Finding)
    })


def _number(value: float) -> str:
    return "none" if not np.isfinite(value) else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _bounds(found: Finding) -> str:
    return "no interval" if not np.isfinite(found.low) else f"{_number(found.low)} to {_number(found.high)}"
