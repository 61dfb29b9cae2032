# %% [markdown]
# # 4. K-FAC by hand
#
# *Which training text made my model say this?* The answer needs a product with an inverse curvature matrix. For one layer of a
# large model, that matrix is far too large to write down. This lesson makes it small enough to see, then replaces it as
# the paper does: by two small matrices, and by a correction.
#
# **After this lesson you can**
# - write the exact curvature of one layer as a mean of outer products;
# - explain K-FAC, and when it is exact;
# - compute EK-FAC's corrected eigenvalues, and say why they can only help;
# - multiply with the inverse without ever forming it.
#
# About 45 minutes. Lesson 3 helps.

# %%
import sys

sys.path[:0] = [".", ".."]

import altair as alt
import numpy as np
import pandas as pd
from IPython.display import display
from lessons import lesson_4 as lesson

from inflab.widgets import Playground

alt.renderers.enable("svg")
a, g, w = lesson.enumerated()
print(f"{len(a) // 3} examples, each with its 3 possible labels: a {a.shape}, g {g.shape}, weights sum to {w.sum():.2f}")

# %%
lesson.ask_size()

# %% [markdown]
# ## One layer, exactly
#
# A layer multiplies an activation $a$ (its last entry is the 1 of the bias) by a matrix $W$. With $g$ the gradient of the loss at
# the layer's output, the gradient in $W$ is $g\,a^\top$: outputs are rows, inputs are columns. Labels come from the model itself
# (lesson 5 says why), here not sampled but enumerated: each example has one row for each label, with its probability as weight.
#
# $$ G = \sum_n w_n\, \mathrm{vec}(g_n a_n^\top)\, \mathrm{vec}(g_n a_n^\top)^\top $$
#
# **Exercise 1.** Compute it. `vec` flattens row by row, as numpy does.

# %%
def exact_curvature(a, g, w):
    """a (n, I), g (n, P), w (n,): G (P I, P I)."""
    # solution
    flat = np.einsum("np,ni->npi", g, a).reshape(len(a), -1)
    return (flat * w[:, None]).T @ flat
    # stub
    #: raise NotImplementedError("the weighted mean of the outer products")
    # end


exact_curvature = lesson.check_exact(exact_curvature)
G = exact_curvature(a, g, w)


# %%
def heat(matrices, title):
    """Matrices side by side, on one scale; blue is positive, orange negative."""
    most = max(np.abs(matrix).max() for matrix in matrices.values())
    rows = [
        {"row": i, "column": j, "value": float(value / most), "of": name}
        for name, matrix in matrices.items()
        for (i, j), value in np.ndenumerate(matrix)
    ]
    return (
        alt.Chart(alt.Data(values=rows)).mark_rect().encode(
            x=alt.X("column:O", axis=None), y=alt.Y("row:O", axis=None),
            color=alt.Color(
                "value:Q", title="of the largest",
                scale=alt.Scale(domain=[-1, 0, 1], range=["#d55e00", "#f7f7f7", "#0072b2"]),
            ),
        ).properties(width=170, height=170).facet(column=alt.Column("of:N", title=None, sort=list(matrices))).properties(title=title)
    )


heat({"exact G": G}, "12 parameters: 3 outputs, in each 4 inputs")

# %% [markdown]
# You can see a pattern: blocks of 4 x 4 that look alike, scaled by something. That pattern is K-FAC.
#
# ## K-FAC: two small matrices
#
# $$ A = \sum_n w_n\, a_n a_n^\top, \qquad S = \sum_n w_n\, g_n g_n^\top, \qquad G \approx S \otimes A . $$
#
# **Exercise 2.** Compute both.

# %%
def covariances(a, g, w):
    """A (I, I) and S (P, P)."""
    # solution
    return (a * w[:, None]).T @ a, (g * w[:, None]).T @ g
    # stub
    #: raise NotImplementedError("return A, S")
    # end


covariances = lesson.check_covariances(covariances)
A, S = covariances(a, g, w)
kfac = np.kron(S, A)
print(f"relative error of K-FAC: {lesson.error(kfac, G):.3f}; it keeps {A.size + S.size} numbers instead of {G.size}")

# %%
lesson.ask_independent()

# %% [markdown]
# ## EK-FAC: the same directions, the right sizes
#
# K-FAC's eigenvectors are $Q_S \otimes Q_A$, its eigenvalues all products of theirs. Keep the directions, but measure the size
# along each: rotate every gradient, square it, take the mean.
#
# $$ \Lambda_{pi} = \sum_n w_n \big( (Q_S^\top g_n)_p\, (Q_A^\top a_n)_i \big)^2 $$
#
# **Exercise 3.** Compute it. With one token for each example you never need the matrix $g a^\top$.

# %%
Q_A, Q_S = np.linalg.eigh(A)[1], np.linalg.eigh(S)[1]


