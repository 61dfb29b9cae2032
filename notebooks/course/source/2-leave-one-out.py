# %% [markdown]
# # 2. Leave one out
#
# *Which training text made my model say this?* One honest answer: the text without which it would not. So leave it out and
# train again. For a line that is easy; for a language model it costs months. This lesson replaces training again by a
# derivative, and looks closely at what is lost.
#
# **After this lesson you can**
# - say how a minimum moves when a term is added to its loss (the implicit function theorem);
# - compute the influence of every example on one prediction with a single solve;
# - explain the gap between influence and leaving out, and close it with $1 - h$;
# - show where the derivative misleads: groups.
#
# About 45 minutes. Lesson 1 helps.

# %%
import sys

sys.path[:0] = [".", ".."]

import altair as alt
import numpy as np
import pandas as pd
from lessons import lesson_2 as lesson

from inflab.widgets import Playground

alt.renderers.enable("svg")
MU = lesson.MU

# %% [markdown]
# ## A minimum that moves
#
# A model has learned $\theta = 1$: the minimum of a loss $L$. Now one example gets the extra weight $\epsilon$: the loss is
# $L(\theta) + \epsilon\, \ell(\theta)$.

# %%
lesson.ask_steep()

# %% [markdown]
# Push the slider. The blue curve is the loss with the example's weight; the upright line is where one derivative, taken at
# $\epsilon = 0$, says that the minimum went. How far can you push before it is visibly wrong?

# %%
Playground(
    [], [], lesson.valley, sliders={"weight": (-1, 2, 0)}, move="none", x_label="θ", y_label="loss",
    x_domain=(-2.5, 3), y_domain=(-1.5, 6), label="A loss of one parameter, and its minimum as an example gets more weight",
)

# %% [markdown]
# At the minimum the slope is zero: $L'(\theta) + \epsilon\, \ell'(\theta) = 0$. This holds at *every* $\epsilon$, so its
# derivative in $\epsilon$ is zero as well:
#
# $$ L''(\theta)\, \frac{d\theta}{d\epsilon} + \ell'(\theta) = 0 \quad\text{at } \epsilon = 0. $$
#
# That is the implicit function theorem at work: $\theta$ is not given by a formula, and still its derivative is.
#
# **Exercise 1.** Solve for $d\theta / d\epsilon$.

# %%
def moves(loss_second, example_first):
    """d theta / d weight, from L'' and the example's slope."""
    # solution
    return -example_first / loss_second
    # stub
    #: raise NotImplementedError("solve the equation above")
    # end


moves = lesson.check_ift(moves)

# %% [markdown]
# ## Many parameters, many examples
#
# Ridge regression: $L(\theta) = \frac{1}{2}\sum_i (y_i - x_i^\top\theta)^2 + \frac{\mu}{2}|\theta|^2$. The slope becomes a
# gradient, the curvature a matrix: $\nabla \ell_i = -r_i x_i$ and $H = X^\top X + \mu I$.
#
# We ask about one prediction, $f = q^\top \theta$ for a query $q$. Chain rule:
#
# $$ \frac{df}{d\epsilon_i} = -\,q^\top H^{-1} \nabla \ell_i = q^\top H^{-1} x_i\, r_i . $$
#
# **Exercise 2.** Compute it for all examples. Solve once; never form an inverse for each example.

# %%
x, y = lesson.points()
query = np.ones(x.shape[1])


def influence(x, y, query):
    """d prediction / d weight of each example: shape (n,)."""
    residual = y - x @ lesson.ridge(x, y)
    hessian = x.T @ x + MU * np.eye(x.shape[1])
    # solution
    return (query @ np.linalg.solve(hessian, x.T)) * residual
    # stub
    #: raise NotImplementedError("q^T H^-1 x_i r_i for every i")
    # end


influence = lesson.check_ridge(influence)

# %% [markdown]
# Leaving example $i$ out is $\epsilon_i = -1$. Predicted, and measured by fitting again without it:

# %%
measured = np.array([query @ (lesson.without(x, y, i) - lesson.ridge(x, y)) for i in range(len(x))])
predicted = -influence(x, y, query)


def scatter(predicted, measured, title, unit="prediction"):
    frame = pd.DataFrame({"predicted": predicted, "measured": measured})
    edge = 1.1 * float(np.abs(frame.to_numpy()).max())
    diagonal = alt.Chart(pd.DataFrame({"predicted": [-edge, edge], "measured": [-edge, edge]}))
    return alt.layer(
        diagonal.mark_line(strokeDash=[4, 3], color="#767676").encode(x="predicted:Q", y="measured:Q"),
        alt.Chart(frame).mark_circle(size=60, color="#0072b2").encode(
            x=alt.X("predicted:Q", title=f"predicted change of the {unit}"),
            y=alt.Y("measured:Q", title="measured, by fitting again"),
        ),
    ).properties(width=280, height=240, title=title)


scatter(predicted, measured, "Each example left out (dashed: equal)")

# %% [markdown]
# The order is nearly right, the size is not: no point lies on the flatter side. Lesson 1 gave the reason away: a weight of $-1$
# is not small. For a quadratic loss, the whole path can be solved (Sherman and Morrison), and all that is missing is a factor
# of $1/(1 - h_i)$ with $h_i = x_i^\top H^{-1} x_i$.
#
# **Exercise 3.** Give the exact change of the prediction when each example is left out.

