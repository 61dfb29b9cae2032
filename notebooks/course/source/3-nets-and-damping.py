# %% [markdown]
# # 3. Nets, damping, and what influence really approximates
#
# *Which training text made my model say this?* Lessons 1 and 2 had a minimum and a Hessian to invert. A network has neither:
# training stops somewhere on a slope, and the curvature there may point the wrong way. This lesson finds out what an influence
# score of a network is then a prediction *of*.
#
# **After this lesson you can**
# - say why the inverse Hessian of a network misleads, and what the Gauss-Newton matrix does instead;
# - say what damping is, and see what it does;
# - write down the proximal Bregman objective and compare influence with its minimum, the response (PBRF);
# - tell this local question from training again.
#
# About 45 minutes. Lessons 1 and 2 help.

# %%
import sys

sys.path[:0] = [".", ".."]

import altair as alt
import numpy as np
import pandas as pd
from lessons import lesson_3 as lesson

from inflab.widgets import Playground

alt.renderers.enable("svg")
x, y = lesson.data()
theta = lesson.trained()
print(f"a net of {len(theta)} parameters, {len(x)} examples, mean loss {((lesson.net(theta, x) - y) ** 2).mean() / 2:.4f}")

# %% [markdown]
# ## Not at a minimum
#
# The net has one input, eight hidden units and one output. Training was stopped, as always. Its Hessian:

# %%
curvatures = np.linalg.eigvalsh(lesson.hessian(theta, x, y))
gradient = lesson.jacobian(theta, x).T @ (lesson.net(theta, x) - y) / len(x)
print(f"length of the gradient: {np.linalg.norm(gradient):.1e} (0 at a minimum)")
print(f"eigenvalues of the Hessian: {(curvatures < 0).sum()} negative, smallest {curvatures[0]:.1e}, largest {curvatures[-1]:.2f}")

# %%
lesson.ask_hessian()

# %% [markdown]
# The way out: forget how the *net* bends, keep how the *loss* bends. With $J$ the derivative of the outputs in the parameters,
# one row for each example, the Gauss-Newton matrix of the mean squared loss is $G = \frac{1}{n} J^\top J$.
#
# **Exercise 1.** Write it.

# %%
def gauss_newton(jac):
    """G from J (examples, parameters)."""
    # solution
    return jac.T @ jac / len(jac)
    # stub
    #: raise NotImplementedError("G, one row and column for each parameter")
    # end


gauss_newton = lesson.check_gauss_newton(gauss_newton)

# %%
jac = lesson.jacobian(theta, x)
spectrum = np.linalg.eigvalsh(gauss_newton(jac))[::-1]
frame = pd.DataFrame({"direction": np.arange(1, len(spectrum) + 1), "eigenvalue": np.maximum(spectrum, 1e-18)})
alt.Chart(frame).mark_bar(color="#0072b2").encode(
    x=alt.X("direction:O", title="direction of the parameters, by curvature"),
    y=alt.Y("eigenvalue:Q", title="eigenvalue of G", scale=alt.Scale(type="log", domain=[1e-12, 100], clamp=True)),
).properties(width=420, height=180, title="Few directions are stiff; most hardly change any output")

# %% [markdown]
# ## Damping
#
# No negative eigenvalue, but many that are nearly 0: dividing by them explodes. So each direction gets a spring of strength
# $\lambda$: we invert $G + \lambda I$. With $\nabla f_m$ the derivative of the output for example $m$ in the parameters, a row of
# $J$, and $\nabla f_q$ that for a *query*, an input we ask about, the influence of example $m$ on the query's output is then
#
# $$ I(m) = \nabla f_q^\top\, (G + \lambda I)^{-1}\, \nabla f_m\; r_m, \qquad r_m = y_m - f_m . $$
#
# **Exercise 2.** Compute it for all examples.

# %%
def influence(jac, residual, query, damping):
    """jac (n, parameters), residual (n,), query (parameters,): influence of each example (n,)."""
    # solution
    curve = gauss_newton(jac) + damping * np.eye(jac.shape[1])
    return (query @ np.linalg.solve(curve, jac.T)) * residual
    # stub
    #: raise NotImplementedError("I(m), for every m at once")
    # end


influence = lesson.check_influence(influence)

# %%
lesson.ask_damping()

# %% [markdown]
# The *response* to an example is where the net goes when that example gets more weight while the net is held back. Push both
# sliders: the example with the largest residual, drawn large, gets the weight. One line is the trained net, one its response
# (each setting is an optimisation of its own), one the response that influence predicts.

# %%
residual = y - lesson.net(theta, x)
largest = int(np.abs(residual).argmax())
Playground(
    x, y, lesson.picture(theta, largest), move="none", sliders={"weight": (0, 0.5, 0.1), "damping": (1e-4, 1, 0.01)},
    x_label="input", y_label="output", x_domain=(-3.4, 3.4), y_domain=(-2.6, 2.6),
    label="A net, its response to more weight on one example, and the response predicted",
)

# %% [markdown]
# ## What is the orange line?
#
# The *proximal Bregman response* (PBRF, after the function that has it as its minimum; for squared loss its Bregman
# divergence, the first term below, is a squared distance). Its objective is
#
# $$ \frac{1}{n}\sum_i \tfrac{1}{2}\big(f_\theta(x_i) - f_{\theta_s}(x_i)\big)^2 \;+\; \epsilon\, \ell_m(\theta)
#  \;+\; \frac{\lambda}{2} |\theta - \theta_s|^2 . $$
#
# Here $\theta_s$ is the trained net. Stay near its *own outputs* (not the labels), give example $m$ the weight $\epsilon$, stay near in parameters. At
# $\epsilon = 0$ its minimum is the trained net, wherever training stopped.
#
# **Exercise 3.** Write the objective.

