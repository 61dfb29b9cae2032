"""Losses are sums over targets, pseudo-labels follow the model's own distribution and depend on seed and id alone."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

from inflab import EKFAC, CausalLM, Classification, Problem, Regression, Task, adapters
from inflab.corpus import batch
from inflab.errors import CorpusError, InflabError, ModelError, SettingError
from inflab.tasks import Draws
from inflab.tasks.base import draw_class
from tests import tiny

VOCABULARY = 7


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def rows(corpus: Any) -> dict[str, Tensor]:
    arrays = batch(corpus, np.arange(corpus.sizes["train"]))
    return {
        name: torch.from_numpy(value.astype(bool if name.startswith("is_") else np.int64))
        for name, value in arrays.items()
    }


def text(side: str = "right") -> dict[str, Tensor]:
    """Three texts of unequal length; the first has a prompt of two tokens."""
    lengths, width = (5, 3, 2), 5
    items = []
    for i, length in enumerate(lengths):
        ids = [(2 * i + j) % VOCABULARY for j in range(length)]
        labels = [-100, -100, *ids[2:]] if i == 0 else ids
        pad, off = [6] * (width - length), [0] * (width - length)
        none = [-100] * (width - length)
        left = side == "left"
        items.append({
            "input_ids": pad + ids if left else ids + pad,
            "attention_mask": off + [1] * length if left else [1] * length + off,
            "labels": none + labels if left else labels + none,
        })
    return rows(adapters.from_dataset(items))


# --- next-token prediction --------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_loss_of_a_text_is_the_sum_over_its_targets(side: str) -> None:
    arrays, logits = text(side), random(3, 5, VOCABULARY)
    expected = []
    for b in range(3):
        total = 0.0
        for t in range(1, 5):
            if arrays["is_target"][b, t]:
                total -= float(logits[b, t - 1].log_softmax(-1)[arrays["token_id"][b, t]])
        expected.append(total)
    assert arrays["is_target"].sum(1).tolist() == [3, 2, 1]
    tiny.agree(CausalLM().loss(logits, arrays), expected, 1e-12)
    tiny.agree(CausalLM().measure(logits, arrays), [-loss for loss in expected], 1e-12)


def test_its_gradient_is_probability_minus_one_hot_where_the_next_token_is_a_target() -> None:
    arrays, logits = text(), random(3, 5, VOCABULARY).requires_grad_()
    CausalLM().loss(logits, arrays).sum().backward()
    expected = torch.zeros(3, 5, VOCABULARY, dtype=torch.float64)
    for b in range(3):
        for t in range(4):
            if arrays["is_target"][b, t + 1]:
                expected[b, t] = logits[b, t].detach().softmax(-1)
                expected[b, t, arrays["token_id"][b, t + 1]] -= 1
    tiny.agree(logits.grad, expected, 1e-12)


@pytest.mark.parametrize("length", [2, 5])
def test_rows_that_are_all_targets_are_as_those_beside_padded_ones(length: int) -> None:
    whole = rows(adapters.from_dataset([{"input_ids": [b + 1, *range(length - 1)]} for b in range(3)]))
    prompt = {**whole, "is_target": whole["is_target"].clone()}
    prompt["is_target"][0, 1:-1] = False  # here the logits are selected
    logits = random(3, length, VOCABULARY).requires_grad_()
    expected = -logits.log_softmax(-1)[:, :-1].gather(2, whole["token_id"][:, 1:, None]).sum((1, 2))
    loss = CausalLM().loss(logits, whole)
    tiny.agree(loss.detach(), expected.detach(), 1e-12)
    tiny.agree(CausalLM().loss(logits, prompt)[1:].detach(), expected[1:].detach(), 1e-12)
    found, wanted = (torch.autograd.grad(value.sum(), logits, retain_graph=True)[0] for value in (loss, expected))
    tiny.agree(found, wanted, 1e-12)
    assert not found[:, -1].any()
    masked = logits.detach().clone()
    masked[:, :, VOCABULARY - 1] = -torch.inf  # a token that a model never says
    masked.requires_grad_()
    CausalLM().loss(masked, whole).sum().backward()
    assert torch.isfinite(masked.grad).all()
    fewer = CausalLM().loss(logits[:, :-1], whole)  # a model that says nothing after the last token
    tiny.agree(fewer.detach(), expected.detach(), 1e-12)


@pytest.mark.parametrize("measurement", ["log_probability", "margin"])
def test_what_stands_at_padding_and_prompt_does_not_matter(measurement: Any) -> None:
    arrays, logits = text("left"), random(3, 5, VOCABULARY)
    spoilt = logits.clone()
    predicts = torch.cat([arrays["is_target"][:, 1:], torch.zeros(3, 1, dtype=torch.bool)], dim=1)
    spoilt[~predicts] = float("nan")
    task = CausalLM(measurement)
    for quantity in (task.loss, task.measure):
        assert torch.equal(quantity(spoilt, arrays), quantity(logits, arrays))


def test_the_margin_is_the_sum_of_log_odds() -> None:
    arrays, logits = text(), random(3, 5, VOCABULARY)
    expected = torch.zeros(3, dtype=torch.float64)
    for b in range(3):
        for t in range(1, 5):
            if arrays["is_target"][b, t]:
                p = logits[b, t - 1].softmax(-1)[arrays["token_id"][b, t]]
                expected[b] += torch.log(p / (1 - p))
    tiny.agree(CausalLM("margin").measure(logits, arrays), expected, 1e-10)


def test_log_probability_by_token_stands_at_the_predicted_token() -> None:
    arrays, logits = text(), random(3, 5, VOCABULARY)
    found = CausalLM().token_log_probability(logits, arrays)
    assert torch.equal(found != 0, arrays["is_target"])
    tiny.agree(found.sum(1), -CausalLM().loss(logits, arrays), 1e-12)
    assert float(found[1, 2]) == pytest.approx(float(logits[1, 1].log_softmax(-1)[arrays["token_id"][1, 2]]))


def test_half_precision_logits_are_summed_in_float32() -> None:
    assert CausalLM().loss(random(3, 5, VOCABULARY).bfloat16(), text()).dtype == torch.float32
    assert Regression().loss(random(4, 1).bfloat16(), {"target": random(4).bfloat16()}).dtype == torch.float32


# --- tables -----------------------------------------------------------------------------------------------------


def test_classification_is_cross_entropy() -> None:
    logits, target = random(4, 3), torch.tensor([0, 2, 1, 1])
    p = logits.softmax(-1)[torch.arange(4), target]
    tiny.agree(Classification().loss(logits, {"target": target}), -p.log(), 1e-12)
    tiny.agree(Classification().measure(logits, {"target": target}), p.log(), 1e-12)
    tiny.agree(Classification("margin").measure(logits, {"target": target}), (p / (1 - p)).log(), 1e-10)


@pytest.mark.parametrize("shape", [(4, 2), (4, 1), (4,)])
def test_regression_is_half_the_squared_error_summed_over_outputs(shape: tuple[int, ...]) -> None:
    outputs, target = random(*shape), random(*shape, seed=1)
    expected = 0.5 * ((outputs - target) ** 2).reshape(4, -1).sum(1)
    tiny.agree(Regression().loss(outputs, {"target": target}), expected, 1e-12)
    tiny.agree(Regression().measure(outputs, {"target": target}), -expected, 1e-12)
    tiny.agree(Regression("output").measure(outputs, {"target": target}), outputs.reshape(4, -1).sum(1), 1e-12)


def test_one_output_needs_no_axis() -> None:
    outputs, target = random(4, 1), random(4, seed=1)
    tiny.agree(Regression().loss(outputs, {"target": target}), 0.5 * (outputs[:, 0] - target) ** 2, 1e-12)


# --- pseudo-labels ----------------------------------------------------------------------------------------------

P = np.array([0.5, 0.25, 0.15, 0.08, 0.02])


def test_sampled_tokens_follow_the_models_distribution() -> None:
    n, length = 400, 6
    logits = torch.from_numpy(np.log(P)).expand(n, length, len(P))
    arrays = rows(adapters.from_dataset([{"input_ids": [0] * length}] * n))
    label = CausalLM().sample(logits, arrays, Draws(0, range(n)))["label"][:, 1:]
    counts = np.bincount(label.flatten().numpy(), minlength=len(P))
    assert stats.chisquare(counts, P * counts.sum()).pvalue > 0.01
    table = np.array([np.bincount(label[:, t].numpy(), minlength=3)[:3] for t in range(length - 1)])
    assert stats.chi2_contingency(table).pvalue > 0.01, "positions are drawn alike"
    pairs = Counter(zip(label[:, 0].tolist(), label[:, 1].tolist(), strict=True))
    both = np.array([[pairs[a, b] for b in range(2)] for a in range(2)])
    assert stats.chi2_contingency(both).pvalue > 0.01, "neighbours are drawn independently"


def test_sampled_classes_follow_the_models_distribution() -> None:
    logits = torch.from_numpy(np.log(P)).expand(2000, len(P))
    drawn = Classification().sample(logits, {}, Draws(0, range(2000)))["target"]
    counts = np.bincount(drawn.numpy(), minlength=len(P))
    assert stats.chisquare(counts, P * 2000).pvalue > 0.01


def test_sampled_values_are_normal_around_the_output() -> None:
    outputs = random(2000, 2)
    drawn = Regression().sample(outputs, {}, Draws(0, range(2000)))["target"] - outputs
    assert stats.kstest(drawn.flatten().numpy(), "norm").pvalue > 0.01
    assert stats.pearsonr(drawn[:, 0], drawn[:, 1]).pvalue > 0.01


def test_a_class_of_probability_zero_is_never_drawn() -> None:
    never_first = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0]])
    assert draw_class(never_first, torch.zeros(1, dtype=torch.float64)).item() == 1
    assert draw_class(never_first, torch.full((1,), 1 - 2**-53, dtype=torch.float64)).item() == 3
    logits = torch.tensor([0.0, -torch.inf, 0.0, -torch.inf]).expand(500, 4)
    assert set(Classification().sample(logits, {}, Draws(0, range(500)))["target"].tolist()) == {0, 2}


@given(st.permutations(range(6)), st.integers(1, 6), st.integers(0, 3))
def test_labels_depend_on_seed_and_id_alone(order: list[int], size: int, seed: int) -> None:
    """Not on the batch, its order, or the padding."""
    corpora = {side: tiny.corpus(padding_side=side, ids=list("abcdef")) for side in ("left", "right")}
    logits = {i: random(64, 320, seed=i) for i in range(6)}  # of each text, by position in the text

    def labels(side: str, places: list[int]) -> dict[int, list[int]]:
        arrays = {k: torch.from_numpy(v) for k, v in batch(corpora[side], np.array(places)).items()}
        arrays["token_id"] = arrays["token_id"].long()
        position = (arrays["is_text"].long().cumsum(1) - 1).clamp(min=0)
        outputs = torch.stack([logits[i][p] for i, p in zip(places, position, strict=True)])
        label = CausalLM().sample(outputs, arrays, Draws(seed, ["abcdef"[i] for i in places]))["label"]
        return {i: row[keep].tolist() for i, row, keep in zip(places, label, arrays["is_target"], strict=True)}

    whole = labels("right", list(range(6)))
    parts = [labels("left", order[start : start + size]) for start in range(0, 6, size)]
    assert {i: row for part in parts for i, row in part.items()} == whole
    assert labels("right", order) == whole


def test_labels_change_with_seed_and_with_id() -> None:
    draws = [Draws(seed, ids).uniform(50) for seed, ids in ((0, ["a", "b"]), (1, ["a", "b"]), (0, ["c", "b"]))]
    assert not torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0][0], draws[0][1])
    assert not torch.equal(draws[0][0], draws[2][0])
    assert torch.equal(draws[0][1], draws[2][1])


def test_prompt_and_padding_keep_their_tokens() -> None:
    arrays = text()
    label = CausalLM().sample(random(3, 5, VOCABULARY), arrays, Draws(0, range(3)))["label"]
    assert torch.equal(label[~arrays["is_target"]], arrays["token_id"][~arrays["is_target"]])


def test_no_global_randomness_is_touched() -> None:
    problem = tiny.table_problem()
    before = torch.random.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002 - the state must stay
    tiny.fit(problem)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002


# --- a task of one's own ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Poisson(Task):
    """Counts with log-rate given by the model: the three short methods a subclass writes."""

    def loss(self, outputs: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        return (outputs.exp() - batch["target"][:, None] * outputs).sum(1)

    def sample(self, outputs: Tensor, batch: Mapping[str, Tensor], draws: Draws) -> Mapping[str, Tensor]:
        rate = outputs.detach().exp().double()[:, 0].cpu().numpy()
        drawn = stats.poisson.ppf(draws.uniform().numpy(), rate)
        return {**batch, "target": torch.from_numpy(drawn).to(outputs)}

    def measure(self, outputs: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        return outputs[:, 0]


def _counts(dim: str = "train") -> Any:
    draw = np.random.default_rng(0)
    return adapters.from_arrays(draw.standard_normal((20, 3)), draw.poisson(2, 20), dim=dim)


def test_a_task_of_ones_own_is_fitted_and_asked() -> None:
    model = tiny.seeded(nn.Sequential(nn.Linear(3, 1))).double()
    asked = _counts("query").isel(query=[0, 1])
    found = tiny.scores(Problem(model, Poisson(), _counts()), asked, EKFAC(fisher="empirical", damping=1))
    # One output, one layer: the gradient of an example is (rate - count) (x; 1), that of the query (x; 1).
    x_ni = np.concatenate([_counts()["input"].values, np.ones((20, 1))], axis=1)
    with torch.no_grad():
        rate_n = model(torch.from_numpy(_counts()["input"].values)).exp().numpy()
    error_n = rate_n[:, 0] - _counts()["target"].values
    A, S = x_ni.T @ x_ni / 20, (error_n**2).mean()
    _, Q = np.linalg.eigh(A)
    eigenvalues = ((error_n[:, None] * (x_ni @ Q)) ** 2).mean(0)
    assert S > 0
    damped = eigenvalues + eigenvalues.mean()
    tiny.agree(found, -(x_ni[:2] @ Q / damped) @ (error_n[:, None] * (x_ni @ Q)).T, 1e-9)


def test_a_task_without_its_methods_says_which_are_missing() -> None:
    with pytest.raises(TypeError, match=re.escape("Task must define loss(outputs, batch)")):
        Task().loss(random(1), {})
    with pytest.raises(TypeError, match="or use fisher='empirical'"):
        Task().sample(random(1), {}, Draws(0, [0]))


# --- bad input --------------------------------------------------------------------------------------------------


class Named(nn.Module):
    """A language model that returns what it is told to."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.body, self.value = nn.Linear(3, 4), value

    def forward(self, *given: Any) -> Any:
        return self.value


