"""Full-text search as a reader types it: upper and lower case, accents and blanks make no difference."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

import numpy as np

__all__ = ["Texts", "folded", "snippet", "terms"]

_TERM = re.compile(r'"([^"]+)"|([^\s"]+)')  # a phrase not closed yet is words


def folded(text: str) -> str:
    """The text without case, accents and doubled blanks: "Émile  ZOLA" is "emile zola"."""
    if not text.isascii():  # most texts are, and decomposing costs more than all the rest
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return " ".join(text.casefold().split())


def terms(text: str) -> list[str]:
    """What is looked for: words, and phrases in double quotes; all of them must occur, in any order."""
    found = (folded(phrase or word) for phrase, word in _TERM.findall(text))
    return [term for term in found if term]


class Texts:
    """Texts that are searched again and again; folded when they are searched for the first time.

    Args:
        texts: one each.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = list(texts)
        self._folded: list[str] | None = None

    def matching(self, text: str) -> np.ndarray:
        """Which texts hold every term of `text`, bool; all of them when there is no term."""
        wanted = terms(text)
        if not wanted:
            return np.ones(len(self._texts), bool)
        if self._folded is None:
            self._folded = [folded(one) for one in self._texts]
        return np.array([all(term in one for term in wanted) for one in self._folded], bool)


def snippet(text: str, wanted: str, most: int) -> str:
    """The beginning of a text, or the place where the first term is found when it lies beyond.

    Args:
        text: the whole.
        wanted: what was searched for; "" for nothing.
        most: characters kept.

    Returns:
        At most `most` characters, with "…" where something is left out.
    """
    if len(text) <= most:
        return text
    start = 0
    for term in terms(wanted):
        found = re.search(re.escape(term), text, re.IGNORECASE)  # an accent may hide it: then the beginning is shown
        if found and found.end() > most:
            start = max(0, min(found.start() - most // 4, len(text) - most))
            break
    end = start + most
    return f"{'…' if start else ''}{text[start:end]}{'…' if end < len(text) else ''}"
