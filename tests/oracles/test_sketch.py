"""Gradients in a few bits against definitions: exhaustive allocation, numerical integrals, products written out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from scipy.stats import norm, spearmanr

from inflab import EKFAC, sketch
from inflab.run.index import coordinates
from tests import tiny

BITS = st.sampled_from(sketch.BITS)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).float()


def error_of(bits: int, step: float) -> float:
    """Mean square error of a uniform quantiser of a standard normal variable, cell by cell."""
    half = 2 ** (bits - 1)
    edges = [-np.inf, *(step * np.arange(1 - half, half)), np.inf]
    middles = step * (np.arange(2 * half) - half + 0.5)
    return sum(
        quad(lambda x, m=middle: (x - m) ** 2 * norm.pdf(x), low, high)[0]
        for middle, low, high in zip(middles, edges, edges[1:], strict=False)
    )


# --- which coordinates, in how many bits --------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5), st.integers(0, 45))
def test_no_other_allocation_of_the_bits_that_were_spent_expects_a_smaller_error(
    energies: list[float], budget: int
) -> None:
    energy_k = np.array(energies)
    bits_k = sketch.allocate(energy_k, budget)
    spent = int(bits_k.sum())
    assert spent <= budget
    others = np.array(list(itertools.product((0, *sketch.BITS), repeat=len(energies))))
    others = others[others.sum(1) <= spent]
    lost = np.array([sketch.DISTORTION.get(bits, np.nan) for bits in range(9)])
    best = (lost[others] * energy_k**2).sum(1).min()
    total = np.square(energy_k).sum()
    assert sketch.expected_error(energy_k, bits_k) * total <= best + 1e-12


@given(st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]), min_size=1, max_size=30), st.integers(0, 250))
def test_bits_grow_with_the_budget_and_the_energy(energies: list[float], budget: int) -> None:
    energy_k = np.array(energies)
    bits_k, more_k = sketch.allocate(energy_k, budget), sketch.allocate(energy_k, budget + 1)
    assert (more_k >= bits_k).all()
    order = np.argsort(-energy_k, kind="stable")
    assert (np.diff(bits_k[order].astype(int)) <= 0).all()
    assert not bits_k[energy_k == 0].any()


def test_nothing_is_spent_on_energies_that_are_all_zero() -> None:
    assert not sketch.allocate(np.zeros(2), 13).any()


def test_a_budget_for_all_is_used_and_equal_energies_are_served_in_order() -> None:
    assert sketch.allocate(np.full(5, 0.3), 40).tolist() == [8] * 5
    assert sketch.allocate(np.full(5, 0.3), 10**6).tolist() == [8] * 5
    assert sketch.allocate(np.full(5, 0.3), 3).tolist() == [1, 1, 1, 0, 0]
    assert sketch.allocate(np.full(5, 0.3), 7).tolist() == [2, 2, 1, 1, 1]


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_steps_are_those_of_the_best_uniform_quantiser(bits: int) -> None:
    best = minimize_scalar(lambda step: error_of(bits, step), bounds=(0.1, 2), method="bounded")
    assert sketch._STEP[bits] == pytest.approx(best.x, rel=1e-3)
    assert sketch.DISTORTION[bits] == pytest.approx(best.fun, rel=1e-4)


def test_the_expected_error_is_that_of_scores_of_normal_gradients() -> None:
    k = 3000
    energy_k = np.sort(np.random.default_rng(1).beta(0.5, 1, k))[::-1].copy()
    root_k = torch.from_numpy(energy_k).sqrt().float()
    train_nk, query_qk = normal(300, k, seed=2) * root_k, normal(40, k, seed=3) * root_k
    exact_nq = train_nk @ query_qk.T
    for budget in (k // 2, k, 2 * k, 4 * k):
        bits_k = sketch.allocate(energy_k, budget)
        found_nq = torch.zeros_like(exact_nq)
        for bits in np.unique(bits_k[bits_k > 0]).tolist():
            place = torch.from_numpy(np.flatnonzero(bits_k == bits))
            code, step = sketch.encode(train_nk[:, place], bits)
            found_nq += (sketch.Queries.of(query_qk[:, place], bits).multiply(code) * step[:, None]).float()
        measured = float((found_nq - exact_nq).square().mean() / exact_nq.square().mean())
        assert measured == pytest.approx(sketch.expected_error(energy_k, bits_k), rel=0.2)


# --- codes and products -------------------------------------------------------------------------------------------


@given(BITS, st.integers(1, 4), st.integers(1, 40), st.integers(0, 2**31))
def test_a_code_is_at_most_half_a_step_off_inside_its_range(bits: int, n: int, k: int, seed: int) -> None:
    value_nk = normal(n, k, seed=seed)
    code_nk, step_n = sketch.encode(value_nk, bits)
    assert code_nk.shape == (n, sketch.row_bytes(k, bits))
    found_nk = sketch.decode(code_nk, bits, k) * step_n[:, None]
    end_n = step_n * 2**bits / 2
    is_inside = value_nk.abs() <= end_n[:, None]
    if bits == 8:
        assert is_inside.all()
    error_nk = (found_nk - value_nk).abs()
    assert (error_nk <= step_n[:, None] * (0.5 + 1e-4))[is_inside].all()
    outside = found_nk.abs() - (end_n - step_n / 2)[:, None]
    assert (outside.abs() <= 1e-4 * end_n[:, None])[~is_inside].all()


@given(BITS)
def test_a_row_of_zeros_stays_one(bits: int) -> None:
    code, step = sketch.encode(torch.zeros(2, 9), bits)
    assert not step.any()
    assert torch.isfinite(sketch.decode(code, bits, 9)).all()


@given(BITS, st.integers(1, 4), st.integers(1, 3), st.integers(1, 40), st.integers(0, 2**31), st.booleans())
def test_products_are_those_of_the_decoded_numbers(
    bits: int, n: int, q: int, k: int, seed: int, without_integers: bool
) -> None:
    code_nk, _ = sketch.encode(normal(n, k, seed=seed), bits)
    query_qk = normal(q, k, seed=seed + 1)
    whole_qk = (4000 * query_qk).round().clamp(-16256, 16256)
    whole_qk[:, 0] = -16256  # the largest that two bytes hold: these queries are not rounded
    decoded_nk = sketch.decode(code_nk, bits, k).double()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sketch, "_COLUMNS", 3)
        patch.setattr(sketch, "_CACHE", 7)
        if without_integers:
            patch.delattr(torch, "_int_mm", raising=False)
        found_nq, exact_nq = (sketch.Queries.of(value, bits).multiply(code_nk) for value in (query_qk, whole_qk))
    assert torch.equal(exact_nq, decoded_nk @ whole_qk.double().T)
    size_q = query_qk.abs().amax(1).double()
    bound_nq = decoded_nk.abs().sum(1)[:, None] * size_q / 16256 + 1e-9
    assert ((found_nq - decoded_nk @ query_qk.double().T).abs() <= bound_nq).all()


def test_many_products_of_the_largest_numbers_do_not_overflow() -> None:
    k = 3 * 2**16
    code_nk = torch.full((1, k), 255, dtype=torch.uint8)
    found = sketch.Queries.of(torch.ones(1, k), 8).multiply(code_nk)
    assert float(found) == pytest.approx(127.5 * k, rel=1e-6)


@given(st.integers(3, 60), st.integers(0, 2**31))
def test_fidelity_is_the_median_over_queries_of_what_scipy_finds(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    exact_ns = rng.standard_normal((n, 3))
    sketched_ns = exact_ns + rng.standard_normal((n, 3))
    own_s = np.array([0, n - 1, -1])
    median, overlap = sketch.fidelity(exact_ns, sketched_ns, own_s)
    correlations, overlaps = [], []
    for s, own in enumerate(own_s):
        rows = [row for row in range(n) if row != own]
        k = max(1, min(10, len(rows) // 2))
        correlations.append(spearmanr(exact_ns[rows, s], sketched_ns[rows, s]).statistic)
        best = (set(sorted(rows, key=lambda row: -v[row])[:k]) for v in (exact_ns[:, s], sketched_ns[:, s]))
        overlaps.append(len(set.intersection(*best)) / k)
    assert median == pytest.approx(np.median(correlations), abs=1e-9)
    assert overlap == pytest.approx(np.median(overlaps))


def test_scores_that_do_not_differ_have_no_order_to_keep() -> None:
    assert sketch.fidelity(np.zeros((5, 1)), np.ones((5, 1)), np.array([0])) == (0.0, 1.0)


# --- influence is a dot product of whitened gradients -------------------------------------------------------------


@pytest.mark.parametrize("problem", [tiny.language_problem, tiny.table_problem], ids=["language", "table"])
def test_all_coordinates_in_full_give_the_exact_scores(problem: object) -> None:
    made = problem()  # type: ignore[operator]
    made.model.double()
    fitted = tiny.fit(made, EKFAC(layers="*"))
    queries = tiny.queries() if "token_id" in made.corpus else tiny.table(3, dim="query", seed=1)
    run, curvatures = fitted._prepare(None, None, False)
    whole = [
        coordinates(run, curvatures, corpus, None, quantity=quantity, positions=np.arange(corpus.sizes[dim]))
        for corpus, quantity, dim in ((queries, "measurement", "query"), (made.corpus, "loss", "train"))
    ]
    found_qn = -sum(whole[0][name].double() @ whole[1][name].double().T for name in whole[0])
    tiny.agree(found_qn, fitted.score(queries, progress=False)["influence"], 1e-6)
