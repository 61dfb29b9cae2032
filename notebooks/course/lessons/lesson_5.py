"""Lesson 5: a transformer's gradient. Tokens, padding, whose labels, and where the sum over tokens goes.

The model is the small GPT of the invented facts. `captured` reads a layer's activations and output gradients with two
hooks; `last_block` holds what is needed to enumerate every label of the last MLP matrix, which only one token follows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from torch import Tensor, nn

import inflab
from lessons.checking import check, predict

__all__ = [
    "LAYER", "apart", "ask_label", "ask_later", "ask_padding", "ask_tokens", "captured", "check_corrected", "check_covariance",
    "check_gradient", "check_labels", "copies", "facts", "last_word", "numbered", "picture", "probabilities", "sampled", "with_ones",
]  # fmt: skip

LAYER = "transformer.h.0.mlp.c_fc"
_SEQUENCES = 48  # of the playground
_BATCH = 32  # texts in one pass


@lru_cache(maxsize=1)
def facts() -> tuple[xr.Dataset, Any, Any]:
    """Corpus, model and tokenizer; the model is trained on first use."""
    model, tokenizer = inflab.models.load("facts-gpt", progress=False)
    return inflab.datasets.load("facts"), model, tokenizer


def captured(model: nn.Module, token_id: np.ndarray, is_text: np.ndarray, label: np.ndarray | None = None) -> Any:
    """One layer's side of one backward pass.

    Args:
        model: the GPT.
        token_id: `(n, T)`, padded on the right.
        is_text: `(n, T)`.
        label: `(n, T)`, the token that each position is to predict, at the place of that token; None: the text itself.

    Returns:
        Inputs `a (n, T, I)` and gradients of the summed loss at the outputs, `g (n, T, P)`, of `LAYER`, and the
        gradients that autograd has for its weight `(P, I)` and its bias `(P,)`, summed over everything.
    """
    found = []
    for start in range(0, len(token_id), _BATCH):
        rows = slice(start, start + _BATCH)
        found.append(_captured(model, token_id[rows], is_text[rows], (token_id if label is None else label)[rows]))
    a, g, weight, bias = zip(*found, strict=True)
    return np.concatenate(a), np.concatenate(g), np.sum(weight, 0), np.sum(bias, 0)


def _captured(model: nn.Module, token_id: np.ndarray, is_text: np.ndarray, label: np.ndarray) -> Any:
    layer, seen = model.get_submodule(LAYER), {}
    hook = layer.register_forward_hook(lambda _m, given, out: seen.update(a=given[0], out=out))
    ids, text = torch.as_tensor(token_id).long(), torch.as_tensor(is_text)
    with torch.enable_grad():
        logits = model(ids.masked_fill(~text, 0), attention_mask=text.long(), use_cache=False).logits
        wanted = torch.as_tensor(label).long()
        loss = F.cross_entropy(logits[:, :-1][text[:, 1:]], wanted[:, 1:][text[:, 1:]], reduction="sum")
        g, weight, bias = torch.autograd.grad(loss, [seen["out"], layer.weight, layer.bias])
    hook.remove()
    # GPT-2's Conv1D keeps its weight as (inputs, outputs).
    return tuple(one.detach().numpy() for one in (seen["a"], g, weight.T, bias))


def with_ones(a: np.ndarray, is_text: np.ndarray) -> np.ndarray:
    """Activations with the 1 of the bias; zeros at padding, in every column."""
    return np.where(is_text[..., None], np.concatenate([a, np.ones((*a.shape[:-1], 1), a.dtype)], -1), a.dtype.type(0))


@torch.no_grad()
def probabilities(model: nn.Module, token_id: np.ndarray, is_text: np.ndarray) -> np.ndarray:
    """What the model says at each position about the token after it, `(n, T, vocabulary)`."""
    ids, text = torch.as_tensor(token_id).long(), torch.as_tensor(is_text)
    logits = model(ids.masked_fill(~text, 0), attention_mask=text.long(), use_cache=False).logits
    return logits.double().softmax(-1).numpy()


def sampled(p: np.ndarray, token_id: np.ndarray, seed: int) -> np.ndarray:
    """Labels drawn from the model, `(n, T)`: that of position t stands at t + 1. The inputs stay as they are."""
    label = token_id.copy()
    label[:, 1:] = _draw(p[:, :-1], np.random.default_rng(seed))
    return label


def _draw(p: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    cumulated = p.cumsum(-1)
    drawn = (cumulated < rng.random((*p.shape[:-1], 1)) * cumulated[..., -1:]).sum(-1)
    return np.asarray(np.minimum(drawn, p.shape[-1] - 1))


def last_word(model: nn.Module, tokenizer: Any, text: str, other: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Two texts that differ in their last word: how much a and g differ at each token, relative to the largest."""
    ids = [tokenizer(one)["input_ids"] for one in (text, other)]
    if len(ids[0]) != len(ids[1]):
        raise ValueError(f"{len(ids[0])} and {len(ids[1])} tokens; the two texts need equally many")
    first, second = (captured(model, np.array([one]), np.ones((1, len(one)), bool))[:2] for one in ids)
    changed = []
    for x, y in zip(first, second, strict=True):
        largest = max(np.linalg.norm(z[0], axis=-1).max() for z in (x, y))
        changed.append(np.linalg.norm(x[0] - y[0], axis=-1) / largest)
    return numbered(tokenizer, ids[0]), *changed


