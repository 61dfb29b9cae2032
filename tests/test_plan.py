"""The plan counts what is done: formulas against the products torch counts, routes against those the engine takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from inflab import kronecker, plan, products
from inflab.errors import SettingError
from inflab.layer import select_layers
from inflab.plan import pass_flops, plan_fit, plan_score
from inflab.preconditioned import Sides, choose_sides
from inflab.run.fit import bases_of, covariance_sums, square_sums
from inflab.run.local import Pass
from inflab.run.queries import query_gradients
from inflab.run.score import score_rows
from inflab.workload import Workload, product_rate
from tests import tiny

WIDE = {"n_embd": 48, "n_head": 2, "n_layer": 2}


def corpus(n: int, dim: str = "train") -> Any:
    """Texts of one length, so that nothing is padding."""
    return tiny.corpus([f"{tiny.TEXTS[0]} {i}" for i in range(n)], dim=dim)


def workload(problem: Any, **more: Any) -> Workload:
    tokens = float(problem.corpus["is_text"].sum()) / problem.corpus.sizes["train"]
    sizes = {"examples": problem.corpus.sizes["train"], "tokens": tokens, "memory": 10**9} | more
    return Workload(problem.model, select_layers(problem.model), **sizes)


def in_place(total: Any, a: Any, b: Any, *args: Any, **more: Any) -> int:
    """Operations of `addmm_`, which torch's counter does not know."""
    return int(2 * a[0] * a[1] * b[1])


def in_onednn(a: Any, weight: Any, *_: Any, **__: Any) -> int:
    """Operations of `a weight^T`, likewise."""
    return int(2 * np.prod(a) * weight[0])


def counted(work: Any) -> float:
    """Operations of the matrix products of a call, as torch counts them."""
    own = {torch.ops.aten.addmm_: in_place}
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        own[torch.ops.mkldnn._linear_pointwise] = in_onednn
    with FlopCounterMode(display=False, custom_mapping=own) as counter:
        work()
    return float(counter.get_total_flops())


def of(frame: Any, *steps: str) -> float:
    return float(frame[frame["taken"] & frame["step"].isin(steps)]["flops"].sum())


def test_a_fit_multiplies_what_its_plan_says() -> None:
    problem = tiny.language_problem(tiny.gpt2(**WIDE), corpus(8))
    run = Pass(problem, select_layers(problem.model), progress=False)
    frame = plan_fit(workload(problem))
    sums: dict[str, torch.Tensor] = {}
    one_pass = counted(lambda: sums.update(covariance_sums(run, "loss", np.arange(8))))
    expected = of(frame, "pass", "covariances")
    assert 0.8 * expected < one_pass < 1.1 * expected
    bases = bases_of(run, sums)
    both = counted(lambda: square_sums(run, "loss", np.arange(8), bases))
    expected = of(frame, "pass", "eigenvalues")
    assert 0.8 * expected < both < 1.1 * expected


@pytest.mark.parametrize("width", [256, 1025, 1600])
def test_a_symmetric_product_multiplies_what_is_planned_for_its_width(width: int) -> None:
    value = torch.randn(20, width, dtype=torch.float64)
    total = products.aligned(value, width, width).zero_()
    found = counted(lambda: products.add_gram(total, value))
    assert found == pytest.approx(2 * 20 * width**2 * products.gram_share(width), rel=0.02)
    tiny.agree(products.mirror(total), value.T @ value, 1e-12)


@pytest.mark.parametrize("rank", [None, 2], ids=["exact", "rank 2"])
@pytest.mark.parametrize("n_query", [2, 60], ids=["few", "many"])
def test_scoring_multiplies_what_its_plan_says(n_query: int, rank: int | None) -> None:
    problem = tiny.language_problem(tiny.gpt2(**WIDE), corpus(8))
    influence, asked = tiny.fit(problem), corpus(n_query, "query")
    run, curvatures = influence._prepare(None, None, False)
    frame = plan_score(
        workload(problem), queries=n_query, query_tokens=float(asked["is_text"].sum()) / n_query, rank=rank
    )

    def score() -> None:
        ready = query_gradients(run, curvatures, asked, np.arange(n_query), rank, against=problem.corpus)
        score_rows(run, ready, problem.corpus, np.arange(8), by_layer=False)

    expected = float(frame[frame["taken"]]["flops"].sum())
    assert 0.8 * expected < counted(score) < 1.1 * expected


