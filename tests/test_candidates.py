"""Candidates are what the written formulas rank, ties by position; padding, blocks and the batch change nothing."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import inflab
from inflab import candidates, filter_candidates, validate
from inflab.corpus import fingerprint, token_corpus
from inflab.errors import CorpusError, SchemaError, SettingError
from tests import tiny

Rows = Sequence[Sequence[Any]]
LEXICAL = pytest.mark.parametrize("by", ["bm25", "tfidf"])
DOCUMENTS = [[1, 2, 3], [3, 3, 4, 5], [9], [1, 5, 1, 1, 8, 8], [2], [4, 4, 4]]
ASKED = [[3, 1], [5, 5, 4], [7], [8, 2, 1]]


def corpus(rows: Rows, dim: str = "train", *, side: str = "right", pad: int = 0, spare: int = 0, **more: Any) -> Any:
    """Token ids as a corpus; `spare` columns hold padding only."""
    width = max(map(len, rows)) + spare
    token_id = np.full((len(rows), width), pad, dtype=np.int32)
    is_text = np.zeros(token_id.shape, dtype=bool)
    for row, ids in enumerate(rows):
        place = slice(width - len(ids), None) if side == "left" else slice(len(ids))
        token_id[row, place] = ids
        is_text[row, place] = True
    ids = more.pop("ids", None)
    return token_corpus(token_id, is_text, is_text.copy(), None, dim, ids, more, None)


def find(documents: Rows = DOCUMENTS, asked: Rows = ASKED, k: int = 10_000, **settings: Any) -> xr.Dataset:
    found: xr.Dataset = filter_candidates(corpus(asked, "query"), corpus(documents), k, progress=False, **settings)
    return found


def written_out(documents: Rows, asked: Rows, by: str = "bm25", k1: float = 1.5, b: float = 0.75) -> np.ndarray:
    """GB23 eqs. 28 and 29, and Okapi's BM25, term by term from the page: `(query, document)`."""
    mean = sum(map(len, documents)) / len(documents)
    value = np.zeros((len(asked), len(documents)))
    for row, terms in enumerate(asked):
        for term in terms:
            holding = sum(term in document for document in documents)
            idf = math.log((len(documents) - holding + 0.5) / (holding + 0.5) + 1)
            for column, document in enumerate(documents):
                often = Counter(document)[term]
                if by == "tfidf":
                    often = min(often, 1)
                    saturated = (k1 + 1) * often / (k1 + often)
                else:
                    saturated = (k1 + 1) * often / (often + k1 * (1 - b + b * len(document) / mean)) if often else 0
                value[row, column] += idf * saturated
    return value


def by_document(found: xr.Dataset, fill: float = 0.0) -> np.ndarray:
    """`(query, document)` similarities of a result that keeps all documents; ids are positions."""
    value = np.full(found["similarity"].shape, np.nan)
    np.put_along_axis(value, found["train"].to_numpy(), found["similarity"].fillna(fill).to_numpy(), axis=1)
    return value


def close(found: Any, expected: Any, rtol: float = 1e-6) -> None:
    assert np.allclose(found, expected, rtol=rtol, atol=0)


# --- the formulas ------------------------------------------------------------------------------------------------

documents_and_queries = st.tuples(
    st.lists(st.lists(st.integers(-2, 6), min_size=1, max_size=9), min_size=1, max_size=12),
    st.lists(st.lists(st.integers(-1, 9), min_size=1, max_size=6), min_size=1, max_size=4),
)


@given(
    documents_and_queries,
    st.sampled_from(["bm25", "tfidf"]),
    st.floats(0.01, 5),
    st.floats(0, 1),
    st.integers(1, 14),
)
def test_the_list_is_what_the_formula_ranks(texts: tuple[Rows, Rows], by: Any, k1: float, b: float, k: int) -> None:
    whole = find(*texts, by=by, k1=k1, b=b)
    expected = written_out(*texts, by=by, k1=k1, b=b)
    close(by_document(whole), expected)
    assert ((by_document(whole) > 0) == (expected > 0)).all()
    for value, places in zip(by_document(whole), whole["train"].values.tolist(), strict=True):
        assert places == sorted(range(len(value)), key=lambda i, value=value: (-value[i], i))
    assert find(*texts, k, by=by, k1=k1, b=b).equals(whole.isel(rank=slice(k))), "k cuts the list and changes nothing"


