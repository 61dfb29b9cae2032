"""Texts in several languages are aligned: what shares a place says the same."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from inflab import datasets


def lengths(corpus: xr.Dataset, language: str) -> np.ndarray:
    rows = corpus.isel(train=(corpus["language"] == language).to_numpy())
    return np.array([len(text) for text in rows["text"].to_numpy()])


def table(corpus: xr.Dataset) -> pd.DataFrame:
    """The values that each text carries, one row a text."""
    return pd.DataFrame({name: corpus[name].to_numpy() for name in ("language", "article", "is_aligned")})


def test_every_verse_stands_in_both_languages_at_its_place() -> None:
    corpus = datasets.load("genesis")
    verses = {code: corpus["verse"].to_numpy()[(corpus["language"] == code).to_numpy()] for code in ("eng", "spa")}
    assert len(verses["eng"]) == 1533
    np.testing.assert_array_equal(verses["eng"], verses["spa"])
    # Verses that anyone can look up, at the start, in the middle of a long chapter, and at the end.
    for place, english, spanish in (
        ("1:3", "Let there be light", "Sea la luz"),
        ("24:67", "Rebekah", "Rebeca"),
        ("37:3", "Joseph", "José"),
        ("50:26", "coffin", "ataúd"),
    ):
        assert english in corpus.sel(train=f"eng {place}")["text"].item()
        assert spanish in corpus.sel(train=f"spa {place}")["text"].item()


def test_chapters_of_the_spanish_text_open_where_the_numbers_say() -> None:
    # The 1909 print sets the first word of each chapter in capitals.
    corpus = datasets.load("genesis", languages=["spa"])
    for chapter in range(1, 51):
        opening = corpus.sel(train=f"spa {chapter}:1")["text"].item().split()[:2]
        assert any(word.strip(",").isupper() for word in opening), (chapter, opening)


@pytest.mark.parametrize("language", ["spa"])
def test_aligned_verses_have_alike_lengths(language: str) -> None:
    corpus = datasets.load("genesis")
    english, other = lengths(corpus, "eng"), lengths(corpus, language)
    assert np.corrcoef(english, other)[0, 1] > 0.9
    assert np.corrcoef(english[1:], other[:-1])[0, 1] < 0.3


def test_part_of_genesis() -> None:
    part = datasets.load("genesis", languages=["spa"], chapters=[2, 1])
    assert part.sizes["train"] == 31 + 25
    assert set(part["language_name"].to_numpy()) == {"Spanish"}
    whole = datasets.load("genesis")
    for id_ in ("spa 1:1", "spa 2:25"):
        mine, theirs = (corpus.sel(train=id_) for corpus in (part, whole))
        n = int(mine["is_text"].sum())
        np.testing.assert_array_equal(mine["token_id"][:n], theirs["token_id"][:n])


def test_the_declaration_in_16_languages() -> None:
    corpus = datasets.load("udhr")
    articles = table(corpus).groupby("language")["article"].nunique()
    assert articles.to_dict() == {
        code: 31 for code in "eng fra spa deu ita por nld rus tur pol swe jpn cmn kor arb hin".split()
    }
    for id_, text in (
        ("eng 1.1", "All human beings are born free"),
        ("deu 1.1", "Alle Menschen sind frei"),
        ("spa 1.1", "Todos los seres humanos nacen libres"),
        ("fra 1.1", "Tous les êtres humains naissent libres"),
    ):
        assert corpus.sel(train=id_)["text"].item().startswith(text)


def test_where_paragraphs_are_said_to_be_aligned_they_are_as_many() -> None:
    corpus = datasets.load("udhr")
    articles = table(corpus).groupby(["language", "article"])["is_aligned"]
    counts, aligned = articles.size().unstack(), articles.all().unstack()
    assert ((counts == counts.loc["eng"]) == aligned).all().all()
    assert aligned.loc["eng"].all()
    assert not aligned.loc["jpn", 0]
    assert aligned.to_numpy().mean() > 0.97
