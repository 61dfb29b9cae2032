"""BM25: shared words in the place of influence, the lexical baseline (Robertson et al. 1994; GB23 section 3.2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import xarray as xr

from inflab import labels
from inflab.candidates import filter_candidates
from inflab.errors import CorpusError, SettingError, is_finite_number
from inflab.methods.similarity import Similarity
from inflab.problem import Problem

__all__ = ["BM25"]


@dataclass(frozen=True, kw_only=True)
class BM25(Similarity):
    """Okapi's BM25 of each query in the training texts (`inflab.filter_candidates`); the model is not looked at.

    Args:
        on: what a term is: "tokens" (ids where `is_text`), or "words" (of the coordinate `text`, in lower case).
        k1: how late repetitions in a text saturate, not negative.
        b: how much long texts are held back, from 0 to 1.

    Example:
        >>> found = inflab.BM25().fit(problem).score(queries)["influence"]
        >>> found.dims, found.attrs["units"]
        (('query', 'train'), '1')
    """

    on: Literal["tokens", "words"] = "tokens"
    k1: float = 1.5
    b: float = 0.75

    described: ClassVar[tuple[str, str, str]] = ("BM25", "1", "BM25 of query and training text: a similarity, not nats")

    def __post_init__(self) -> None:
        if self.on not in ("tokens", "words"):
            raise SettingError(f"on={self.on!r} is not one of 'tokens', 'words'")
        if not is_finite_number(self.k1) or self.k1 < 0:
            raise SettingError(f"k1={self.k1!r} must be a number, at least 0")
        if not is_finite_number(self.b) or not 0 <= self.b <= 1:
            raise SettingError(f"b={self.b!r} must be a number from 0 to 1")

    def learned(
        self, problem: Problem, *, memory: int | str | None, batch_size: int | None, progress: bool
    ) -> dict[str, xr.Dataset]:
        """Nothing: each question reads the corpus.

        Returns:
            No nodes.

        Raises:
            CorpusError: when the corpus has no texts.
        """
        if self.on == "tokens" and not {"token_id", "is_text"} <= set(problem.corpus):
            raise CorpusError("BM25 compares texts, and this corpus has no token_id; use Embedding for other data")
        if self.on == "words" and "text" not in problem.corpus.coords:
            raise CorpusError("on='words' reads the coordinate 'text', which this corpus has not; use on='tokens'")
        return {}

    def compare(
        self,
        problem: Problem,
        held: xr.DataTree,
        queries: xr.Dataset,
        train: xr.Dataset,
        *,
        memory: int | str | None,
        batch_size: int | None,
        progress: bool,
    ) -> np.ndarray:
        """BM25 `(query, train)`; 0 where no term is shared."""
        n = train.sizes["train"]
        found = filter_candidates(queries, train, n, by="bm25", on=self.on, k1=self.k1, b=self.b, progress=progress)
        chosen, is_ranked = labels.positions(queries, train, found)
        value_qt = np.zeros((queries.sizes["query"], n), dtype=np.float32)
        np.put_along_axis(value_qt, chosen[..., 1], np.where(is_ranked, found["similarity"], 0), axis=1)
        return value_qt
