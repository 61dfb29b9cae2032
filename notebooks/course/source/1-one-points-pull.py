# %% [markdown]
# # 1. One point's pull
#
# *Which training text made my model say this?* Lesson 6 of this course asks that of a transformer. This one asks it
# of a mean, a median and a straight line, where everything can be seen and checked by computing again.
#
# **After this lesson you can**
# - say how much one number pulls a mean, and why a median hardly moves;
# - compute a point's leverage and its influence on a slope without fitting again;
# - explain why a point needs both leverage and residual to pull a line (Cook's distance);
# - say where the shortcut is exact and where it is not.
#
# About 45 minutes. You need numpy, a straight line, a derivative and the inverse of a matrix. A *residual* is what is measured
# minus what the line says.

# %%
import sys

sys.path[:0] = [".", ".."]  # the lesson's own files, from this folder or the one above

import altair as alt
import numpy as np
import pandas as pd
from lessons import lesson_1 as lesson

from inflab.widgets import Playground

alt.renderers.enable("svg")
x, y = lesson.HOURS, lesson.SCORE

# %% [markdown]
# ## A mean has no defence
#
# Eleven people practised between one and six hours, one practised eleven. Here are their scores alone.
# Decide first:

# %%
lesson.ask_mean()

# %% [markdown]
# Drag a point up and down and watch both. How far can one point pull the mean? And the median?

# %%
def centre(x, y):
    return {
        "lines": {"mean": np.full_like(y, y.mean()), "median": np.full_like(y, np.median(y))},
        "words": f"mean {y.mean():.2f}, median {np.median(y):.2f}",
    }


Playground(
    np.arange(1, 13), y, centre, move="y", x_label="person", y_label="score, points", y_domain=(-5, 20),
    label="Twelve scores, their mean and their median",
)

# %% [markdown]
# **Exercise 1.** Without computing any mean again: how much does the mean change when number $i$ is *left out*?
#
# With $\bar y$ the mean of all $n$ numbers, the mean of the others is $(n \bar y - y_i)/(n-1)$. Write the difference to
# $\bar y$, for all $i$ at once.

# %%
def pull(y):
    """Mean without number i, minus the mean of all: one value for each i."""
    # solution
    return (y.mean() - y) / (len(y) - 1)
    # stub
    #: raise NotImplementedError("the pull of each number on the mean")
    # end


pull = lesson.check_pull(pull)

# %% [markdown]
# For a mean this is exact, as computing again shows:

# %%
again = np.array([lesson.mean_without(y, i) - y.mean() for i in range(len(y))])
print(f"largest difference between the shortcut and computing again: {np.abs(pull(y) - again).max():.1e}")

# %% [markdown]
# ## A line
#
# A line through the points minimises $\frac{1}{2}\sum_i (y_i - \theta_0 - \theta_1 x_i)^2$.
#
# Two people are off the line by the same amount: one at the middle of the hours, one at the far end.

# %%
lesson.ask_arm()

# %% [markdown]
# Every disc below has a size that you will compute at the end of this lesson.

# %%
Playground(
    x, y, lesson.line_picture, x_label="practice, hours", y_label="score, points", x_domain=(0, 14), y_domain=(-2, 12),
    label="Hours and scores, and the line through them; a disc's area is the point's Cook's distance",
)

# %% [markdown]
# Try: drag the person at 11 hours down; then one at 4 hours by the same amount. Drag the far person *along* the line. When
# is its disc large?
#
# ### Leverage: the length of the arm
#
# With $X$ the matrix of rows $(1, x_i)$, the leverage of point $i$ is $h_i = (1, x_i)\,(X^\top X)^{-1}\,(1, x_i)^\top$.
#
# **Exercise 2.** Compute it for all points.

# %%
def leverage(x):
    """h_i for each point."""
    design = np.stack([np.ones_like(x), x], axis=1)  # (n, 2)
    # solution
    return np.einsum("ni,ni->n", design, np.linalg.solve(design.T @ design, design.T).T)
    # stub
    #: raise NotImplementedError("h_i, from the design matrix")
    # end


leverage = lesson.check_leverage(leverage)

# %% [markdown]
# ### Influence: a gradient through an inverse Hessian
#
# Here comes the formula of the whole course. The loss of one point is $\ell_i = \frac{1}{2}(y_i - \theta^\top z_i)^2$ with
# $z_i = (1, x_i)$; its gradient is $-r_i z_i$, with $r_i = y_i - \theta^\top z_i$ the
# residual and $\theta$ intercept and slope. The Hessian (the second derivatives) of the sum is
# $H = X^\top X$. Give point $i$ a little more weight $\epsilon$, and the optimum moves by
#
# $$ \frac{d\theta}{d\epsilon} = -H^{-1} \nabla \ell_i = H^{-1} z_i\, r_i . $$
#
# Lesson 2 derives it. For a mean, $H = n$ and $z_i = 1$: it gives $(y_i - \bar y)/n$.
#
# **Exercise 3.** Its second entry is the influence of each point on the slope. Compute it for all points.

