"""Small corpora, read from the package itself: nothing is fetched, nothing is written, no torch is imported.

`names()` and `table()` say what there is, `load(name)` gives the corpus with its licence and citation in the
attrs, `tokenizer(name)` the tokenizer of its texts, `fact_queries(corpus)` asks the invented facts.
"""

from inflab.datasets.loading import load, names, table, tokenizer
from inflab.datasets.questions import fact_queries

__all__ = ["fact_queries", "load", "names", "table", "tokenizer"]
