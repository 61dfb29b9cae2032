"""The table of findings, written from the executed notebooks: nothing in it is typed by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat

from benchmarks.findings.execute import NOTEBOOKS, rows
from benchmarks.findings.verdict import MIME, Finding, of_plain

__all__ = ["RESULTS", "gathered", "table", "write"]

RESULTS = NOTEBOOKS / "results.json"
_BEGIN, _END = "<!-- findings: written by python -m benchmarks.findings report -->", "<!-- /findings -->"


def gathered() -> list[dict[str, Any]]:
    """What every executed notebook found, and what it took.

    Returns:
        One entry a notebook: `notebook`, `seconds`, `peak_mb`, `findings`.

    Raises:
        ValueError: when a notebook shows no finding.
    """
    found = []
    for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")):
        about = nbformat.read(path, as_version=4).metadata.get("inflab", {})
        findings = rows(path, MIME)
        if not findings:
            raise ValueError(f"{path.name} shows no finding; end it with verdict(...), and execute it")
        found.append({"notebook": path.name, **about, "findings": findings})
    return found


def table(found: list[dict[str, Any]]) -> str:
    """The findings as Markdown.

    Args:
        found: of `gathered`.

    Returns:
        One row a finding.
    """
    lines = ["| finding (section of the paper) | measured here | 95% interval | verdict |", "| --- | --- | --- | --- |"]
    for one in found:
        link = f"notebooks/findings/{one['notebook']}"
        for row in map(of_plain, one["findings"]):
            number, bounds = _numbers(row)
            trained = f", {row.seeds} trainings" if row.seeds else ""
            measured = row.measured.replace("|", "\\|")  # a bar would end the cell
            lines.append(
                f"| [{row.finding}]({link}) ({row.section}) | {measured}: {number}{trained} | {bounds} "
                f"| {row.verdict} |"
            )
    return "\n".join(lines)


def write(readme: Path) -> None:
    """Write results.json, and the table between the marks of a README.

    Args:
        readme: the file.

    Raises:
        ValueError: when the marks are not there.
    """
    found = gathered()
    RESULTS.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")
    text = readme.read_text("utf-8")
    if _BEGIN not in text or _END not in text:
        raise ValueError(f"{readme} lacks the lines {_BEGIN!r} and {_END!r} between which the table goes")
    before, rest = text.split(_BEGIN)
    readme.write_text(before + _BEGIN + "\n\n" + table(found) + "\n\n" + _END + rest.split(_END)[1], "utf-8")


def _numbers(row: Finding) -> tuple[str, str]:
    if row.value != row.value:
        return "not measured", ""
    return _short(row.value), f"{_short(row.low)} to {_short(row.high)}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
