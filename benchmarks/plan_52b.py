"""The plan of a model of 52 billion parameters over ten million sequences, made on a laptop from shapes alone.

    python benchmarks/plan_52b.py            # prints it
    python benchmarks/plan_52b.py --write    # and puts it into docs/more-than-one-machine.md

The shape is that of GB23's largest model as far as it is public: 64 blocks, d = 8192, MLP 32768.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from inflab import EKFAC
from inflab.layer import select_layers
from inflab.plan import plan_score
from inflab.workload import workload

PAGE = Path(__file__).parent.parent / "docs" / "more-than-one-machine.md"
START, END = "<!-- plan -->", "<!-- end of plan -->"

GPUS, MEMORY = 64, 80 * 10**9
RATE = 400e12
FITTED, SEARCHED, TOKENS = 100_000, 10_000_000, 512
QUERIES, QUERY_TOKENS, RANK = 100, 128, 32


def model() -> GPTNeoXForCausalLM:
    """The model on the meta device: shapes without weights."""
    config = GPTNeoXConfig(
        vocab_size=65_536,
        hidden_size=8192,
        intermediate_size=32_768,
        num_hidden_layers=64,
        num_attention_heads=64,
        max_position_embeddings=2048,
    )
    with torch.device("meta"):
        return GPTNeoXForCausalLM(config)


def steps(frame: pd.DataFrame) -> list[tuple[str, str, float]]:
    """Step, route and operations of what is taken, layers summed."""
    taken = frame[frame["taken"]]
    groups = taken.groupby("step", sort=False)
    return [(str(step), str(rows["route"].iloc[0]), float(rows["flops"].sum())) for step, rows in groups]


def page() -> str:
    """The plan as Markdown."""
    big, memory = model(), GPUS * MEMORY
    method = EKFAC()
    fit = method.plan(big, examples=FITTED, tokens=TOKENS, memory=memory, rate=RATE * GPUS)
    layers = select_layers(big)
    work = workload(big, layers, examples=SEARCHED, tokens=TOKENS, memory=memory, rate=RATE * GPUS)
    score = plan_score(work, queries=QUERIES, query_tokens=QUERY_TOKENS, rank=RANK)
    at = fit.attrs
    lines = [
        f"{at['parameters'] / 1e9:.1f} billion parameters, of which the {len(layers)} MLP matrices hold "
        f"{at['covered'] / at['parameters']:.0%}. EK-FAC fitted on {FITTED:,} sequences of {TOKENS} tokens; "
        f"{QUERIES} queries of {QUERY_TOKENS} tokens, held at rank {RANK}, scored against {SEARCHED:,} sequences.",
        "",
        "| job | step | route | operations | GPU-hours |",
        "|---|---|---|---|---|",
    ]
    for job, frame in (("fit", fit), ("score", score)):
        lines += [
            f"| {job} | {step} | {route} | {flops:.2g} | {flops / RATE / 3600:,.0f} |"
            for step, route, flops in steps(frame)
        ]
        total = frame.attrs["flops"]
        lines.append(f"| **{job}** | all | | **{total:.2g}** | **{total / RATE / 3600:,.0f}** |")
    rows = [
        ("model weights, bf16", 2 * at["parameters"]),
        ("factors in float32: both eigenbases and the eigenvalues of every layer", at["factor_bytes"]),
        (
            f"{QUERIES} queries at rank {RANK}",
            float(score[score["taken"]].groupby("step")["bytes"].sum()["query gradients"]),
        ),
        ("the same at full rank", 4.0 * QUERIES * sum(layer.width * layer.outputs for layer in layers)),
        ("scores, float32", 4.0 * QUERIES * SEARCHED),
        (
            "training gradients, dense float32 (never stored)",
            4.0 * SEARCHED * sum(x.width * x.outputs for x in layers),
        ),
    ]
    lines += ["", "| bytes | GB |", "|---|---|", *(f"| {name} | {size / 1e9:,.0f} |" for name, size in rows)]
    lines += [
        "",
        "What the figures rest on:",
        "",
        f"- {RATE / 1e12:.0f} TFLOP/s reached by a GPU in bf16 products: an assumption, 40% of the peak of an H100; "
        "float32 products without TF32 are several times slower. GPU-hours are operations over this rate: no waiting.",
        "- A pass takes 4 x parameters x tokens operations, and attention: weights are frozen and get no gradient.",
        f"- The fit is by a sample of {FITTED:,} sequences: ten million make all but the eigenbases 100-fold.",
        f"- {GPUS} GPUs of {MEMORY / 1e9:.0f} GB hold the weights, by `device_map`, and each layer's factors beside "
        f"its weight. {score.attrs['passes']} pass over the ten million serves all {QUERIES} queries.",
        "- Eigendecompositions are counted as 9 n^3; a GPU reaches a small part of its product rate on them.",
        "- Candidates from `filter_candidates` cut the scored sequences, and with them the score, in proportion.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Print the plan, or put it into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put it into docs/more-than-one-machine.md")
    text = page()
    if parser.parse_args().write:
        whole = PAGE.read_text(encoding="utf-8")
        before, rest = whole.split(START)
        after = rest.split(END)[1] if END in rest else rest
        PAGE.write_text(f"{before}{START}\n\n{text}\n\n{END}{after}", encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