def test_a_case_by_hand() -> None:
    """Two documents; a term in one of them has IDF log(1.5 / 1.5 + 1) = log 2, a term in both log(0.5 / 2.5 + 1)."""
    found = find([[1, 2, 2], [1]], [[1, 2]], k1=2, b=0.5)
    # Mean length 2, so lengths 3 and 1 give k1 (1 - b + b L / mean) = 2.5 and 1.5.
    expected = [math.log(1.2) * 3 / 3.5 + math.log(2) * 3 * 2 / 4.5, math.log(1.2) * 3 / 2.5]
    close(found["similarity"].values[0], expected)
    close(find([[1, 2, 2], [1]], [[1, 2]], by="tfidf")["similarity"].values[0], [math.log(2.4), math.log(1.2)])


def test_the_papers_tfidf_has_no_k1_and_no_b() -> None:
    plain = find(by="tfidf")
    for k1, b in ((0, 0.75), (9, 0), (1.5, 1)):
        assert find(by="tfidf", k1=k1, b=b).equals(plain)
        assert not find(k1=k1, b=b).equals(find()), "BM25 has both"
    assert find(k1=0, b=0.3).equals(plain), "it is BM25 at k1 = 0"


def test_bm25_is_tfidf_where_no_document_repeats_a_term_and_none_is_held_back() -> None:
    distinct = [sorted(set(document)) for document in DOCUMENTS]
    for k1 in (0.5, 3.0):
        close(by_document(find(distinct, k1=k1, b=0)), by_document(find(distinct, by="tfidf")))


@LEXICAL
def test_a_term_that_the_query_repeats_counts_as_often(by: Any) -> None:
    once, thrice = (by_document(find(asked=[[3] * n], by=by)) for n in (1, 3))
    assert once.any()
    close(thrice, 3 * once)


@LEXICAL
def test_a_term_in_every_document_still_counts(by: Any) -> None:
    assert find([[1], [1, 2]], [[1]], by=by)["is_ranked"].values.all(), "the + 1 in the logarithm keeps IDF positive"


@pytest.mark.peer
@pytest.mark.parametrize(("k1", "b"), [(1.5, 0.75), (0.9, 0.4), (2.0, 1.0), (1.2, 0.0)])
def test_bm25_is_bm25s(k1: float, b: float) -> None:
    bm25s = pytest.importorskip("bm25s")
    draw = np.random.default_rng(0)
    documents = [(draw.zipf(1.3, draw.integers(1, 40)) % 50).tolist() for _ in range(300)]
    documents.append(list(range(50)))  # it reads ids without gaps only
    asked = [(draw.zipf(1.3, 8) % 50).tolist() for _ in range(5)]
    peer = bm25s.BM25(method="lucene", k1=k1, b=b, dtype="float64")  # this name leaves out the constant k1 + 1
    peer.index(documents, show_progress=False)
    expected = np.stack([peer.get_scores(terms) for terms in asked]) * (k1 + 1)
    assert expected.any()
    close(by_document(find(documents, asked, k1=k1, b=b)), expected)


# --- words -------------------------------------------------------------------------------------------------------

TEXTS = [
    "The river, the RIVER and the sea.", "Die Straße führt über den Fluß.", "sea-side tea; 3 teas",
    "Ελλάδα και θάλασσα", "...", "Über den Flüssen", "tea tea tea",
]  # fmt: skip
QUESTIONS = ["the Sea?", "ÜBER DEN", "θάλασσα 3", "!?", "tea and tea", "FLUSS STRASSE Straße"]


def words(texts: Sequence[Any], dim: str) -> xr.Dataset:
    """A corpus whose tokens say nothing of its texts."""
    return corpus([[1]] * len(texts), dim).assign_coords(text=(dim, np.array(texts, dtype=object)))


