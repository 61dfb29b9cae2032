"""The stepper and the lists as widgets of their own, and picks that leave them safely."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from traitlets import TraitError

from inflab.errors import CorpusError, SchemaError
from inflab.widgets import QueryStepper, SequenceList
from inflab.widgets import picks as written
from tests.widgets.synthetic import FakeInfluence, corpus

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "plain", '"quoted", and\nbroken', "<b>|pipe|</b>", ""]


@pytest.fixture
def lists() -> SequenceList:
    return SequenceList(FakeInfluence().score(corpus(3, "query")))


def test_a_stepper_shows_the_query_and_finds_others() -> None:
    stepper = QueryStepper(corpus(12, "query"))
    stepper.position = 7
    assert (stepper._query["id"], stepper._query["completion"]) == ("q7", " Mira Quell.")
    found = stepper._queries.search("gleem")
    assert found["positions"] == [1, 7]
    assert stepper._queries.search("letters")["positions"] == [1, 4, 7, 10]  # labels too
    for wrong in (-1, 12):
        with pytest.raises(TraitError, match="between 0 and 11"):
            stepper.position = wrong
    with pytest.raises(CorpusError, match="'query'"):
        QueryStepper(corpus(3, "train"))


def test_picks_are_checked_and_become_a_table(lists: SequenceList) -> None:
    lists.picks = [{"query": "q1", "train": "t1", "note": "=note"}, {"train": "t5"}, {"train": "t5", "note": "again"}]
    assert lists.picks == [
        {"query": "q1", "train": "t1", "note": "=note"}, {"query": "q0", "train": "t5", "note": "again"}
    ]  # fmt: skip
    table = lists.picks_table()
    assert table["rank"].tolist()[0] == 1
    assert table["source"].tolist() == ["letters", "archive"]
    assert "'=note" in lists.picks_csv()
    for wrong in ({"query": "q9", "train": "t1"}, {"query": "q1", "train": "t999"}, {"query": "q1"}):
        with pytest.raises(TraitError, match="picks"):
            lists.picks = [wrong]


def test_a_selection_may_be_named_by_rank_or_by_id(lists: SequenceList) -> None:
    lists.selected = {"sign": "positive", "rank": 1}
    assert lists.selected == {"query": "q0", "train": "t0", "rank": 1, "sign": "positive"}
    lists.selected = {"query": "q2", "train": "t2"}
    assert (lists.selected["rank"], lists.position) == (1, 2)
    for wrong in ({"sign": "positive", "rank": 99}, {"train": "t999"}, {"sign": "up", "rank": 1}):
        with pytest.raises(TraitError, match="selected"):
            lists.selected = wrong
    with pytest.raises(TraitError, match="facets"):
        lists.facets = {"colour": ["red"]}
    with pytest.raises(SchemaError):
        SequenceList(corpus(3, "query"))


def _rows() -> list[dict[str, Any]]:
    return [
        {"query": "q", "train": i, "sign": "positive", "rank": i + 1, "effect": 0.5, "share": 0.1, "note": text,
         "text": text, "meta": {"source": text}}
        for i, text in enumerate(FORMULAS)
    ]  # fmt: skip


def test_no_spreadsheet_takes_a_text_for_a_formula() -> None:
    rows = list(csv.DictReader(io.StringIO(written.as_csv(written.table(_rows())))))
    for row, text in zip(rows, FORMULAS, strict=True):
        for cell in (row["note"], row["text"], row["source"]):
            assert cell in (text, f"'{text}")
            assert not cell.lstrip().startswith(("=", "+", "-", "@"))


def test_markdown_keeps_markup_as_text() -> None:
    table = written.as_markdown(written.table(_rows()))
    assert len(table.strip().splitlines()) == 2 + len(FORMULAS)
    assert "<b>" not in table.replace("\\<b\\>", "")
    assert written.as_markdown(written.table([])) == ""


def test_the_browser_writes_the_same_csv(tmp_path: Path) -> None:
    import shutil
    import subprocess

    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    module = Path(__file__).resolve().parents[2] / "widgets" / "picks.js"
    code = (
        f"import {{ picksCsv }} from {json.dumps(module.as_uri())}; "
        f"process.stdout.write(picksCsv({json.dumps(_rows())}));"
    )
    done = subprocess.run([node, "--input-type=module", "-e", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    theirs = list(csv.DictReader(io.StringIO(done.stdout)))
    ours = list(csv.DictReader(io.StringIO(written.as_csv(written.table(_rows())))))
    assert [row["note"] for row in theirs] == [row["note"] for row in ours]
    assert list(theirs[0]) == list(ours[0])


def test_the_static_view_is_escaped(lists: SequenceList) -> None:
    scores = FakeInfluence().score(corpus(2, "query"))
    scores = scores.assign_coords(text=scores["text"] + "<script>alert(1)</script>")
    html = SequenceList(scores)._repr_mimebundle_()[0]["text/html"]  # type: ignore[index]
    assert "<script" not in html
    assert "&lt;script" in html
    assert repr(lists) == "SequenceList(3 queries, 40 training sequences, 0 picked)"
