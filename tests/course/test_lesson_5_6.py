"""Lessons 5 and 6: their right answers against autograd, enumerated labels and the library."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import xarray as xr

import inflab


@pytest.fixture
def tiny() -> tuple[xr.Dataset, Any]:
    """Six texts of unequal length and an untrained GPT-2 of two blocks."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=11, n_positions=8, n_embd=8, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0, resid_pdrop=0.0,
        embd_pdrop=0.0, attn_pdrop=0.0, attn_implementation="eager",
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    rng = np.random.default_rng(0)
    is_text = np.arange(7) < np.array([3, 7, 5, 4, 7, 6])[:, None]
    token_id = np.where(is_text, rng.integers(0, 11, is_text.shape), 0).astype("int32")
    is_target = is_text & (np.arange(7) > 0)
    of = {"token_id": token_id, "is_text": is_text, "is_target": is_target}
    corpus = xr.Dataset({name: (("train", "token"), value) for name, value in of.items()}, {"train": np.arange(6)})
    return corpus, model


def test_a_sequences_gradient_is_autograds(lessons: None, tiny: tuple[xr.Dataset, Any]) -> None:
    from lessons import lesson_5 as lesson

    corpus, model = tiny
    ids, text = corpus["token_id"].to_numpy(), corpus["is_text"].to_numpy()
    a, g, weight, bias = lesson.captured(model, ids, text)
    total = np.zeros((32, 9))
    for row, length in enumerate(text.sum(1)):
        inputs = torch.as_tensor(ids[row, :length]).long()
        loss = F.cross_entropy(model(inputs[None]).logits[0, :-1], inputs[1:], reduction="sum")
        layer = model.get_submodule(lesson.LAYER)
        true = torch.cat([
            one.reshape(-1, 32) for one in torch.autograd.grad(loss, [layer.weight, layer.bias])
        ]).T.numpy()
        mine = lesson._gradient(a[row, :length], g[row, :length])
        np.testing.assert_allclose(mine, true, atol=2e-5 * np.abs(true).max())
        assert np.abs(g[row, length:]).max(initial=0) < 1e-6
        total += true
    np.testing.assert_allclose(np.concatenate([weight, bias[:, None]], 1), total, atol=2e-5 * np.abs(total).max())


def test_lesson_5_has_the_librarys_covariance_and_eigenvalues(lessons: None, tiny: tuple[xr.Dataset, Any]) -> None:
    from lessons import lesson_5 as lesson

    corpus, model = tiny
    ids, text = corpus["token_id"].to_numpy(), corpus["is_text"].to_numpy()
    problem = inflab.Problem(model, inflab.CausalLM(), corpus)
    factors = inflab.EKFAC(layers=lesson.LAYER, fisher="empirical").fit(problem, progress=False).factors[lesson.LAYER]
    a, g, _, _ = lesson.captured(model, ids, text)
    values = factors["activation_eigenvalues"].to_numpy()
    np.testing.assert_allclose(np.linalg.eigvalsh(lesson._covariance(a, text)), values, atol=1e-5 * values.max())
    axes = [factors[f"{side}_eigenvectors"].to_numpy() for side in ("activation", "gradient")]
    mine = lesson._corrected(lesson.with_ones(a, text), np.where(text[..., None], g, 0), *axes)
    theirs = factors["eigenvalues"].to_numpy()
    np.testing.assert_allclose(mine, theirs, atol=1e-5 * theirs.max())


def test_padding_may_hold_nan(lessons: None) -> None:
    from lessons import lesson_5 as lesson

    a, _, is_text = lesson._sequences(0)
    expected = lesson._covariance(a, is_text)
    assert expected[-1, -1] == pytest.approx(1)
    np.testing.assert_array_equal(lesson._covariance(np.where(is_text[..., None], a, np.nan), is_text), expected)


def test_the_mean_over_labels_is_the_hessian_of_cross_entropy(lessons: None) -> None:
    from lessons import lesson_5 as lesson

    logits = torch.tensor([0.3, -1.0, 2.0, 0.5], dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(lambda z: F.cross_entropy(z[None], torch.tensor([1])), logits)
    np.testing.assert_allclose(lesson._labels(logits.softmax(0).numpy()), hessian.numpy(), atol=1e-12)


def test_drawn_labels_follow_the_model(lessons: None) -> None:
    from lessons import lesson_5 as lesson

    p = np.array([0.1, 0.0, 0.6, 0.3])
    drawn = lesson._draw(np.broadcast_to(p, (40_000, 4)), np.random.default_rng(0))
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / len(drawn), p, atol=0.01)
    told = np.array([[5, 6, 7]])
    assert lesson.sampled(np.eye(4)[None, [2, 3, 0]], told, 0).tolist() == [[5, 2, 3]]