def numbered(tokenizer: Any, token_id: Any, first: int = 1) -> list[str]:
    """The tokens of a text with their places, so that a word that comes twice has two names."""
    return [f"{place} {tokenizer.decode([int(i)]).strip()}" for place, i in enumerate(token_id, first)]


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """Relative distance of two sets of eigenvalues, whatever their order."""
    first, second = np.sort(one.ravel()), np.sort(other.ravel())
    return float(np.linalg.norm(first - second) / np.linalg.norm(second))


def copies(tokens: int, n: int = 4000, *, are_equal: bool, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Made-up sequences: one token many times over, or as many tokens that know nothing of each other."""
    rng = np.random.default_rng(seed)
    shape = (n, 1 if are_equal else tokens)
    a, g = rng.normal(size=(*shape, 3)), rng.normal(size=(*shape, 2))
    return tuple(np.repeat(one, tokens // shape[1], axis=1) for one in (a, g))


@lru_cache(maxsize=1)
def _last_block() -> tuple[Tensor, Tensor, Tensor, np.ndarray, np.ndarray]:
    """For the last MLP matrix, whose output at a token changes only what is said there: all that S depends on.

    Returns:
        Logits `(n, V)`, the output table `(V, d)`, the Jacobian of the last LayerNorm `(n, d, d)`, the data's labels
        `(n,)` and the sequence of each of the n tokens.
    """
    corpus, model, _ = facts()
    part = corpus.isel(train=slice(_SEQUENCES))
    ids, text = part["token_id"].to_numpy(), part["is_text"].to_numpy()
    seen: dict[str, Tensor] = {}
    norm = model.transformer.ln_f
    hook = norm.register_forward_hook(lambda _m, given, _o: seen.update(h=given[0].detach()))
    with torch.no_grad():
        logits = model(torch.as_tensor(ids).long(), use_cache=False).logits
    hook.remove()
    where = torch.as_tensor(text[:, 1:])
    h_nd = seen["h"][:, :-1][where]
    centred = h_nd - h_nd.mean(-1, keepdim=True)
    scale = (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt()
    unit = centred / scale
    d = h_nd.shape[-1]
    jacobian = (torch.eye(d) - 1 / d - unit[:, :, None] * unit[:, None, :] / d) / scale[:, :, None]
    jacobian = norm.weight.detach()[None, :, None] * jacobian
    sequence = np.broadcast_to(np.arange(len(ids))[:, None], text[:, 1:].shape)[text[:, 1:]]
    return logits[:, :-1][where], model.lm_head.weight.detach(), jacobian, ids[:, 1:][text[:, 1:]], sequence


@lru_cache(maxsize=64)
def label_errors(temperature: float, sequences: int) -> tuple[np.ndarray, np.ndarray, float, float]:
    """How far S from drawn labels, and S from the data's labels, are from S with every label enumerated.

    Args:
        temperature: divides the logits; 1 is the model as it is.
        sequences: how many are averaged over.

    Returns:
        Draws for each token (1, 2, 4, ...), relative error with each, that of the data's labels, and the trace of S
        with the data's labels over the true one.
    """
    logits, table, jacobian, label, sequence = _last_block()
    chosen = torch.as_tensor(sequence < sequences)
    p = (logits[chosen] / temperature).softmax(-1)
    jacobian = jacobian[chosen]
    mean = p @ table

    def s_of(labels: Tensor) -> Tensor:
        """S of one label a token, `(d, d)`."""
        g = torch.einsum("nd,nde->ne", mean - table[labels], jacobian)
        return g.T @ g / len(g)

    true = torch.zeros_like(jacobian[0])
    for q, centre, turn in zip(p, mean, jacobian, strict=True):
        rows = table @ turn
        true += ((rows * q[:, None]).T @ rows - torch.outer(centre @ turn, centre @ turn)) / len(p)
    rng = np.random.default_rng(0)
    draws, sums, errors = 2 ** np.arange(7), torch.zeros_like(true), []
    for number in range(1, int(draws[-1]) + 1):
        sums += s_of(torch.as_tensor(_draw(p.double().numpy(), rng)))
        if number in draws:
            errors.append(float((sums / number - true).norm() / true.norm()))
    data = s_of(torch.as_tensor(label)[chosen].long())
    return draws, np.array(errors), float((data - true).norm() / true.norm()), float(data.trace() / true.trace())


def picture(_x: np.ndarray, _y: np.ndarray, temperature: float, sequences: float) -> dict[str, Any]:
    """Errors of S by the number of labels drawn for each token: what the playground draws."""
    draws, errors, data, ratio = label_errors(round(temperature, 2), round(sequences))
    across = np.log2(draws)
    lines = {
        "labels drawn from the model": (across, np.log10(errors)),
        "the data's labels": (across, np.full(len(across), np.log10(max(data, 1e-6)))),
    }
    said = f"error with 1 drawn label {errors[0]:.2f}, with {draws[-1]} {errors[-1]:.2f}, with the data's labels {data:.2f}"
    return {"lines": lines, "words": f"{said}; the data's labels make S {ratio:.2f} times as large as it is"}


def _gradient(a: np.ndarray, g: np.ndarray) -> np.ndarray:
    return g.T @ np.concatenate([a, np.ones((len(a), 1))], 1)


def _covariance(a: np.ndarray, is_text: np.ndarray) -> np.ndarray:
    kept = np.concatenate([a[is_text], np.ones((int(is_text.sum()), 1))], 1)
    return kept.T @ kept / len(kept)


def _labels(p: np.ndarray) -> np.ndarray:
    return np.diag(p) - np.outer(p, p)


def _rotated(a: np.ndarray, g: np.ndarray, q_a: np.ndarray, q_s: np.ndarray) -> np.ndarray:
    """Token by token, `(n, T, P, I)`."""
    return np.einsum("ntp,nti->ntpi", g @ q_s, a @ q_a)


def _corrected(a: np.ndarray, g: np.ndarray, q_a: np.ndarray, q_s: np.ndarray) -> np.ndarray:
    summed = np.matmul((g @ q_s).transpose(0, 2, 1), a @ q_a)
    return (summed**2).mean(0)


def _sequences(seed: int, n: int = 5, tokens: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Made-up a (n, T, 3), g (n, T, 2), is_text (n, T); padding holds numbers that mean nothing."""
    rng = np.random.default_rng(seed)
    is_text = np.arange(tokens) < rng.integers(2, tokens + 1, n)[:, None]
    is_text[0] = np.arange(tokens) < 2
    return rng.normal(size=(n, tokens, 3)) + 0.5, rng.normal(size=(n, tokens, 2)), is_text


def check_gradient(answer: Any) -> Callable[..., Any]:
    """The gradient of one sequence, with the bias as the last column."""
    cases = [(a[0], g[0]) for a, g, _ in (_sequences(1), _sequences(2))]
    return check(
        "a sequence's gradient", answer, _gradient, cases,
        mistakes={
            "The column of the bias is missing: append a 1 to every a.": lambda a, g: g.T @ a,
            "Turned round: outputs are rows, inputs are columns.": lambda a, g: _gradient(a, g).T,
            "The loss is a sum over tokens, so the gradient is a sum too: do not divide by T.": lambda a, g: (
                _gradient(a, g) / len(a)
            ),
            "You sum a and g first. The outer product belongs to one token: multiply, then sum.": lambda a, g: (
                np.outer(g.sum(0), np.append(a.sum(0), len(a)))
            ),
        },
        right="One matrix product. The bias column is the sum of the g alone.",
    )  # fmt: skip


def check_covariance(answer: Any) -> Callable[..., Any]:
    """A over text only."""

    def with_column(a: np.ndarray, is_text: np.ndarray) -> np.ndarray:
        zeroed = np.concatenate([np.where(is_text[..., None], a, 0), np.ones((*a.shape[:2], 1))], -1)
        return np.einsum("nti,ntj->ij", zeroed, zeroed) / is_text.sum()

    return check(
        "A without the padding", answer, _covariance, [(a, m) for a, _, m in (_sequences(3), _sequences(4))],
        mistakes={
            "Padding counts in the column of ones: its corner is above 1. Mask the ones as well.": with_column,
            "Divide by the number of text tokens; you count padding too.": lambda a, m: _covariance(a, m) * m.mean(),
            "Nothing is masked: padding counts like text.": lambda a, m: _covariance(a, np.ones_like(m)),
            "You average within each sequence first. Every token counts once, whatever its sequence's length.": lambda a, m: (
                np.mean([_covariance(a[i : i + 1], m[i : i + 1]) for i in range(len(a))], axis=0)
            ),
            "The column of the bias is missing.": lambda a, m: a[m].T @ a[m] / m.sum(),
        },
        right="Its corner is exactly 1: a test to keep.",
    )  # fmt: skip


def check_labels(answer: Any) -> Callable[..., Any]:
    """The mean over the model's own labels."""
    rng = np.random.default_rng(5)
    cases = [(rng.dirichlet(np.ones(n)),) for n in (3, 6)]
    return check(
        "the mean over the model's own labels", answer, _labels, cases,
        mistakes={
            "That takes the likeliest label each time. Draw with probability p: every label counts by its p.": lambda p: (
                np.outer(p - np.eye(len(p))[p.argmax()], p - np.eye(len(p))[p.argmax()])
            ),
            "Each label counts by its probability; you weigh them all alike.": lambda p: (
                (p - np.eye(len(p))).T @ (p - np.eye(len(p))) / len(p)
            ),
            "The weights p sum to 1 already: do not divide by their number.": lambda p: _labels(p) / len(p),
            "That is the outer product of the mean gradient, which is 0. Take the product first, then the mean.": lambda p: (
                np.zeros((len(p), len(p)))
            ),
            "The mean gradient is 0, not p: the part - p p^T is missing.": lambda p: np.diag(p),
        },
        right="It is diag(p) - p p^T: the Hessian of the cross-entropy itself, and no label is left in it.",
    )  # fmt: skip


def check_corrected(answer: Any) -> Callable[..., Any]:
    """Lambda of sequences."""
    cases = []
    for seed in (6, 7):
        a, g, is_text = _sequences(seed)
        a, g = with_ones(a, is_text), np.where(is_text[..., None], g, 0)
        cases.append((
            a,
            g,
            np.linalg.eigh(np.einsum("nti,ntj->ij", a, a))[1],
            np.linalg.eigh(np.einsum("ntp,ntq->pq", g, g))[1],
        ))
    return check(
        "Lambda of sequences", answer, _corrected, cases,
        mistakes={
            "You square each token and then sum. A sequence has one gradient: sum over its tokens, then square.": (
                lambda a, g, qa, qs: (_rotated(a, g, qa, qs) ** 2).sum(1).mean(0)
            ),
            "You square the mean over all sequences. Square each sequence's own gradient, then take the mean.": (
                lambda a, g, qa, qs: _rotated(a, g, qa, qs).sum(1).mean(0) ** 2
            ),
            "Average over sequences, do not sum.": lambda a, g, qa, qs: _corrected(a, g, qa, qs) * len(a),
            "Sum over tokens, do not average: long sequences have large gradients.": lambda a, g, qa, qs: (
                _corrected(a, g, qa, qs) / a.shape[1] ** 2
            ),
            "Rotate with Q, not with its transpose: g_t is a row here, so g @ Q_S.": lambda a, g, qa, qs: (
                _corrected(a, g, qa.T, qs.T)
            ),
        },
        right="The tokens of a sequence pull together or against each other, and the square sees it.",
    )  # fmt: skip


def ask_later() -> None:
    """What a later token changes."""
    predict(
        "You change the last word of a text. What changes at the first words?",
        ["a_t and g_t", "only a_t", "only g_t", "neither"],
        2,
        "A token reads only what stands before it, so a_t stays. But its output helps to predict every later token: g_t is "
        "the gradient of all losses from there on, and one of them is another now.",
    )


def ask_padding() -> None:
    """The corner of A."""
    predict(
        "A batch holds two texts of 12 and 6 tokens, padded to 12. Someone sets activations to 0 at padding, appends the 1 of "
        "the bias everywhere, sums the outer products and divides by the 18 tokens of text. The lower right corner of A is ...",
        ["3/4", "1", "4/3"],
        2,
        "24 ones are summed and divided by 18. The mean of 1 times 1 must be 1. The rest of A looks fine, and the bias is wrong.",
    )


def ask_label() -> None:
    """Certain, and wrong."""
    predict(
        "The model is all but certain of its next word. The text has another one. With which labels is |p - e_y|^2 large?",
        ["with the model's own", "with the text's", "with both", "with neither"],
        1,
        "Drawn from the model, y is almost always the word it expects, and p - e_y is almost 0. The text's word gives nearly 2. "
        "Curvature asks how the prediction bends, not whether it is right.",
    )


def ask_tokens() -> None:
    """Identical and independent tokens."""
    predict(
        "A sequence has T tokens. How does the mean square of its summed gradient grow, for T equal tokens and for T that are "
        "independent with mean 0?",
        ["T and T", "T^2 and T", "T^2 and T^2", "T and T^2"],
        1,
        "Equal ones add up: (T x)^2. Independent ones cancel in part: the variances add, T x^2. Where text lies, you will see.",
    )
