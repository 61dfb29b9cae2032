"""Plain English in quantity: what Python says of itself, its help topics and the docstrings of its library.

The text is kept beside the notebooks, since it differs between versions of Python: this is 3.11's. `python -m
benchmarks.findings.python_help` writes it from the Python that runs it. It is under the licence of Python (PSF-2.0).
"""

from __future__ import annotations

import ast
import gzip
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

__all__ = ["FILE", "read", "write"]

FILE = Path(__file__).resolve().parents[2] / "notebooks" / "findings" / "data" / "python-help.txt.gz"
_LEFT_OUT = ("test", "idlelib", "lib2to3", "turtledemo", "site-packages", "pydoc_data", "encodings")
_FEWEST = 6  # words of a sentence
_MOST = 6000  # sentences
_WORD = re.compile(r"^[A-Za-z][a-z']*[.,:;]?$")


def read() -> list[str]:
    """The sentences, in the order of the file."""
    return gzip.decompress(FILE.read_bytes()).decode("utf-8").splitlines()


def write() -> int:
    """Write the file from this Python: each sentence once, those that are mostly words, the first 6,000.

    Returns:
        How many there are.
    """
    found = list(dict.fromkeys(sentence for text in _texts() for sentence in _sentences(text)))[:_MOST]
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_bytes(gzip.compress("\n".join(found).encode("utf-8"), 9, mtime=0))
    return len(found)


def _texts() -> Iterator[str]:
    """Help topics, then the docstrings of the library's modules, sorted by path.

    Yields:
        One text each.
    """
    from pydoc_data.topics import topics

    yield from topics.values()
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.rglob("*.py")):
        if not set(path.relative_to(library).parts) & set(_LEFT_OUT):
            tree = ast.parse(path.read_bytes())
            for node in ast.walk(tree):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                    yield ast.get_docstring(node) or ""


def _sentences(text: str) -> Iterator[str]:
    """Sentences of its paragraphs, without marks of layout; what is code or a list of names is left out.

    Yields:
        One sentence each.
    """
    for paragraph in re.split(r"\n\s*\n", text):
        flat = " ".join(re.sub(r"[*`=~^|\\_]{1,}|-{2,}", " ", paragraph).split())
        for sentence in re.split(r"(?<=[.:;?!]) ", flat):
            words = sentence.split()
            if len(words) >= _FEWEST and sum(map(bool, map(_WORD.match, words))) >= 0.8 * len(words):
                yield sentence


if __name__ == "__main__":
    print(write(), "sentences")
