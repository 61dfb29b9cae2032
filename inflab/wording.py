"""Words that tell the top of a ranking from the rest of the corpus.

Weighted log-odds with an informative Dirichlet prior (Monroe, Colaresi & Quinn 2008, "Fightin' Words", Political
Analysis 16:372, eq. 16-22). With y_w the count of word w among n words, alpha_w its prior and alpha_0 their sum:

    delta_w = log [(y_w + alpha_w) / (n + alpha_0 - y_w - alpha_w)], in the list, minus the same in the rest
    var_w  ~= 1 / (y_w + alpha_w) in the list + 1 / (y_w + alpha_w) in the rest
    z_w     = delta_w / sqrt(var_w)

The prior is the corpus itself: alpha_w is alpha_0 times the word's share of it, so that rare words must earn their
place. Labelled arrays in, labelled arrays out; no torch.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from inflab.errors import SchemaError, SettingError, check_count, is_finite_number
from inflab.schema import root_attrs, variable_attrs
from inflab.select import Sign, top

__all__ = ["Wordbook", "distinctive_words", "log_odds", "words"]

#: Letters and marks of any script, with the apostrophes and hyphens inside a word. Digits alone are no word.
_WORD = re.compile(r"[^\W\d_](?:[\w\u0300-\u036f]|['’\-](?=[^\W\d_]))*")
PRIOR = 500.0  # words


def distinctive_words(
    scores: xr.Dataset,
    k: int = 50,
    n: int = 10,
    *,
    sign: Sign = "positive",
    prior: float = PRIOR,
    documents: int = 20_000,
    seed: int = 0,
) -> xr.Dataset:
    """The words that distinguish the `k` most influential sequences of each query from the rest of the corpus.

    A z-score says how sure the difference is, not that influence is due to the word; words of one text come together,
    so it is larger than for words drawn one by one.

    Args:
        scores: `influence (query, train[, layer])` with the coordinate `text (train)`.
        k: length of the list; fewer where fewer sequences have the sign, all of them when there are fewer.
        n: how many words.
        sign: "positive", "negative" or "absolute", as of `inflab.top`.
        prior: alpha_0, how many words the prior weighs.
        documents: of the corpus that are counted; of a larger one as many, drawn at random, and the list itself.
        seed: of that draw.

    Returns:
        A dataset over `(query, rank)` with the coordinate `word`: `z` ("1"), `log_odds` (nat), `count` in the list and
        `count_rest` in the rest, and `is_ranked`, False where fewer words distinguish the list (`word` is "" there).
        The attribute `documents` says how many texts were counted.

    Raises:
        SchemaError: when `influence`, its dims or `text` are missing.
        SettingError: when a setting is outside its domain.
    """
    for name, value in {"k": k, "n": n, "documents": documents}.items():
        check_count(name, value)
    if not is_finite_number(prior) or prior <= 0:
        raise SettingError(f"prior={prior!r} must be a positive number of words, such as {PRIOR:g}")
    chosen = top(scores, min(k, max(1, scores.sizes.get("train", 1))), sign=sign)
    if "text" not in scores.coords or scores["text"].dims != ("train",):
        raise SchemaError([
            "/: coordinate 'text (train)' is missing; words need the texts: make the corpus with encode"
        ])
    book = Wordbook(scores["text"].to_numpy().tolist(), prior=prior, documents=documents, seed=seed)
    place_of = pd.Index(scores["train"].to_numpy().tolist(), dtype=object)
    found = []
    for row in range(chosen.sizes["query"]):
        kept = chosen["is_ranked"].to_numpy()[row]
        trains = chosen["train"].to_numpy()[row][kept].tolist()
        found.append(book.distinguish(place_of.get_indexer(pd.Index(trains, dtype=object)), n))
    return _labelled(found, n, chosen, book, sign)


class Wordbook:
    """Word counts of a corpus, to hold lists of its texts against.

    Args:
        texts: the corpus.
        prior: alpha_0, how many words the prior weighs.
        documents: texts that are counted at most; which ones is drawn, since a corpus may have a period.
        seed: of that draw.
    """

    def __init__(self, texts: Sequence[str], *, prior: float = PRIOR, documents: int = 20_000, seed: int = 0) -> None:
        self._texts, self._prior = texts, prior
        drawn = np.random.default_rng(seed).permutation(len(texts))[:documents]
        self._is_counted = np.zeros(len(texts), bool)
        self._is_counted[drawn] = True
        self.documents = int(self._is_counted.sum())
        self._corpus = self._count(np.flatnonzero(self._is_counted))

    def distinguish(self, places: Iterable[int], n: int) -> pd.DataFrame:
        """The words of some texts that are most surely more frequent there than in the rest.

        Args:
            places: of the texts in the corpus.
            n: how many words.

        Returns:
            Columns `word`, `z`, `log_odds`, `count`, `count_rest`; the largest z first, only those above 0.
        """
        places = [int(place) for place in places]
        inside = self._count(places)
        counted = self._count([place for place in places if self._is_counted[place]])
        vocabulary = sorted(inside)
        y_w = np.array([inside[word] for word in vocabulary], float)
        all_w = np.array([self._corpus[word] for word in vocabulary], float)
        rest_w = all_w - np.array([counted[word] for word in vocabulary], float)
        n_rest = self._corpus.total() - counted.total()
        # A text of the list that was not counted is in the corpus all the same: what is known of it is both.
        known_w = rest_w + y_w
        prior_w = self._prior * known_w / max(1, n_rest + inside.total())
        delta_w, z_w = log_odds(y_w, inside.total(), rest_w, n_rest, prior_w, self._prior)
        frame = pd.DataFrame({
            "word": vocabulary,
            "z": z_w,
            "log_odds": delta_w,
            "count": y_w.astype(int),
            "count_rest": rest_w.astype(int),
        })
        return frame[frame["z"] > 0].sort_values(["z", "word"], ascending=[False, True]).head(n).reset_index(drop=True)

    def _count(self, places: Iterable[int]) -> Counter[str]:
        found: Counter[str] = Counter()
        for place in places:
            found.update(words(str(self._texts[place])))
        return found


def words(text: str) -> Iterator[str]:
    """The words of a text, in order, without case; of any script, apostrophes and hyphens inside kept."""
    return (match.group() for match in _WORD.finditer(text.casefold()))


def log_odds(
    count_w: np.ndarray, total: float, rest_w: np.ndarray, total_rest: float, prior_w: np.ndarray, prior: float
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted log-odds of words in one text against another (eq. 16), and their z-scores (eq. 20, 22).

    Args:
        count_w: of the words here.
        total: words here, of all kinds.
        rest_w: counts there.
        total_rest: words there.
        prior_w: alpha_w.
        prior: alpha_0, of all kinds of words.

    Returns:
        delta in nats, and z.
    """
    here_w, there_w = count_w + prior_w, rest_w + prior_w
    with np.errstate(divide="ignore", invalid="ignore"):  # a text of one word alone has infinite odds
        delta_w = (
            np.log(here_w) - np.log(total + prior - here_w) - np.log(there_w) + np.log(total_rest + prior - there_w)
        )
        z_w = delta_w / np.sqrt(1 / here_w + 1 / there_w)
    sure_w = np.isfinite(z_w)
    return np.where(sure_w, delta_w, 0.0), np.where(sure_w, z_w, 0.0)


