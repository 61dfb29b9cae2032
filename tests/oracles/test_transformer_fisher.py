"""Oracle 9: of a tiny transformer, Lambda is the diagonal of autograd's Fisher in the Kronecker eigenbasis.

`G = mean over texts of sum over predicted positions of J^T (diag p - p p^T) J`, the inputs being the true tokens.
Exactly, with every label at every position written out; and by Monte Carlo with the labels that `CausalLM` draws.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from inflab import EKFAC, CausalLM, Diagonal, Problem

from .builders import EnumeratedLM, enumerate_tokens, text_corpus, tiny_lm, token_rows
from .references import assert_close, dense_basis, found_gradients, gauss_newton, softmax, tensor

ROWS = token_rows((5, 3), seed=2)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox"])
def test_with_every_label_written_out(family: str, side: str) -> None:
    """Every layer, embeddings and head included."""
    problem = Problem(tiny_lm(family, "sdpa"), EnumeratedLM(), enumerate_tokens(ROWS, side))
    factors = EKFAC(layers="*").fit(problem, progress=False).factors
    for name, g in gauss_newton(problem, list(factors.children), softmax, text_corpus(ROWS)).items():
        q = dense_basis(factors[name])
        assert_close(tensor(factors[name], "eigenvalues").flatten(), (q.T @ g @ q).diagonal())


@pytest.mark.parametrize("side", ["right", "left"])
def test_with_drawn_labels(side: str) -> None:
    """2,000 draws of each text: every diagonal entry within 5 standard errors, the trace within 4, itself below 3 %.

    The standard basis is fixed, so the draws are independent of it; the error is that of a stratified mean, the two
    texts being the strata.
    """
    draws = 2000
    problem = Problem(tiny_lm("gpt2", "sdpa"), CausalLM(), text_corpus(ROWS * draws, side=side))
    layers = ["*.mlp.*", "*.attn.c_attn", "*.wpe"]
    factors = Diagonal(layers=layers).fit(problem, progress=False).factors
    gradients = found_gradients(problem, layers, "pseudo_loss")
    for name, g in gauss_newton(problem, list(factors.children), softmax, text_corpus(ROWS)).items():
        square_btp = gradients[name].flatten(1).square().reshape(draws, len(ROWS), -1)
        found_p, exact_p = tensor(factors[name], "eigenvalues").flatten(), g.diagonal()
        error_p = (square_btp.var(0).sum(0) / draws).sqrt() / len(ROWS)
        used = exact_p > 1e-12 * exact_p.max()  # positions and tokens that do not occur have neither
        assert ((found_p - exact_p)[used].abs() <= 5 * error_p[used]).all()
        assert float(found_p[~used].abs().sum()) <= 1e-9 * float(found_p.sum())
        trace_error = float((square_btp.sum(-1).var(0).sum() / draws).sqrt()) / len(ROWS)
        assert trace_error < 0.03 * float(g.trace())
        assert abs(float(found_p.sum() - g.trace())) <= 4 * trace_error


def test_empirical_fisher_uses_the_true_labels() -> None:
    """The mean of squared gradients of the loss itself: another matrix, by a wide margin."""
    problem = Problem(tiny_lm("gpt2", "sdpa"), CausalLM(), text_corpus(ROWS))
    layer = "transformer.h.0.mlp.c_fc"
    found = Diagonal(layers=layer, fisher="empirical").fit(problem, progress=False).factors[layer]["eigenvalues"]
    square_oi = found_gradients(problem, layer)[layer].square().mean(0)
    assert_close(found, square_oi)
    exact = gauss_newton(problem, [layer], softmax)[layer].diagonal()
    assert not np.allclose(torch.as_tensor(found.to_numpy()).flatten(), exact, rtol=0.1)