@LEXICAL
def test_words_are_those_scikit_learn_counts(by: Any) -> None:
    from sklearn.feature_extraction.text import CountVectorizer

    count = CountVectorizer(lowercase=True, token_pattern=r"(?u)\w+")
    often = count.fit_transform(TEXTS).toarray()
    asked = count.transform(QUESTIONS).toarray()
    idf = np.log((len(TEXTS) - (often > 0).sum(0) + 0.5) / ((often > 0).sum(0) + 0.5) + 1)
    length = often.sum(1, keepdims=True)
    saturated = often > 0 if by == "tfidf" else 2.5 * often / (often + 1.5 * (0.25 + 0.75 * length / length.mean()))
    found = filter_candidates(words(QUESTIONS, "query"), words(TEXTS, "train"), by=by, on="words", progress=False)
    close(by_document(found), asked @ (idf * saturated).T)
    assert found["is_ranked"].sum("rank").values.tolist() == [2, 2, 2, 0, 3, 1]


def test_texts_without_a_word_rank_nothing() -> None:
    found = filter_candidates(words(["a"], "query"), words(["...", "?"], "train"), on="words", progress=False)
    assert not found["is_ranked"].values.any()


# --- what must not matter ----------------------------------------------------------------------------------------


@LEXICAL
@pytest.mark.parametrize(
    "padding", [{"side": "left"}, {"pad": 3}, {"spare": 5}, {"side": "left", "pad": 5, "spare": 2}]
)
def test_padding_changes_nothing(by: Any, padding: Any) -> None:
    train, queries = corpus(DOCUMENTS, **padding), corpus(ASKED, "query", **padding)
    found = filter_candidates(queries, train, by=by, progress=False)
    assert found.equals(find(by=by))


@LEXICAL
def test_a_query_does_not_depend_on_its_batch(by: Any) -> None:
    whole = find(by=by)
    for row, asked in enumerate(ASKED):
        assert np.array_equal(find(asked=[asked], by=by)["similarity"][0], whole["similarity"][row], equal_nan=True)
    back = find(asked=ASKED[::-1], by=by)
    for name in ("similarity", "train"):
        assert np.array_equal(back[name][::-1], whole[name], equal_nan=name == "similarity")


@LEXICAL
def test_the_order_of_documents_only_breaks_ties(by: Any) -> None:
    order = np.random.default_rng(1).permutation(len(DOCUMENTS))
    mixed = by_document(find([DOCUMENTS[i] for i in order], by=by))
    assert np.array_equal(mixed, by_document(find(by=by))[:, order])


def embeddings(n: int, seed: int, d: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d))


@pytest.mark.parametrize("cells", [1, 7, 20, 64])
@pytest.mark.parametrize("k", [1, 4, 40])
def test_blocks_of_documents_change_nothing(monkeypatch: pytest.MonkeyPatch, cells: int, k: int) -> None:
    many = [DOCUMENTS[i] for i in np.random.default_rng(0).integers(0, 6, 40)]  # equal documents tie across blocks
    vectors = {"train_embeddings": embeddings(6, 0)[np.arange(40) % 6], "query_embeddings": embeddings(4, 1)}
    ways: list[dict[str, Any]] = [{}, {"by": "tfidf"}, {"by": "embedding", **vectors}]
    whole = [find(many, k=k, **way) for way in ways]
    monkeypatch.setattr(candidates, "_CELLS", cells)
    for way, expected in zip(ways, whole, strict=True):
        assert find(many, k=k, **way).equals(expected)


@LEXICAL
def test_ties_are_broken_by_position_in_long_lists_too(by: Any) -> None:
    holds = np.random.default_rng(0).integers(0, 2, 3000)
    found = find([[1, 2] if hold else [3, 4] for hold in holds], [[1]], 9, by=by)
    assert found["train"].values[0].tolist() == np.flatnonzero(holds)[:9].tolist()


# --- embeddings --------------------------------------------------------------------------------------------------


def similar(train: Any, asked: Any, n_train: int = 6, **more: Any) -> xr.Dataset:
    return find(
        [[1]] * n_train, [[1]] * 4, by="embedding", train_embeddings=train, query_embeddings=asked, **more
    )  # fmt: skip


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int16"])
def test_cosines_are_scikit_learns(dtype: str) -> None:
    from sklearn.metrics.pairwise import cosine_similarity

    train, asked = ((10 * embeddings(n, n)).astype(dtype) for n in (60, 4))
    found = similar(train, asked, 60)
    expected = cosine_similarity(asked.astype(np.float64), train.astype(np.float64))
    assert (expected < 0).any() and (expected > 0).any()
    close(by_document(found), np.where(expected > 0, expected, 0), 1e-5)
    for value, places in zip(expected, found["train"].values.tolist(), strict=True):
        assert places == np.argsort(-value, kind="stable").tolist()