@pytest.mark.parametrize("value", [(torch.zeros(1), None), None, {"logits": 1}], ids=["tuple", "None", "dict"])
@pytest.mark.parametrize("task", [CausalLM(), Classification()], ids=["CausalLM", "Classification"])
def test_a_model_that_returns_no_tensor_is_refused(task: Task, value: Any) -> None:
    arrays = {**text(), "input": random(3, 3)}
    with pytest.raises(ModelError, match=f"Named returned a {type(value).__name__}; return a tensor"):
        task.forward(Named(value), arrays)


def test_logits_are_taken_from_an_output_that_has_them() -> None:
    class Outputs:
        logits = torch.ones(2)

    assert Classification().forward(Named(Outputs()), {"input": random(2, 3)}) is Outputs.logits


class Positions(nn.Module):
    """A model without `attention_mask`."""

    def forward(self, token_id: Tensor) -> Tensor:
        return nn.functional.one_hot(token_id, VOCABULARY).double()


class Wrapped(Positions):
    """One that would take it, but does not name it."""

    def forward(self, *args: Any, **more: Any) -> Tensor:
        return super().forward(*args)


@pytest.mark.parametrize("model", [Positions(), Wrapped()], ids=["positional", "wrapped"])
def test_without_an_attention_mask_either_side_of_padding_is_the_same(model: nn.Module) -> None:
    right, left = (CausalLM().forward(model, text(side)) for side in ("right", "left"))
    mask = text("right")["is_text"]
    assert torch.equal(mask, text("left")["is_text"])
    assert torch.equal(right[mask], left[mask])