# %%
def influence(x, y):
    """d slope / d weight of each point."""
    design = np.stack([np.ones_like(x), x], axis=1)
    residual = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    # solution
    return (np.linalg.inv(design.T @ design) @ (design * residual[:, None]).T)[1]
    # stub
    #: raise NotImplementedError("the slope's part of d theta / d epsilon, for every point")
    # end


influence = lesson.check_influence(influence)

# %% [markdown]
# Leaving a point out is a weight of $\epsilon = -1$. So the slope without point $i$ should be near
# `slope - influence[i]`. Computed again, for each point:

# %%
slope = lesson.fit(x, y)[1]
measured = np.array([lesson.line_without(x, y, i)[1] - slope for i in range(len(x))])
frame = pd.DataFrame({"hours": x, "predicted": -influence(x, y), "measured": measured, "leverage": leverage(x)})
both = alt.Chart(frame).encode(
    x=alt.X("predicted:Q", title="predicted change of the slope, points an hour"),
    y=alt.Y("measured:Q", title="measured, by fitting again"),
)
edge = 1.1 * float(np.abs(measured).max())
diagonal = pd.DataFrame({"predicted": [-edge, edge], "measured": [-edge, edge]})
alt.layer(
    alt.Chart(diagonal).mark_line(strokeDash=[4, 3], color="#767676").encode(x="predicted:Q", y="measured:Q"),
    both.mark_circle(size=90, color="#0072b2").encode(tooltip=["hours", "leverage", "predicted", "measured"]),
).properties(width=320, height=260, title="Leaving each person out (dashed: equal)")

# %% [markdown]
# All but one lie near the dashed line, none exactly on it; the one far off has the largest leverage. The reason is exact, and
# returns in lesson 2: *measured = predicted / (1 - h)*.

# %%
ratio = frame["predicted"] / frame["measured"]
pd.DataFrame({"hours": x, "predicted / measured": ratio, "1 - leverage": 1 - frame["leverage"]}).round(4)

# %% [markdown]
# ### Cook's distance: both at once
#
# $$ D_i = \frac{r_i^2}{2 s^2} \cdot \frac{h_i}{(1 - h_i)^2}, \qquad s^2 = \frac{\sum_j r_j^2}{n - 2} $$
#
# **Exercise 4.** Compute it. It was the area of the discs above.

# %%
def cook(x, y):
    """D_i for each point."""
    h = leverage(x)
    start, slope = lesson.fit(x, y)
    residual = y - start - slope * x
    # solution
    spread = residual @ residual / (len(x) - 2)
    return residual**2 * h / (2 * spread * (1 - h) ** 2)
    # stub
    #: raise NotImplementedError("D_i, from residual and h")
    # end


cook = lesson.check_cook(cook)

# %%
lesson.ask_both()

# %% [markdown]
# ## What to take along
#
# - **Influence is a gradient through an inverse Hessian**: how strongly a point complains, times how easily the fit gives way
#   in that direction.
# - It predicts what leaving out does without fitting again, and falls short by the factor $1 - h_i$. For a mean that is
#   $1 - 1/n$: exercise 1 divides by $n - 1$, influence by $n$.
# - In a transformer, $\theta$ has millions of entries and $H$ cannot be written down. Lessons 4 and 5 are about that.
#
# **Think on.** Drag the person at 11 hours until removing it would not change the slope at all. There are two kinds of such
# places. Which?
#
# **Further reading.** R. D. Cook (1977), *Detection of influential observation in linear regression*, Technometrics 19.
# F. R. Hampel (1974), *The influence curve and its role in robust estimation*, JASA 69. P. W. Koh and P. Liang (2017),
# *Understanding black-box predictions via influence functions*, ICML.

# %% [markdown] tags=["instructor"]
# **For teachers.** Removing a point changes the slope by $-(x_i - \bar x)\,e_i$ over what does not depend on where it
# is dragged in height. So either $e_i = 0$: the point lies on the line that the others draw, and complains of nothing.
# Or $x_i = \bar x$: it stands straight above or below the middle, and lifts the whole line without tilting it, however
# far away it is. At 11 hours only the first kind can be had by dragging up and down; the second asks for dragging to
# the side.