def corrected(a, g, w, q_a, q_s):
    """Lambda (P, I)."""
    # solution
    return np.einsum("n,np,ni->pi", w, (g @ q_s) ** 2, (a @ q_a) ** 2)
    # stub
    #: raise NotImplementedError("the weighted mean of the squares of the rotated gradient")
    # end


corrected = lesson.check_corrected(corrected)
Lambda = corrected(a, g, w, Q_A, Q_S)

# %%
lesson.ask_eigenbasis()

# %%
basis = np.kron(Q_S, Q_A)
ekfac = basis @ np.diag(Lambda.ravel()) @ basis.T
display(heat({"exact G": G, "K-FAC": kfac, "EK-FAC": ekfac}, "The curvature and its two approximations"))
display(heat({"K-FAC": kfac - G, "EK-FAC": ekfac - G}, "What each gets wrong"))
pd.DataFrame(
    {"relative error": [lesson.error(kfac, G), lesson.error(ekfac, G)], "sum of eigenvalues": [np.trace(kfac), np.trace(ekfac)]},
    index=["K-FAC", "EK-FAC"],
).assign(**{"of the exact G": np.trace(G)}).round(4)

# %% [markdown]
# Look at the sums: EK-FAC's is exactly that of $G$, for it only turns the axes.
#
# Now make the model sharper: more certain where the input is large, so that gradients depend on activations more and more.

# %%
Playground(
    [], [], lesson.picture, move="none", sliders={"sharpness": (0, 2, 0.5)}, x_label="direction, by its curvature",
    y_label="eigenvalue, power of ten", x_domain=(0.5, 12.5), y_domain=(-5, 1),
    label="Eigenvalues of the exact curvature, of K-FAC and of EK-FAC",
)

# %% [markdown]
# At sharpness 0 the lines lie on each other (four eigenvalues are 0: the gradients of three classes sum to 0). When it grows, whose
# line leaves the blue one first?
#
# ## The product with the inverse
#
# All this was for one purpose: $(G + \lambda I)^{-1}$ times a query's gradient $V$, a matrix of $P \times I$. In the eigenbasis,
# the inverse is a division (equation 21 of the paper):
#
# $$ (G + \lambda I)^{-1} V \approx Q_S \left[ \frac{Q_S^\top V Q_A}{\Lambda + \lambda} \right] Q_A^\top $$
#
# **Exercise 4.** Write it.

# %%
def solve(v, q_a, q_s, eigenvalues, damping):
    """v (P, I): the damped inverse times v, (P, I)."""
    # solution
    return q_s @ ((q_s.T @ v @ q_a) / (eigenvalues + damping)) @ q_a.T
    # stub
    #: raise NotImplementedError("rotate, divide, rotate back")
    # end


solve = lesson.check_solve(solve)

# %%
V = np.random.default_rng(0).normal(size=(3, 4))
damping = 0.1 * Lambda.mean()
dense = np.linalg.solve(G + damping * np.eye(12), V.ravel()).reshape(3, 4)
forms = {
    "EK-FAC": solve(V, Q_A, Q_S, Lambda, damping),
    "K-FAC": solve(V, Q_A, Q_S, np.outer(np.linalg.eigvalsh(S), np.linalg.eigvalsh(A)), damping),
    "no curvature (V itself)": V,
}
pd.Series({k: np.corrcoef(v.ravel(), dense.ravel())[0, 1] for k, v in forms.items()}).round(3).to_frame("correlation with the exact solve")

# %% [markdown]
# ## What to take along
#
# - A layer's curvature is a mean of outer products of $g a^\top$; K-FAC pretends that $g$ and $a$ do not know of each other.
# - EK-FAC keeps K-FAC's axes and measures the size along each: never worse, and the trace is right.
# - The inverse costs a few small products for each query. That is what makes the method work for large models.
#
# **Think on.** In a transformer, one sequence has many tokens, and its gradient is a *sum* over tokens of $g_t a_t^\top$. Where in
# exercise 3 would that sum have to go: before the square or after?
#
# **Further reading.** J. Martens and R. Grosse (2015), *Optimizing neural networks with Kronecker-factored approximate curvature*,
# ICML. T. George, C. Laurent, X. Bouthillier, N. Ballas and P. Vincent (2018), *Fast approximate natural gradient descent in a
# Kronecker-factored eigenbasis*, NeurIPS. R. Grosse et al. (2023), arXiv 2308.03296, section 2.2.

# %% [markdown] tags=["instructor"]
# **For teachers.** Before the square. The curvature is $E[g g^\top]$ over *sequences*, and a sequence has one gradient,
# $G = \sum_t g_t a_t^\top$: rotate it (or its tokens: both are linear), add over tokens, then square. Squares added
# token by token leave out what tokens of one sequence have in common, and make $\Lambda$ too small where they agree,
# too large where they cancel.