@pytest.mark.parametrize(("make", "is_asked"), [(tiny.llama, False), (tiny.neox, False), (tiny.gpt2, True)])
@pytest.mark.parametrize("is_padded", [False, True])
def test_a_mask_is_given_only_where_it_says_something(
    make: Any, is_asked: bool, is_padded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Learned positions are given always: each example's own gradient is needed. The logits are the same either way."""
    model, task = make().double(), CausalLM()
    corpus = tiny.corpus(tiny.TEXTS if is_padded else tiny.TEXTS[:1])
    arrays = batch(corpus, np.arange(corpus.sizes["train"]))
    assert arrays["is_text"].all() != is_padded, "texts of unequal length are padded"
    plain, ready = rows(corpus), {name: torch.from_numpy(value) for name, value in task.prepare(arrays).items()}
    ready |= plain
    expected = task.forward(model, plain)
    given: dict[str, Any] = {}
    whole = type(model).forward

    def look(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        given.update(kwargs)
        return whole(self, *args, **kwargs)

    look.__signature__ = inspect.signature(whole)  # type: ignore[attr-defined]
    monkeypatch.setattr(type(model), "forward", look)
    found = task.forward(model, ready)
    tiny.agree(found[plain["is_text"]].detach(), expected[plain["is_text"]].detach(), 1e-12)
    for name in ("attention_mask", "position_ids"):
        assert (name in given) == (is_asked or is_padded)
    assert given["use_cache"] is False
    tiny.agree(task.loss(found, ready).detach(), task.loss(expected, plain).detach(), 1e-12)


def test_padding_may_have_an_id_outside_the_vocabulary() -> None:
    arrays = text()
    arrays["token_id"] = arrays["token_id"].masked_fill(~arrays["is_text"], VOCABULARY)
    assert CausalLM().forward(Positions(), arrays).shape == (3, 5, VOCABULARY)


@pytest.mark.parametrize(
    "setting", [lambda: CausalLM("odds"), lambda: Classification("x"), lambda: Regression("margin")]
)
def test_an_unknown_measurement_is_refused(setting: Any) -> None:
    with pytest.raises(SettingError, match="measurement='.*' is not one of 'log_probability'"):
        setting()


def _table(**columns: Any) -> Any:
    return tiny.table(4).assign({
        name: (tiny.table(4)[name].dims, np.asarray(value)) for name, value in columns.items()
    })


X = tiny.table(4)["input"].values
NOT_A_NUMBER = np.where(np.arange(12).reshape(4, 3) == 5, np.nan, X)
BAD = {
    "no variables": (Classification(), lambda: tiny.corpus(), "Classification needs the variables ['input', 'target']"),
    "no tokens": (CausalLM(), tiny.table, "CausalLM needs the variables ['is_target', 'is_text', 'token_id']"),
    "negative class": (Classification(), lambda: _table(target=[0, -1, 2, -3]), "train 1, 3: negative classes"),
    "half a class": (Classification(), lambda: _table(target=[0, 0.5, 1, 1]), "classes are one whole number"),
    "infinite input": (
        Classification(),
        lambda: _table(input=X / [[1], [1], [0], [1]]),
        "train 2: NaN or infinity in input",
    ),
    "NaN input": (Regression(), lambda: _table(input=NOT_A_NUMBER), "train 1: NaN or infinity in input"),
    "NaN target": (Regression(), lambda: _table(target=[0, 1, 2, np.nan]), "train 3: NaN or infinity in target"),
    "texts as input": (Regression(), lambda: _table(input=X.astype(str).astype(object)), "input has dtype object"),
}


@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
@pytest.mark.parametrize(("task", "corpus", "says"), BAD.values(), ids=BAD)
def test_a_corpus_that_a_task_cannot_use_is_refused(task: Task, corpus: Any, says: str) -> None:
    with pytest.raises(CorpusError, match=re.escape(says)):
        Problem(tiny.mlp(), task, corpus())


def test_classes_that_the_models_dtype_would_round_are_refused() -> None:
    corpus = _table(target=[0.0, 257.0, 258.0, 300.0])
    Problem(tiny.mlp(), Classification(), corpus)
    Problem(tiny.mlp().bfloat16(), Classification(), _table(target=[0, 257, 258, 300]))
    with pytest.raises(CorpusError, match=r"class 300 as float64; use whole numbers: astype\(int\)"):
        Problem(tiny.mlp().bfloat16(), Classification(), corpus)


UNFIT = {
    "class beyond the outputs": (Classification(), [0, 1, 9, 2], "target holds class 9, the model has 4 outputs"),
    "too few targets": (Regression(), [0, 1, 2, 3], "target has shape () an example, the model's output (4,)"),
}


@pytest.mark.parametrize(("task", "target", "says"), UNFIT.values(), ids=UNFIT)
@pytest.mark.parametrize("fisher", ["true", "empirical"])
def test_targets_that_do_not_fit_the_outputs_are_refused_in_the_first_pass(
    task: Task, target: Any, says: str, fisher: Any
) -> None:
    model = tiny.mlp()
    problem = Problem(model, task, _table(target=target))
    with tiny.untouched(model), pytest.raises(InflabError, match=re.escape(says)):
        tiny.scores(problem, _table(target=target).rename(train="query"), EKFAC(fisher=fisher))
