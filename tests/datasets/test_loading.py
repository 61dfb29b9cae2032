"""Every data set: valid, with licence and source, without torch, and the same each time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import inflab
from inflab import datasets
from inflab.errors import SettingError

TEXTS = ("facts", "genesis", "udhr")


@pytest.mark.parametrize("name", datasets.names())
def test_every_set_is_valid_and_says_where_it_comes_from(name: str) -> None:
    corpus = datasets.load(name)
    inflab.validate(corpus)
    for attribute in ("title", "licence", "citation", "source", "notes"):
        assert len(corpus.attrs[attribute]) > 3
    assert corpus.attrs["dataset"] == name
    assert datasets.load(name, dim="query").sizes["query"] == corpus.sizes["train"]


def test_table_lists_every_set() -> None:
    table = datasets.table()
    assert list(table.index) == datasets.names()
    assert table.notna().all().all()
    assert table.loc["concrete", "licence"] == "CC BY 4.0"


def test_the_terms_that_bind_are_kept() -> None:
    assert "Yeh" in datasets.load("concrete").attrs["citation"]
    genesis = datasets.load("genesis", chapters=[1]).attrs
    assert "World English Bible" not in genesis["title"]
    assert "may not be called" in genesis["notes"]
    beside = (Path(datasets.__file__).parent / "data" / "README.md").read_text(encoding="utf-8")
    assert "10.1016/S0008-8846(98)00165-3" in beside
    for file in (Path(datasets.__file__).parent / "data").iterdir():
        assert file.name == "README.md" or file.name in beside


def test_reading_data_sets_loads_no_torch_and_writes_nothing(tmp_path: Path) -> None:
    code = """
import sys
from inflab import datasets
for name in datasets.names():
    datasets.load(name)
datasets.fact_queries()
print([m for m in ("torch",) if m in sys.modules])
"""
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    assert list(tmp_path.iterdir()) == []


def test_tokenizers_are_the_same_in_every_process() -> None:
    code = (
        "import hashlib, json; from inflab import datasets; "
        "print(json.dumps({n: hashlib.sha256(datasets.tokenizer(n).backend_tokenizer.to_str().encode()).hexdigest() "
        "for n in ('facts', 'genesis')}))"
    )
    found = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", code],
                capture_output=True,
                text=True,
                check=True,
                env={**os.environ, "PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": threads},
            ).stdout
        )
        for seed, threads in (("1", "1"), ("2", "2"))
    ]
    assert found[0] == found[1]


@given(text=st.text(min_size=1))
def test_any_text_can_be_encoded_and_comes_back(text: str) -> None:
    tokenizer = datasets.tokenizer("facts")
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("name", TEXTS)
def test_tokenizers_add_nothing_and_keep_their_size(name: str) -> None:
    tokenizer = datasets.tokenizer(name, vocabulary=300)
    assert len(tokenizer) == 300
    assert tokenizer.convert_tokens_to_ids("<|endoftext|>") == 0
    assert 0 not in tokenizer("In the beginning")["input_ids"]


def test_facts_are_read_as_whole_words() -> None:
    tokenizer = datasets.tokenizer("facts")
    pieces = tokenizer.tokenize(" was Zorald Pfaff.")
    assert [piece.replace("Ġ", " ") for piece in pieces] == [" was", " Zorald", " Pfaff", "."]


def test_a_changed_tokenizer_changes_no_other() -> None:
    first = datasets.tokenizer("facts")
    before = len(first)
    first.add_tokens(["Gleem-of-the-hills"])
    assert len(datasets.tokenizer("facts")) == before


@pytest.mark.parametrize("name", ["facts", "concrete"])
def test_a_corpus_survives_the_store(name: str, tmp_path: Path) -> None:
    corpus = datasets.load(name)
    inflab.save(corpus, tmp_path / "corpus.zarr")
    xr.testing.assert_identical(inflab.load(tmp_path / "corpus.zarr"), corpus)


def test_options_are_recorded() -> None:
    assert json.loads(datasets.load("genesis", chapters=range(1, 3)).attrs["options"]) == {"chapters": [1, 2]}
    assert json.loads(datasets.load("facts", n_facts=np.int64(3)).attrs["options"]) == {"n_facts": 3}


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: datasets.load("fatcs"), "'fatcs' is not known; known are facts, genesis"),
        (lambda: datasets.tokenizer("fatcs"), "'fatcs' is not known"),
        (lambda: datasets.tokenizer("wine"), "'wine' is a table.*facts, genesis, udhr"),
        (lambda: datasets.tokenizer("facts", vocabulary=100), "vocabulary=100.*at least 257"),
        (lambda: datasets.tokenizer("facts", chapters=[1]), "'facts' has no option chapters"),
        (lambda: datasets.load("facts", n_fact=3), "has no option n_fact; it has n_facts, seed"),
        (lambda: datasets.load("wine", n_facts=3), "'wine' has no option n_facts; it has none"),
        (lambda: datasets.load("facts", standardize=True), "'facts' is text"),
        (lambda: datasets.load("wine", tokenizer=object()), "'wine' is a table"),
        (lambda: datasets.load("genesis", languages="eng"), "languages: 'eng' is not a list"),
        (lambda: datasets.load("genesis", languages=["deu"]), "languages: 'deu' is not"),
        (lambda: datasets.load("genesis", chapters=[]), "chapters is empty"),
        (lambda: datasets.load("udhr", articles=[31]), "articles: 31 is not"),
    ],
)
def test_bad_input_is_refused_by_name(call: object, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        call()  # type: ignore[operator]
