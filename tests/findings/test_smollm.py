"""The notebook on a pretrained model: its arrays are valid, of today's candidates, and open without the model."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import inflab
from benchmarks.findings import smollm
from benchmarks.findings.smollm_candidates import GENRES, LANGUAGES, LONGEST, Candidate, candidates, cut
from benchmarks.findings.smollm_texts import CODE, DIALOGUES

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def saved() -> dict[str, xr.Dataset | xr.DataTree]:
    return smollm.load()


@pytest.fixture(scope="module")
def scores(saved: dict[str, xr.DataTree]) -> xr.Dataset:
    found: xr.Dataset = saved["explanation"]["scores"].to_dataset().load()
    return found


@pytest.fixture(scope="module")
def today(scores: xr.Dataset) -> tuple[Candidate, ...]:
    """The candidates by today's code, with no tokenizer: what was short enough then is so now."""
    short = set(scores["text"].to_numpy())
    return candidates(lambda text: text in short)


def test_the_saved_arrays_are_valid(saved: dict[str, xr.DataTree]) -> None:
    for arrays in saved.values():
        inflab.validate(arrays)


def test_they_take_little_room() -> None:
    sizes = [file.stat().st_size for path in smollm.STORES.values() for file in path.rglob("*") if file.is_file()]
    assert sum(sizes) < 1.5e6


def test_the_arrays_are_of_todays_texts(saved: dict[str, xr.DataTree], today: tuple[Candidate, ...]) -> None:
    for arrays in (saved["explanation"]["scores"].to_dataset(), saved["cosine"], saved["bm25"]):
        for name in ("text", "genre", "topic", "language"):
            assert arrays[name].to_numpy().tolist() == [getattr(one, name) for one in today]
        assert arrays["train"].to_numpy().tolist() == [one.name for one in today]


def test_the_arrays_are_of_todays_queries(scores: xr.Dataset) -> None:
    asked = zip(*(scores[f"query_{name}"].to_numpy() for name in ("genre", "topic", "prompt")), strict=True)
    assert tuple(map(tuple, asked)) == smollm.QUERIES


def test_a_candidate_is_short_and_whole(scores: xr.Dataset) -> None:
    assert scores["n_token"].max() <= LONGEST
    assert all(text == text.strip() and text for text in scores["text"].to_numpy())


def test_the_notebooks_counts(today: tuple[Candidate, ...]) -> None:
    assert Counter(one.genre for one in today) == {
        "declaration": 95, "scripture": 80, "code": 60, "dialogue": 60, "fact": 40, "invention": 30,
    }  # fmt: skip
    assert {one.genre for one in today} == set(GENRES)
    assert len({one.text for one in today}) == len({one.name for one in today}) == 365


def test_a_paragraph_is_there_in_every_language(today: tuple[Candidate, ...]) -> None:
    paragraphs = [one for one in today if one.genre == "declaration"]
    topics = Counter(one.topic for one in paragraphs)
    assert set(topics.values()) == {len(LANGUAGES)}
    assert all(topic in topics for genre, topic, _ in smollm.QUERIES if genre == "declaration")


def test_every_topic_asked_of_has_candidates(today: tuple[Candidate, ...]) -> None:
    there = {(one.genre, one.topic) for one in today}
    assert all((genre, topic) in there for genre, topic, _ in smollm.QUERIES)


def test_the_code_is_python() -> None:
    for snippet in (line for lines in CODE.values() for line in lines):
        compile(snippet, "snippet", "exec")


def test_a_dialogue_has_two_sides() -> None:
    assert all(line.count("|") == 1 for lines in DIALOGUES.values() for line in lines)


def test_cutting_keeps_whole_sentences() -> None:
    text = 'First one. "Second one." Third, 3.5 long!'
    assert cut(text, lambda piece: len(piece) < 30) == 'First one. "Second one."'
    assert cut(text, lambda piece: len(piece) < 5) == ""
    assert cut("No end at all", lambda _: True) == "No end at all"
    assert cut("第一。第二。", lambda piece: len(piece) < 4) == "第一。"


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (" Paris. It lies", " Paris."),
        (" 3.5 metres. More", " 3.5 metres."),
        ("\n    return a + b\n\n# more", "\n    return a + b"),
        (" Jupiter, but", " Jupiter, but"),
        (" file.read()\n", " file.read()"),
        ("", ""),
    ],
)
def test_an_answer_is_a_sentence_or_a_line(written: str, kept: str) -> None:
    assert smollm.answer(written) == kept


def test_rounding_keeps_three_digits() -> None:
    value = np.random.default_rng(0).normal(size=1000).astype(np.float32) * np.float32(1e-3)
    kept = smollm.rounded(value)
    assert kept.dtype == np.float32
    assert (abs(kept / value - 1) <= 2.0**-10).all()
    assert np.isnan(smollm.rounded(np.array([np.nan])))
    assert not (kept.view(np.uint32) & (2**14 - 1)).any()


def test_blocks_and_tokens_sum_to_the_scores(saved: dict[str, xr.DataTree]) -> None:
    tree = saved["explanation"]
    for name in ("top", "bottom"):
        tokens, listed = tree[f"{name}_tokens"].to_dataset().load(), tree[name].to_dataset().load()
        summed = tokens["influence"].sum(["layer", "token"]).where(listed["is_ranked"])
        size = abs(tokens["influence"]).sum(["layer", "token"]).where(listed["is_ranked"])
        assert float((abs(summed - listed["influence"]) / size).max()) < 2e-3


def test_the_parallel_paragraph_is_ranked_in_its_language() -> None:
    topics = ["1.1", "2.1", "3.1", "1.1", "2.1", "3.1", "x"]
    scores = xr.Dataset(
        {"influence": (("query", "train"), np.array([[3.0, 1, 2, 0, 5, 4, 9]], np.float32))},
        {
            "train": range(7), "query": [0],
            "query_genre": ("query", ["declaration"]), "query_topic": ("query", ["1.1"]),
            "genre": ("train", ["declaration"] * 6 + ["code"]), "topic": ("train", topics),
            "language": ("train", ["eng"] * 3 + ["fra"] * 3 + ["eng"]),
        },
    )  # fmt: skip
    assert smollm.parallel(scores, ("eng", "fra")).to_numpy().tolist() == [[1.0, 0.0]]
    two = xr.concat([scores, scores.assign_coords(query=[1], query_topic=("query", ["2.1"]))], "query")
    assert smollm.parallel(two, ("eng", "fra"), shift=1).to_numpy().tolist() == [[0.0, 1.0], [1.0, 0.0]]


def test_the_explorer_opens_without_the_model(saved: dict[str, xr.DataTree]) -> None:
    explorer = inflab.Explorer(saved["explanation"])
    bundle = explorer._repr_mimebundle_()
    assert bundle is not None
    data = bundle[0]
    assert "16 queries, 365 training sequences" in data["text/plain"]
    assert "Paris" in data["text/html"]
    assert "<script" not in data["text/html"]
    explorer.layers = [str(explorer._source._scores["layer"].to_numpy()[0])]
    assert explorer.tokens is not None


def test_reading_loads_no_torch() -> None:
    code = (
        "import sys, inflab; from benchmarks.findings import smollm; "
        "inflab.Explorer(smollm.load()['explanation']); "
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