@pytest.mark.parametrize("build", [tiny.gpt2, tiny.llama, tiny.neox], ids=["gpt2", "llama", "neox"])
def test_a_pass_costs_what_torch_counts(build: Any) -> None:
    model = build(attn_implementation="eager")
    problem = tiny.language_problem(model, corpus(1))
    run = Pass(problem, select_layers(model), progress=False)
    found = counted(lambda: run.over(problem.corpus, "loss", lambda *_: None, what="test"))
    expected = pass_flops(model, run.layers, float(problem.corpus["is_text"].sum()))
    assert 0.85 * found < expected < 1.15 * found


def test_the_routes_are_those_the_engine_takes() -> None:
    model = tiny.gpt2(**WIDE)
    layers = select_layers(model)
    for tokens in (1, 30, 100, 1000):
        work = Workload(model, layers, 4, tokens, 10**9)
        for layer in layers:
            _, how = plan.rotation(work, layer, tokens)
            a, g = torch.zeros(1, tokens, layer.width), torch.zeros(1, tokens, layer.outputs)
            ready = kronecker.rotated(a, g, layer.width, torch.eye(layer.outputs), torch.eye(layer.width))
            if ready.is_one_token:
                assert how.startswith("one token")
                continue
            assert ("gradient tokens first" in how) == (ready.left is None)
            assert ("activation tokens first" in how) == (ready.right is None)
    for queries in (1, 40, 10_000):
        frame = plan_score(Workload(model, layers, 100, 20, 10**12), queries=queries, query_tokens=5)
        for layer in layers:
            curvature = kronecker.Curvature(torch.eye(1), torch.eye(1), None, 0.0)
            sides = choose_sides(curvature, (layer.outputs, layer.width), queries, 100, 20)
            rows = frame[frame["taken"] & (frame["layer"] == layer.name) & frame["step"].str.endswith("side")]
            taken = {row.step: row.route == "training tokens into the eigenbasis" for row in rows.itertuples()}
            assert Sides(taken["gradient side"], taken["activation side"]) == sides


def test_less_memory_means_more_passes_and_never_fewer_bytes_than_nothing() -> None:
    problem = tiny.language_problem(tiny.gpt2(**WIDE), corpus(8))
    fits = [plan_fit(workload(problem, memory=memory)).attrs for memory in (10**9, 493 * 10**4, 10**4)]
    assert [at["passes"] for at in fits] == [2 - at["kept"] for at in fits]
    assert fits[0]["kept"] == 1
    assert 0 < fits[1]["kept"] < 1
    assert fits[2]["kept"] == 0
    assert fits[0]["flops"] < fits[2]["flops"]
    scores = [
        plan_score(workload(problem, memory=memory), queries=50, query_tokens=9).attrs for memory in (10**9, 10**6)
    ]
    assert scores[0]["passes"] == 1
    assert scores[1]["passes"] > 1


def test_a_model_that_does_not_exist_can_be_planned_for() -> None:
    with torch.device("meta"):
        model = type(tiny.gpt2())(tiny.gpt2().config.__class__(n_embd=4096, n_layer=8, n_head=32))
    assert all(p.is_meta for p in model.parameters())
    frame = plan_fit(Workload(model, select_layers(model), 10**7, 512, 80 * 10**9, rate=1e14))
    assert frame.attrs["parameters"] == sum(p.numel() for p in model.parameters())
    assert frame.attrs["seconds"] == pytest.approx(frame.attrs["flops"] / 1e14)
    assert frame["share"].sum() == pytest.approx(1)


def test_blocks_and_shared_inputs_save_operations_and_bytes() -> None:
    problem = tiny.language_problem(tiny.llama())
    work = Workload(problem.model, select_layers(problem.model), 10, 20, 10**9)
    whole, halves = plan_fit(work), plan_fit(work, blocks=2)
    assert of(halves, "eigenbases") == pytest.approx(of(whole, "eigenbases") / 4)
    shared = {layer.name: layer.name.replace("up_proj", "gate_proj") for layer in work.layers}
    assert of(plan_fit(work, shared=shared), "covariances", "eigenbases") < of(whole, "covariances", "eigenbases")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"examples": 0}, "examples=0"), ({"tokens": 0.5}, r"tokens=0.5"), ({"rate": 0.0}, "rate=0.0")],
)
def test_sizes_outside_their_domain_are_refused(wrong: dict[str, Any], says: str) -> None:
    problem = tiny.language_problem()
    with pytest.raises(SettingError, match=says):
        workload(problem, **wrong)


def test_the_rate_of_this_machine_is_measured() -> None:
    assert product_rate(torch.device("cpu"), size=64) > 1e6
