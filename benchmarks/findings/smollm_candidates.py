"""The candidate texts of the notebook on a pretrained model: written ones, and pieces of the bundled corpora.

Every text is short enough for `LONGEST` tokens; one from a corpus ends after its last whole sentence that fits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import inflab
from benchmarks.findings.smollm_texts import CODE, DIALOGUES, FACTS

__all__ = ["GENRES", "LANGUAGES", "LONGEST", "MODEL", "Candidate", "candidates", "cut"]

MODEL = "smollm2-135m"
LONGEST = 48  # tokens of a candidate
#: Genres of candidates; queries are asked of the first four.
GENRES = ("fact", "dialogue", "declaration", "code", "scripture", "invention")
LANGUAGES = ("eng", "fra", "spa", "deu", "cmn")


@dataclass(frozen=True)
class Candidate:
    """A text whose influence is asked.

    Args:
        name: unique id.
        text: what the model reads.
        genre: one of `GENRES`.
        topic: finer than the genre: a theme, a persona, an article and paragraph, a chapter.
        language: three letters; "python" of code.
    """

    name: str
    text: str
    genre: str
    topic: str
    language: str


def candidates(fits: Callable[[str], bool] | None = None) -> tuple[Candidate, ...]:
    """The texts, in an order that does not change.

    Args:
        fits: tells whether a text is short enough; None counts `LONGEST` tokens of the model, whose tokenizer it needs.

    Returns:
        The candidates.
    """
    fits = fits or _fits
    return tuple([*_written(), *_declaration(fits), *_scripture(fits), *_inventions()])


def cut(text: str, fits: Callable[[str], bool]) -> str:
    """The first sentences of a text, as many as fit.

    Args:
        text: in any of the languages here.
        fits: tells whether a piece is short enough.

    Returns:
        The longest beginning of whole sentences that fits; empty when the first one does not.
    """
    ends = [match.end() for match in re.finditer(r"[.!?]['\"”’»]*(?=\s|$)|[。！？]", text)]
    pieces = [text[:end] for end in ends] or [text]
    return max((piece for piece in pieces if fits(piece)), key=len, default="")


def _written() -> Iterator[Candidate]:
    for genre, texts, language in (("fact", FACTS, "eng"), ("code", CODE, "python"), ("dialogue", DIALOGUES, "eng")):
        for topic, lines in texts.items():
            for number, line in enumerate(lines, 1):
                text = "A: {}\nB: {}".format(*line.split("|")) if genre == "dialogue" else line
                yield Candidate(f"{genre} {topic} {number}", text, genre, topic, language)


def _declaration(fits: Callable[[str], bool]) -> Iterator[Candidate]:
    """Paragraphs whose beginning fits in every language, so that each has all its translations."""
    found = inflab.datasets.load("udhr", languages=LANGUAGES)
    rows: dict[str, dict[str, str]] = {}
    names = ("article", "paragraph", "is_aligned", "language", "text")
    for article, paragraph, aligned, language, text in zip(*(found[n].to_numpy() for n in names), strict=True):
        if article > 0 and aligned:  # the preamble is one sentence in thirty paragraphs
            rows.setdefault(f"{article}.{paragraph}", {})[str(language)] = cut(str(text), fits)
    for topic, texts in rows.items():
        if len(texts) == len(LANGUAGES) and all(texts.values()):
            for language, text in texts.items():
                yield Candidate(f"declaration {language} {topic}", text, "declaration", topic, language)


def _scripture(fits: Callable[[str], bool]) -> Iterator[Candidate]:
    """Verses that fit, from the beginning: 60 in English, 20 in Spanish, none in both."""
    for language, chapters, most in (("eng", range(1, 6), 60), ("spa", range(6, 9), 20)):
        found = inflab.datasets.load("genesis", languages=[language], chapters=chapters)
        fitting = [(v, t) for v, t in zip(found["verse"].to_numpy(), found["text"].to_numpy(), strict=True) if fits(t)]
        for verse, text in fitting[:most]:
            yield Candidate(f"scripture {language} {verse}", str(text), "scripture", verse.split(":")[0], language)


def _inventions() -> Iterator[Candidate]:
    found = inflab.datasets.load("facts", n_facts=30, n_distractors=0)
    for number, (text, relation) in enumerate(zip(found["text"].to_numpy(), found["relation"].to_numpy(), strict=True)):
        yield Candidate(f"invention {number}", str(text), "invention", str(relation), "eng")


def _fits(text: str) -> bool:
    return len(_tokenizer()(text)["input_ids"]) <= LONGEST


@cache
def _tokenizer() -> Any:
    return inflab.models.load(MODEL, progress=False)[1]