# %%
def proximal(now, before, loss, moved, weight, damping):
    """Outputs now and before (n,), loss of the example, theta - theta_s, epsilon, lambda: one number."""
    # solution
    return ((now - before) ** 2).mean() / 2 + weight * loss + damping / 2 * moved @ moved
    # stub
    #: raise NotImplementedError("the three terms above")
    # end


proximal = lesson.check_proximal(proximal)

# %% [markdown]
# Is the response that the playground draws its minimum? A step in any direction should raise it:

# %%
weight, damping, m = 0.1, 0.01, largest
there = lesson.respond(theta, x, y, m, weight, damping)


def height(at):
    loss = float((lesson.net(at, x[[m]])[0] - y[m]) ** 2 / 2)
    return proximal(lesson.net(at, x), lesson.net(theta, x), loss, at - theta, weight, damping)


rng = np.random.default_rng(0)
rises = [height(there + 0.01 * rng.normal(size=len(theta))) - height(there) for _ in range(200)]
print(f"smallest rise in 200 random steps: {min(rises):.1e}")

# %%
lesson.ask_retraining()

# %% [markdown]
# Now the test of the whole idea. For every example: a small weight, the response measured, the response predicted. And the same
# numbers against training again without the example: leaving one of $n$ out of a mean is a weight of $-1/n$.

# %%
query = lesson.jacobian(theta, np.array([0.5]))[0]
eps, lam = 1e-3, 0.01
before = lesson.net(theta, np.array([0.5]))[0]
measured = np.array(
    [(lesson.net(lesson.respond(theta, x, y, i, eps, lam), np.array([0.5]))[0] - before) / eps for i in range(len(x))]
)
predicted = influence(jac, residual, query, lam)
out = np.array([lesson.net(lesson.retrained(i), np.array([0.5]))[0] - before for i in range(len(x))])
rows = pd.concat([
    pd.DataFrame({"predicted": predicted, "measured": measured, "of": "response, per unit weight"}),
    pd.DataFrame({"predicted": -predicted / len(x), "measured": out, "of": "left out, trained again"}),
])
alt.Chart(rows).mark_circle(size=60, color="#0072b2").encode(
    x=alt.X("predicted:Q", title="predicted change of the output at 0.5"),
    y=alt.Y("measured:Q", title="measured"),
).properties(width=230, height=200).facet(column=alt.Column("of:N", title=None, sort="descending")).resolve_scale(x="independent", y="independent")

# %%
print(f"correlation with the response:                {np.corrcoef(predicted, measured)[0, 1]:.3f}")
print(f"correlation with leaving out, trained again:  {np.corrcoef(-predicted, out)[0, 1]:.3f}")

# %% [markdown]
# ## Which damping?
#
# Damping is a free knob. What it does to the prediction of *training again*, over five powers of ten:

# %%
lambdas = np.geomspace(1e-4, 10, 16)
sweep = pd.DataFrame({
    "damping": lambdas,
    "correlation": [np.corrcoef(-influence(jac, residual, query, d), out)[0, 1] for d in lambdas],
})
alt.Chart(sweep).mark_line(point=True, color="#0072b2").encode(
    x=alt.X("damping:Q", scale=alt.Scale(type="log"), title="damping λ"),
    y=alt.Y("correlation:Q", title="correlation with training again"),
).properties(width=380, height=180, title="How well influence predicts training again, by damping")

# %% [markdown]
# So the damping above, 0.01, was not the best one for this question: near 0.0005, influence predicts training again much better.
# Training again holds this net less stiffly than $\lambda = 0.01$ does. That is a fact about this net, this query and this
# training, not a rule that less is better: lesson 8 shows data where an exact solve with little damping predicts worse than with
# more, and only retraining can tell.

# %% [markdown]
# ## What to take along
#
# - A network's score is a prediction of a *local response*: this net, its outputs held, one example pushed.
# - The Gauss-Newton matrix keeps the loss's curvature and drops the net's: never negative.
# - Damping is part of the question, not a numerical trick: how stiffly is the net held?
# - Agreement with training again is another matter: it depends on the damping, and is measured (lesson 8).
#
# **Think on.** Why are the *outputs* held and not the labels? Set the labels in, and look at $\epsilon = 0$.
#
# **Further reading.** J. Bae, N. Ng, A. Lo, M. Ghassemi and R. Grosse (2022), *If influence functions are the answer, then what
# is the question?*, NeurIPS. S. Basu, P. Pope and S. Feizi (2021), *Influence functions in deep learning are fragile*, ICLR.
# J. Martens (2020), *New insights and perspectives on the natural gradient method*, JMLR 21.

# %% [markdown] tags=["instructor"]
# **For teachers.** Because the question is about $z$ alone. Held to its own outputs, the net is at the minimum at
# $\epsilon = 0$ wherever training stopped: every divergence is zero there, and so is its gradient. Held to the labels,
# it is at a minimum only if it was trained to the end. Otherwise it moves at $\epsilon = 0$ already: it goes on
# training, and the response to $z$ is lost in that.