# %%
def exact(x, y, query):
    """Prediction without example i, minus prediction with all: shape (n,)."""
    hessian = x.T @ x + MU * np.eye(x.shape[1])
    # solution
    leverage = np.einsum("ni,ni->n", x, np.linalg.solve(hessian, x.T).T)
    return -influence(x, y, query) / (1 - leverage)
    # stub
    #: raise NotImplementedError("from influence(x, y, query) and the leverage")
    # end


exact = lesson.check_exact(exact)

# %%
print(f"largest error of the derivative:       {np.abs(predicted - measured).max():.3f}")
print(f"largest error with the factor 1/(1-h): {np.abs(exact(x, y, query) - measured).max():.1e}")

# %% [markdown]
# ## Not quadratic: logistic regression
#
# For two classes, $p_i = 1/(1 + e^{-x_i^\top\theta})$, $\nabla\ell_i = (p_i - y_i)\,x_i$ and
# $H = \sum_i p_i (1 - p_i)\, x_i x_i^\top + \mu I$. We ask about the query's log-odds, $q^\top\theta$.

# %%
lesson.ask_logistic()

# %% [markdown]
# **Exercise 4.** Write the influence on the log-odds for all examples.

# %%
cx, cy = lesson.classes()
asked = np.ones(cx.shape[1])


def logistic_influence(x, y, query):
    """d log-odds / d weight of each example: shape (n,)."""
    p = 1 / (1 + np.exp(-x @ lesson.logistic(x, y)))
    # solution
    hessian = (x * (p * (1 - p))[:, None]).T @ x + MU * np.eye(x.shape[1])
    return (query @ np.linalg.solve(hessian, x.T)) * (y - p)
    # stub
    #: raise NotImplementedError("the same formula, with this Hessian and gradient")
    # end


logistic_influence = lesson.check_logistic(logistic_influence)

# %%
start = asked @ lesson.logistic(cx, cy)
once = np.array([asked @ lesson.logistic_without(cx, cy, i) - start for i in range(len(cx))])
said = -logistic_influence(cx, cy, asked)
scatter(said, once, "Logistic regression, one left out (dashed: equal)", "log-odds")

# %% [markdown]
# ## Groups
#
# Nobody leaves out one document of a billion. Take the examples that help the query most, and leave the first 1, 2, 3, ...
# out together.

# %%
lesson.ask_group()

# %%
order = np.argsort(said)  # leaving these out lowers the query most
sizes = np.arange(1, 16)
rows = [
    {"left out": int(k), "change": float(value), "which": which}
    for k in sizes
    for which, value in (
        ("predicted: the sum of single influences", said[order[:k]].sum()),
        ("measured: fitted again without them", asked @ lesson.logistic_without(cx, cy, order[:k]) - start),
    )
]
alt.Chart(pd.DataFrame(rows)).mark_line(point=True).encode(
    x=alt.X("left out:Q", title="examples left out together"),
    y=alt.Y("change:Q", title="change of the query's log-odds"),
    color=alt.Color(
        "which:N", title=None, scale=alt.Scale(range=["#d55e00", "#0072b2"]),
        legend=alt.Legend(orient="bottom", columns=1, labelLimit=400),
    ),
    strokeDash=alt.StrokeDash("which:N", title=None),
).properties(width=360, height=220, title="The most helpful examples, left out together")

# %% [markdown]
# ## What to take along
#
# - The optimum's derivative comes from the optimum's own equation: $-H^{-1}\nabla\ell$. No training.
# - Leaving *one* out is more than its derivative says, by $1/(1 - h)$. With $n$ large, $h$ is about (parameters)/n, and small.
# - Leaving *many* out at once is not the sum: the first to go were holding the others' place.
# - Influence ranks well even where its size is off. Lesson 8 measures how well.
#
# **Think on.** For the points of exercise 2, which example has the largest $h$? What would happen to $1/(1-h)$ without the
# ridge if an example were the only one to use some direction?
#
# **Further reading.** J. Sherman and W. J. Morrison (1950), *Adjustment of an inverse matrix corresponding to a change in one
# element of a given matrix*, Annals of Mathematical Statistics 21. P. W. Koh, K.-S. Ang, H. H. K. Teo and P. Liang (2019), *On
# the accuracy of influence functions for measuring group effects*, NeurIPS. R. Grosse et al. (2023), *Studying large language
# model generalization with influence functions*, arXiv 2308.03296, section 2.

# %% [markdown] tags=["instructor"]
# **For teachers.** Examples 31 ($h = 0.68$) and 9 ($0.65$), counted from 0. Example 9 has the longest row, yet 31 has
# more leverage: it lies where few others are, and $h$ measures length in units of what the others know. All $h$ sum to
# 4.93, which is the number of parameters but for the ridge. An example that alone uses a direction has $h = 1$ without
# the ridge, and $1/(1-h)$ has no value: left out, nothing says any more what $\theta$ should be there. With the ridge
# $h = |x|^2/(|x|^2 + \mu) < 1$, and that part of $\theta$ goes back to zero.