def test_a_vector_of_zeros_is_like_nothing() -> None:
    train, asked = embeddings(6, 0), embeddings(4, 1)
    train[2] = asked[3] = 0
    found = similar(train, asked)
    assert not found["is_ranked"][3].any()
    assert not found["is_ranked"].where(found["train"] == 2, False).any()


def test_labelled_embeddings_are_matched_by_id() -> None:
    train, asked = embeddings(6, 0), embeddings(4, 1)
    expected = similar(train, asked)
    order = [4, 0, 5, 2, 1, 3]
    labelled = xr.DataArray(train[order], dims=("train", "d"), coords={"train": order})
    assert similar(labelled, asked).equals(expected)
    assert similar(labelled.transpose(), xr.DataArray(asked.T, dims=("d", "query"))).equals(expected)
    more = xr.concat([labelled, labelled[:2].assign_coords(train=[98, 99])], "train")
    assert similar(more, asked).equals(expected), "vectors of other sequences are left aside"


def test_embeddings_need_no_text() -> None:
    found = filter_candidates(
        tiny.table(4, "query"), tiny.table(9), 3, by="embedding", progress=False,
        train_embeddings=embeddings(9, 0), query_embeddings=embeddings(4, 1),
    )  # fmt: skip
    validate(found)
    assert dict(found.sizes) == {"query": 4, "rank": 3}


# --- the labelled array ------------------------------------------------------------------------------------------


def test_ranks_that_do_not_exist_are_masked() -> None:
    found = find()
    assert found["is_ranked"].sum("rank").values.tolist() == [3, 3, 0, 3]
    assert (found["similarity"].isnull() == ~found["is_ranked"]).all()
    assert not find(asked=[[7]], k=2)["is_ranked"].any()


def test_the_whole_training_set_is_kept_where_it_is_smaller_than_k() -> None:
    found = find()
    assert found.sizes["rank"] == len(DOCUMENTS)
    assert (found["train"].to_numpy().argsort(axis=1).argsort(axis=1) == found["train"]).all(), "each once"
    assert found.attrs["k"] == 10_000


def test_ids_and_coordinates_travel() -> None:
    source = ["web", "book"] * 3
    train = corpus(DOCUMENTS, ids=list("abcdef"), source=source, year=np.arange(2000, 2006))
    queries = corpus(ASKED, "query", ids=[f"q{i}" for i in range(4)], about=list("wxyz"))
    found, plain = filter_candidates(queries, train, 3, progress=False), find(k=3)
    assert found["train"].dims == ("query", "rank")
    assert found["rank"].values.tolist() == [1, 2, 3]
    assert found["query"].values.tolist() == ["q0", "q1", "q2", "q3"]
    assert found["query_about"].values.tolist() == list("wxyz")
    place = plain["train"].to_numpy()
    assert found["train"].values.tolist() == np.array(list("abcdef"))[place].tolist()
    assert found["source"].values.tolist() == np.array(source)[place].tolist()
    assert found["year"].values.tolist() == (2000 + place).tolist()
    assert found["similarity"].equals(plain["similarity"].assign_coords(found.coords))


def test_everything_says_what_it_is() -> None:
    found = find(k=3, k1=2, b=0.5)
    assert found["similarity"].dtype == np.float32
    assert {name: found[name].attrs["units"] for name in found} == {"similarity": "1", "is_ranked": "1"}
    assert "BM25" in found["similarity"].attrs["description"]
    wanted = {"kind": "candidates", "by": "bm25", "on": "tokens", "k": 3, "k1": 2.0, "b": 0.5, "n_train": 6}
    assert {name: found.attrs[name] for name in wanted} == wanted
    assert found.attrs["corpus_fingerprint"] == fingerprint(corpus(DOCUMENTS))
    assert not {"k1", "b"} & set(find(by="tfidf").attrs), "what was not used is not told"
    assert not {"on", "k1", "b"} & set(similar(embeddings(6, 0), embeddings(4, 1)).attrs)


