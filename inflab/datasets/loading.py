"""Load a bundled data set by name as a labelled corpus."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from inflab.adapters import from_arrays
from inflab.corpus import encode
from inflab.datasets.card import Card, Table, Texts, check_options
from inflab.datasets.facts import FACTS
from inflab.datasets.parallel import GENESIS, UDHR
from inflab.datasets.tables import TABLES
from inflab.datasets.vocabulary import train_bpe, wrap
from inflab.errors import SettingError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["load", "names", "table", "tokenizer"]

_CARDS = {card.name: card for card in (FACTS, GENESIS, UDHR, *TABLES)}


def names() -> list[str]:
    """The data sets that `load` knows.

    Returns:
        Their names.

    Example:
        >>> inflab.datasets.names()
        ['facts', 'genesis', 'udhr', 'concrete', 'diabetes', 'digits', 'breast_cancer', 'wine']
    """
    return list(_CARDS)


def table() -> pd.DataFrame:
    """What each data set is: kind, size, title, licence, source; one row a name.

    Returns:
        A table with the columns `kind`, `size`, `title`, `licence` and `source`.

    Example:
        >>> inflab.datasets.table().loc["wine", "kind"]
        'classification'
    """
    said = ("name", "kind", "size", "title", "licence", "source")
    return pd.DataFrame([{key: getattr(card, key) for key in said} for card in _CARDS.values()]).set_index("name")


def load(
    name: str, *, dim: str = "train", tokenizer: Any = None, standardize: bool = False, **options: Any
) -> xr.Dataset:
    """Load a bundled data set; nothing is fetched.

    Args:
        name: "facts", "genesis", "udhr", "concrete", "diabetes", "digits", "breast_cancer" or "wine".
        dim: "train" or "query".
        tokenizer: for texts; None is `inflab.datasets.tokenizer(name, ...)`.
        standardize: for tables: give every input column, and a target that is a value, mean 0 and standard deviation 1
            over all rows. Means and scales are kept beside the data; the attribute `standardized` says what was done.
        **options: of the data set. facts: n_facts=100, seed=0, direction="forward"|"reversed"|"both",
            n_distractors=60. genesis: languages, chapters. udhr: languages, articles. digits: as_image=False.

    Returns:
        A corpus with licence, citation, source and notes in its attrs. Texts: see `inflab.encode`; facts carry `kind`,
        `fact`, `relation`, `direction`, `subject`, `answer`; genesis `language`, `chapter`, `verse`; udhr `language`,
        `article`, `paragraph`, `is_aligned`. Tables: `input`, `target`, and `label` where the target is a class.

    Raises:
        SettingError: for an unknown name or option, or one outside its domain.
        MissingDependencyError: when a set that scikit-learn carries is asked for without it.

    Example:
        >>> corpus = inflab.datasets.load("facts", n_facts=10, n_distractors=5)
        >>> corpus["token_id"].dims, corpus.sizes["train"]
        (('train', 'token'), 15)
        >>> inflab.datasets.load("wine", standardize=True)["input"].shape
        (178, 13)
    """
    card = _card(name)
    check_options(card, options)
    if card.kind == "text" and standardize:
        raise SettingError(f"standardize=True is for tables; {name!r} is text")
    if card.kind != "text" and tokenizer is not None:
        raise SettingError(f"tokenizer is for texts; {name!r} is a table")
    read = card.read(**options)
    if isinstance(read, Texts):
        own = _tokenizer(card, options) if tokenizer is None else tokenizer
        coords: dict[str, Any] = read.coords
        corpus = encode(read.texts, own, dim=dim, ids=read.ids, **coords)
    else:
        corpus = _tabular(read, dim, standardize)
    corpus.attrs |= card.attrs() | {"options": json.dumps(options, default=_plain)}
    return corpus


def tokenizer(name: str, *, vocabulary: int | None = None, **options: Any) -> PreTrainedTokenizerFast:
    """The byte-level BPE tokenizer of a text data set, trained on its texts on first use in a session.

    Args:
        name: "facts", "genesis" or "udhr".
        vocabulary: most tokens; None is 2048 (udhr: 4096). The facts end earlier, at whole words.
        **options: as for `load`. Every direction of the same facts, every chapter and every language share one
            vocabulary.

    Returns:
        A new `transformers` tokenizer with `<|endoftext|>` as its only special token, which it never adds itself.

    Raises:
        SettingError: for an unknown name or option, a table, or a vocabulary too small.

    Example:
        >>> tokenizer = inflab.datasets.tokenizer("facts", n_facts=10, n_distractors=5)
        >>> tokenizer.decode(tokenizer(" Zorald Pfaff")["input_ids"])
        ' Zorald Pfaff'
    """
    card = _card(name)
    if card.kind != "text":
        text = ", ".join(other.name for other in _CARDS.values() if other.kind == "text")
        raise SettingError(f"data set {name!r} is a table and has no tokenizer; texts are {text}")
    check_options(card, options)
    return _tokenizer(card, options, vocabulary)


def _card(name: str) -> Card:
    if name not in _CARDS:
        raise SettingError(f"data set {name!r} is not known; known are {', '.join(_CARDS)}")
    return _CARDS[name]


def _tokenizer(card: Card, options: dict[str, Any], vocabulary: int | None = None) -> PreTrainedTokenizerFast:
    size = card.vocabulary if vocabulary is None else vocabulary
    return wrap(_trained(card.name, size, json.dumps(options | card.sample, sort_keys=True, default=_plain)))


@lru_cache(maxsize=8)
def _trained(name: str, vocabulary: int, options: str) -> str:
    """The trained tokenizer as JSON text, which no caller can change."""
    return train_bpe(_card(name).read(**json.loads(options)).texts, vocabulary)


def _plain(value: Any) -> Any:
    """An option as JSON can say it: a numpy number as a number, a range or an array as a list."""
    return value.item() if isinstance(value, np.generic) else list(value)


def _tabular(read: Table, dim: str, standardize: bool) -> xr.Dataset:
    is_class = bool(read.classes)
    labels = {"label": [read.classes[number] for number in read.target]} if is_class else {}
    corpus = from_arrays(read.input, read.target, dim=dim, **labels)
    if read.features:
        corpus = corpus.assign_coords(feature=np.array(read.features, dtype=object))
    if read.classes:
        corpus.attrs["classes"] = read.classes
    corpus.attrs["standardized"] = "nothing"
    if standardize:
        for variable in ["input"] if is_class else ["input", "target"]:
            corpus = _standardized(corpus, variable, dim)
        corpus.attrs["standardized"] = "input" if is_class else "input and target"
    return corpus


def _standardized(corpus: xr.Dataset, name: str, dim: str) -> xr.Dataset:
    values = corpus[name]
    mean, scale = values.mean(dim), values.std(dim)
    scale = scale.where(scale > 0, 1.0)  # a constant column becomes 0, not NaN
    described = {"units": "1", "description": f"{name} = {name}_mean + {name}_scale x standardized {name}"}
    mean.attrs = {"long_name": f"mean of {name}", **described}
    scale.attrs = {"long_name": f"standard deviation of {name}", **described}
    scaled = ((values - mean) / scale).transpose(*values.dims)
    scaled.attrs = values.attrs
    return corpus.assign({name: scaled}).assign_coords({f"{name}_mean": mean, f"{name}_scale": scale})