def _labelled(found: list[pd.DataFrame], n: int, chosen: xr.Dataset, book: Wordbook, sign: str) -> xr.Dataset:
    dims = ("query", "rank")
    shape = (len(found), n)
    word_qr = np.full(shape, "", dtype=object)
    number_qr = {name: np.full(shape, np.nan) for name in ("z", "log_odds")}
    count_qr = {name: np.zeros(shape, np.int64) for name in ("count", "count_rest")}
    is_ranked_qr = np.zeros(shape, bool)
    for row, frame in enumerate(found):
        here = (row, slice(len(frame)))
        word_qr[here], is_ranked_qr[here] = frame["word"], True
        for name, value_qr in {**number_qr, **count_qr}.items():
            value_qr[here] = frame[name]
    described = {
        "z": variable_attrs("z-score", "1", "of the log-odds, Monroe, Colaresi & Quinn 2008 eq. 22"),
        "log_odds": variable_attrs("log-odds ratio", "nat", "of the word in the list against the rest, with the prior"),
        "count": variable_attrs("count", "1", "of the word in the list"),
        "count_rest": variable_attrs("count in the rest", "1", "of the word in the counted texts outside the list"),
    }
    variables = {name: (dims, value, described[name]) for name, value in {**number_qr, **count_qr}.items()}
    about = variable_attrs("is ranked", "1", "False where fewer words distinguish the list")
    coords = {str(name): coord for name, coord in chosen.coords.items() if coord.dims in (("query",), ())}
    coords |= {"rank": np.arange(1, n + 1), "word": (dims, word_qr)}
    attrs = {**chosen.attrs, **root_attrs("words", sign=sign, documents=book.documents, k=chosen.sizes["rank"])}
    return xr.Dataset({**variables, "is_ranked": (dims, is_ranked_qr, about)}, coords=coords, attrs=attrs)