def test_the_last_blocks_gradients_are_autograds(
    lessons: None, tiny: tuple[xr.Dataset, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lessons import lesson_5 as lesson

    corpus, model = tiny
    monkeypatch.setattr(lesson, "facts", lambda: (corpus, model, None))
    made = lesson._last_block.__wrapped__()
    logits, table, jacobian, label, sequence = made
    seen: dict[str, torch.Tensor] = {}
    layer = model.transformer.h[-1].mlp.c_proj
    hook = layer.register_forward_hook(lambda _m, _a, out: seen.update(out=out))
    ids, text = (torch.as_tensor(corpus[name].to_numpy()) for name in ("token_id", "is_text"))
    said = model(ids.long()).logits[:, :-1][text[:, 1:]]
    hook.remove()
    g = torch.autograd.grad(F.cross_entropy(said, ids[:, 1:][text[:, 1:]].long(), reduction="sum"), seen["out"])[0]
    g = g[:, :-1][text[:, 1:]]
    mine = torch.einsum("nd,nde->ne", logits.softmax(-1) @ table - table[torch.as_tensor(label).long()], jacobian)
    torch.testing.assert_close(mine.detach(), g, rtol=1e-4, atol=1e-5 * float(g.abs().max()))
    assert len(sequence) == len(g)
    monkeypatch.setattr(lesson, "_last_block", lambda: made)
    draws, errors, _, _ = lesson.label_errors.__wrapped__(1.0, 6)
    assert errors[-1] < 0.25 < 2 * errors[0]  # the error of drawn labels falls toward the enumerated S
    assert draws[-1] == 64


def test_equal_tokens_grow_as_t_squared_and_independent_ones_as_t(lessons: None) -> None:
    from lessons import lesson_5 as lesson

    def growth(tokens: int, *, are_equal: bool) -> float:
        a, g = lesson.copies(tokens, are_equal=are_equal)
        return float(
            lesson._corrected(a, g, np.eye(3), np.eye(2)).sum() / ((a**2).sum(-1).mean() * (g**2).sum(-1).mean())
        )

    assert growth(6, are_equal=True) / growth(1, are_equal=True) == pytest.approx(36)
    assert growth(6, are_equal=False) == pytest.approx(6, rel=0.1)


def test_tfidf_is_the_librarys(lessons: None) -> None:
    from lessons import lesson_6 as lesson

    corpus = inflab.datasets.load("facts")
    asked = inflab.datasets.fact_queries(corpus, facts=[0])
    _, query, holds = lesson.terms(corpus["text"].to_numpy().tolist(), asked["text"].item())
    mine = lesson._tfidf(query, holds)
    found = inflab.filter_candidates(asked, corpus, 20, by="tfidf", on="words", progress=False).isel(query=0)
    places = corpus.indexes["train"].get_indexer(found["train"].to_numpy())
    np.testing.assert_allclose(mine[places], found["similarity"], rtol=1e-5)
    assert np.sort(mine)[::-1][19] == pytest.approx(float(found["similarity"][-1]), rel=1e-5)


def test_recall_counts_as_sets_do(lessons: None) -> None:
    from lessons import lesson_6 as lesson

    rng = np.random.default_rng(0)
    exact, rough = rng.normal(size=(2, 4, 20))
    shares = [len({*np.argsort(a)[-3:]} & {*np.argsort(b)[-7:]}) / 3 for a, b in zip(exact, rough, strict=True)]
    assert lesson._recall(exact, rough, 3, 7) == pytest.approx(np.mean(shares))
    assert lesson._recall(exact, rough, 3, 20) == 1


def test_truncation_is_the_nearest_of_its_rank(lessons: None) -> None:
    from lessons import lesson_6 as lesson

    v = np.random.default_rng(0).normal(size=(6, 8))
    near = lesson._truncated(v, 2)
    assert np.linalg.matrix_rank(near) == 2
    rest = np.sqrt((np.linalg.eigvalsh(v @ v.T)[:-2]).sum())  # Eckart and Young
    assert np.linalg.norm(v - near) == pytest.approx(rest)


def test_share_is_that_of_top(lessons: None) -> None:
    from lessons import lesson_6 as lesson

    value = np.random.default_rng(0).normal(size=(1, 30))
    coords = {"query": ["q"], "train": np.arange(30)}
    attrs = {"kind": "scores", "n_train": 30}
    scores = xr.Dataset({"influence": (("query", "train"), value)}, coords, attrs)
    assert lesson._share(value[0], 4) == pytest.approx(float(inflab.top(scores, 4)["share"].sum()))


def test_places_are_counted_from_the_answer(lessons: None) -> None:
    from lessons import lesson_6 as lesson

    value = np.zeros((2, 1, 1, 4))
    value[0, 0, 0], value[1, 0, 0] = [0, 3, 1, 0], [-2, 2, 0, 9]
    is_text = np.ones((2, 1, 4), bool)
    is_text[1, 0, 3] = False
    tokens = xr.Dataset({
        "influence": (("query", "rank", "layer", "token"), value), "is_text": (("query", "rank", "token"), is_text),
    })  # fmt: skip
    found = lesson.by_place(tokens, [2, 1])
    assert found == pytest.approx({-2: 0.0, -1: 0.625, 0: 0.375, 1: 0.0})
    assert sum(found.values()) == pytest.approx(1)
