"""The front page's ten lines do what it says, and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import inflab

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")


@pytest.mark.slow
def test_the_ten_lines_give_the_table_below_them(capsys: pytest.CaptureFixture[str]) -> None:
    code, shown = re.findall(r"```(?:python)?\n(.*?)```", README.split("## In ten lines")[1], re.DOTALL)[:2]
    names: dict[str, Any] = {}
    exec(code, names)
    table = inflab.effect(names["best"]).isel(query=0).to_dataframe()[["effect", "share", "text"]]
    rows = re.findall(r"^(\d+) +([\d.]+) +([\d.]+) +(\S.*)$", shown, re.MULTILINE)
    assert len(rows) == 2
    for number, effect, share, text in rows:
        row = table.loc[int(number)]
        assert row["text"] == text
        # Training on another processor differs by rounding, which its last steps enlarge.
        assert row["effect"] == pytest.approx(float(effect), rel=0.3)
        assert row["share"] == pytest.approx(float(share), abs=0.1)


def test_links_of_the_front_page_lead_to_files() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    local = [link for link in links if not link.startswith("http")]
    assert local
    assert [link for link in local if not (ROOT / link).exists()] == []
