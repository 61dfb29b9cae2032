"""What a candidate filter costs: ten queries against a million documents of 64 tokens, drawn from Zipf's law.

    python benchmarks/candidates.py [documents]

Prints seconds (of the wall clock, and of the processor), and peak memory before and after `inflab.filter_candidates`,
for each way of comparing, in a process of its own.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time

import numpy as np
import xarray as xr

import inflab

TOKENS, VOCABULARY, DIMENSION, QUERIES = 64, 32_768, 128, 10
WAYS = {
    "BM25, tokens": {"by": "bm25"},
    "TF-IDF, tokens": {"by": "tfidf"},
    "BM25, words": {"by": "bm25", "on": "words"},
    f"cosine, {DIMENSION} columns": {"by": "embedding"},
}


def corpus(n: int, dim: str, seed: int, words: bool) -> xr.Dataset:
    """Documents of 64 tokens; token r is drawn in proportion to 1 / r."""
    draw = np.random.default_rng(seed)
    share = np.cumsum(1 / np.arange(1, VOCABULARY + 1))
    token_id = np.empty((n, TOKENS), dtype=np.int32)
    for rows in range(0, n, 10_000):
        part = token_id[rows : rows + 10_000]
        part[:] = np.searchsorted(share, draw.random(part.shape) * share[-1])
    is_text = np.ones(token_id.shape, dtype=bool)
    coords = {dim: np.arange(n), "token": np.arange(TOKENS)}
    made = xr.Dataset({"token_id": ((dim, "token"), token_id), "is_text": ((dim, "token"), is_text)}, coords)
    if words:
        texts = [" ".join(map(str, row.tolist())) for row in token_id]
        made = made.assign_coords(text=(dim, np.array(texts, dtype=object)))
    return made


def run(name: str, n: int) -> None:
    """Make the corpora, filter, print one line."""
    settings = WAYS[name]
    train, queries = (corpus(*sizes, "on" in settings) for sizes in ((n, "train", 0), (QUERIES, "query", 1)))
    if settings.get("by") == "embedding":
        draw = np.random.default_rng(2)
        settings["train_embeddings"] = draw.standard_normal((n, DIMENSION), dtype=np.float32)
        settings["query_embeddings"] = draw.standard_normal((QUERIES, DIMENSION), dtype=np.float32)
    compare = inflab.filter_candidates  # imported before the clock starts
    before, wall, processor = peak(), time.perf_counter(), time.process_time()
    compare(queries, train, min(10_000, n), progress=False, **settings)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    print(f"{name:20} {wall:6.1f} s ({processor:5.1f} s)   peak {before:.2f} -> {peak():.2f} GB", flush=True)


def peak() -> float:
    """The largest memory the process has had so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)


def main() -> None:
    """Run each way in a fresh process, so that no peak hides another."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    print(f"{QUERIES} queries, {n:,} documents of {TOKENS} tokens, {VOCABULARY:,} token ids", flush=True)
    for name in WAYS:
        process = multiprocessing.get_context("spawn").Process(target=run, args=(name, n))
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(f"{name}: the process ended with {process.exitcode}")


if __name__ == "__main__":
    main()