@pytest.mark.parametrize("by", ["bm25", "tfidf", "embedding"])
def test_candidates_are_valid_and_survive_a_store(by: str, tmp_path: Path) -> None:
    train = corpus(DOCUMENTS, ids=list("abcdef"), source=["web", "book"] * 3)
    vectors = {"train_embeddings": embeddings(6, 0), "query_embeddings": embeddings(4, 1)} if by == "embedding" else {}
    found = filter_candidates(corpus(ASKED, "query"), train, 4, by=by, progress=False, **vectors)
    validate(found)
    inflab.save(found, tmp_path / "found")
    back = inflab.load(tmp_path / "found")
    assert back.identical(found)
    assert type(back) is xr.Dataset


@pytest.mark.parametrize("name", ["by", "n_train", "corpus_fingerprint"])
def test_candidates_that_do_not_say_where_they_come_from_are_refused(name: str) -> None:
    found = find()
    del found.attrs[name]
    with pytest.raises(SchemaError, match=f"attribute '{name}' is missing"):
        validate(found)
    with pytest.raises(SchemaError, match="variable 'similarity' is missing"):
        validate(found.drop_vars("similarity"))


def test_an_influence_attributes_candidates() -> None:
    found = filter_candidates(tiny.queries(), tiny.corpus(), 3, progress=False)
    tokens = tiny.fitted().attribute(tiny.queries(), found, progress=False)
    total = tokens["influence"].sum(["layer", "token"])
    expected = tiny.scored()["influence"].to_numpy()
    tiny.agree(total.transpose("query", "rank"), np.take_along_axis(expected, found["train"].to_numpy(), 1), 1e-4)


def test_nothing_given_is_changed() -> None:
    train, queries, vectors = corpus(DOCUMENTS), corpus(ASKED, "query"), [embeddings(6, 0), embeddings(4, 1)]
    before = [train.copy(deep=True), queries.copy(deep=True), *(v.copy() for v in vectors)]
    filter_candidates(queries, train, progress=False)
    similar(*vectors)
    assert train.identical(before[0]) and queries.identical(before[1])
    assert all(np.array_equal(v, w) for v, w in zip(vectors, before[2:], strict=True))


def test_progress_is_shown_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    train, queries = corpus(DOCUMENTS), corpus(ASKED, "query")
    filter_candidates(queries, train, progress=False)
    assert capsys.readouterr() == ("", "")
    filter_candidates(queries, train)
    assert "candidates" in capsys.readouterr().err


def test_a_filter_loads_no_torch() -> None:
    code = (
        "import sys, numpy as np, xarray as xr, inflab\n"
        "def corpus(dim):\n"
        "    ids = ((dim, 'token'), np.array([[1, 2], [2, 3]]))\n"
        "    return xr.Dataset({'token_id': ids, 'is_text': (ids[0], ids[1] > 0)}, {dim: [0, 1], 'token': [0, 1]})\n"
        "found = inflab.filter_candidates(corpus('query'), corpus('train'), 1, progress=False)\n"
        "print(found['train'].values.tolist(), sorted({'torch', 'transformers'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[[0], [1]] []\n"), done.stderr


# --- what is refused ---------------------------------------------------------------------------------------------

VECTORS = (embeddings(6, 0), embeddings(4, 1))


def _broken(at: int) -> np.ndarray:
    value = embeddings(6, 0)
    value[at, 1] = np.nan
    return value


def _labelled(ids: list[int]) -> xr.DataArray:
    return xr.DataArray(VECTORS[0], dims=("train", "d"), coords={"train": ids})


BAD_SETTING: dict[str, tuple[Any, str]] = {
    "no candidate": (lambda: find(k=0), "k=0 must be a whole number, at least 1"),
    "half a candidate": (lambda: find(k=2.5), "k=2.5 must be a whole number"),
    "another way": (lambda: find(by="bm42"), "by='bm42' is not one of 'bm25', 'tfidf', 'embedding'"),
    "other terms": (lambda: find(on="letters"), "on='letters' is not one of 'tokens', 'words'"),
    "a negative k1": (lambda: find(k1=-1), "k1=-1 must be a number, at least 0"),
    "an infinite k1": (lambda: find(k1=math.inf), "k1=inf must be a number"),
    "a b that is no share": (lambda: find(b=1.5), "b=1.5 must be a number from 0 to 1"),
    "a b that is no number": (lambda: find(b="all"), "b='all' must be a number from 0 to 1"),
    "no vectors": (lambda: find(by="embedding"), "by='embedding' needs query_embeddings, an array (query, d)"),
    "half the vectors": (lambda: similar(None, VECTORS[1]), "needs train_embeddings, an array (train, d)"),
    "vectors for words": (lambda: find(train_embeddings=VECTORS[0]), "by='bm25' reads no embeddings; use by='embed"),
    "a list": (lambda: similar([[1.0]] * 6, VECTORS[1]), "train_embeddings is a list; give a numpy array or"),
}  # fmt: skip

BAD_CORPUS: dict[str, tuple[Any, str]] = {
    "no dataset": (lambda: filter_candidates([1], corpus(DOCUMENTS)), "queries is a list; make an xr.Dataset"),
    "two training sets": (
        lambda: filter_candidates(corpus(ASKED), corpus(DOCUMENTS)), "queries runs over 'train'; make it",
    ),
    "two query batches": (lambda: filter_candidates(corpus(ASKED, "query"), corpus(ASKED, "query")), "train runs over"),
    "ids twice": (
        lambda: filter_candidates(corpus(ASKED, "query"), corpus([[1], [2]]).assign_coords(train=[4, 4])),
        "duplicate ids in train: 4",
    ),
    "no tokens": (
        lambda: filter_candidates(corpus(ASKED, "query"), tiny.table()), "train has no token_id and is_text, which",
    ),
    "no text": (lambda: find(on="words"), "queries has no coordinate 'text', which on='words' reads; use on='tokens'"),
    "a text that is missing": (
        lambda: filter_candidates(words(["a"], "query"), words(["b", None], "train"), on="words"),
        "train: the text of train 1 is no string",
    ),
    "too few vectors": (lambda: similar(VECTORS[0][:5], VECTORS[1]), "train_embeddings has 5 rows, the corpus has 6"),
    "vectors of another model": (
        lambda: similar(VECTORS[0][:, :3], VECTORS[1]), "train_embeddings has 3 columns, query_embeddings has 5",
    ),
    "one vector": (lambda: similar(VECTORS[0], VECTORS[1][0]), "query_embeddings has dims ('dim_0',) and shape (5,)"),
    "vectors of nothing": (lambda: similar(VECTORS[0][:, :0], VECTORS[1]), "and shape (6, 0); it needs (train, d)"),
    "another dim": (
        lambda: similar(xr.DataArray(VECTORS[0], dims=("document", "d")), VECTORS[1]), "it needs (train, d)",
    ),
    "a lost id": (
        lambda: similar(_labelled([0, 1, 2, 3, 4, 9]), VECTORS[1]),
        "train_embeddings has no vector for train 5",
    ),
    "an id twice": (
        lambda: similar(_labelled([0, 1, 2, 3, 4, 4]), VECTORS[1]),
        "train_embeddings has duplicate ids",
    ),
    "complex numbers": (lambda: similar(VECTORS[0] + 1j, VECTORS[1]), "has dtype complex128; it needs real numbers"),
    "not a number": (lambda: similar(_broken(3), VECTORS[1]), "train_embeddings holds NaN, infinity or numbers"),
    "where it is not a number": (lambda: similar(_broken(3), VECTORS[1]), "at train 3"),
    "infinity": (lambda: similar(VECTORS[0], VECTORS[1] * np.inf), "query_embeddings holds NaN, infinity"),
    "too large": (lambda: similar(VECTORS[0] * 1e200, VECTORS[1]), "too large to square at train 0"),
}  # fmt: skip


@pytest.mark.parametrize(("ask", "says"), BAD_SETTING.values(), ids=BAD_SETTING)
def test_settings_outside_their_domain_are_refused(ask: Any, says: str) -> None:
    with pytest.raises(SettingError, match=re.escape(says)):
        ask()


@pytest.mark.parametrize(("ask", "says"), BAD_CORPUS.values(), ids=BAD_CORPUS)
def test_what_cannot_be_compared_is_refused(ask: Any, says: str) -> None:
    with pytest.raises(CorpusError, match=re.escape(says)):
        ask()
