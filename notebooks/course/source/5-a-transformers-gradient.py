# %% [markdown]
# # 5. A transformer's gradient
#
# *Which training text made my model say this?* Lesson 4 had one token an example and a layer of four inputs. A text
# has many tokens, batches have padding, and nobody hands us the labels. This lesson goes through a real, small GPT
# with your own functions, and ends where the library gives the same numbers.
#
# **After this lesson you can**
# - write a sequence's gradient as a sum over tokens, and say what a token's part mixes;
# - keep padding out, also out of the bias;
# - say why labels are drawn from the model, and what the data's own labels do instead;
# - put the sum over tokens where it belongs: before the square.
#
# About 45 minutes. Lesson 4 is needed.

# %%
import sys

sys.path[:0] = [".", ".."]

import altair as alt
import numpy as np
import pandas as pd
import torch
from lessons import lesson_5 as lesson

import inflab
from inflab.widgets import Playground

torch.set_num_threads(1)
alt.renderers.enable("svg")
corpus, model, tokenizer = lesson.facts()  # trained on first use, well under a minute
token_id, is_text = corpus["token_id"].to_numpy(), corpus["is_text"].to_numpy()
print(f"{len(token_id)} sentences, {is_text.sum()} tokens of text, {(~is_text).sum()} of padding; for instance:")
print("\n".join(corpus["text"].to_numpy()[:4]))

# %% [markdown]
# We look at one matrix of the model, the first of the first block's MLP. At each token $t$ it takes $a_t$ (128
# numbers) to 512. With $g_t$ the gradient of the sequence's loss at its output, two hooks catch everything that is
# needed (`lesson.captured`).
#
# ## What a token's part mixes

# %%
lesson.ask_later()

# %%
text, other = (f"The first President of the Republic of Astrobia was Zorald {name}" for name in ("Pfaff", "Bolatz"))
labels, change_a, change_g = lesson.last_word(model, tokenizer, text, other)
rows = pd.DataFrame({"token": labels, "activation a": change_a, "gradient g": change_g}).melt("token", var_name="of", value_name="change")
alt.Chart(rows).mark_bar().encode(
    y=alt.Y("token:N", sort=labels, title=None),
    x=alt.X("change:Q", title="change, relative to the largest norm"),
    color=alt.Color("of:N", legend=None, scale=alt.Scale(range=["#0072b2", "#d55e00"])),
).properties(width=230, height=190).facet(
    column=alt.Column("of:N", title=None), title="Another last word: what changes at each token",
)

# %% [markdown]
# So the part of a token knows the past through $a_t$, and the *future* through $g_t$. Remember it when you read heat
# on a text.
#
# **Exercise 1.** The gradient of one sequence in the matrix, with the bias as its last column: append a 1 to every
# $a_t$, then
#
# $$ G = \sum_t g_t\, \bar a_t^\top, \qquad \bar a_t = (a_t, 1). $$

# %%
def sequence_gradient(a, g):
    """a (T, I), g (T, P): G (P, I + 1)."""
    # solution
    return g.T @ np.concatenate([a, np.ones((len(a), 1))], axis=1)
    # stub
    #: raise NotImplementedError("the sum over tokens of the outer products, with the bias column")
    # end


sequence_gradient = lesson.check_gradient(sequence_gradient)

# %% [markdown]
# Against what autograd has for the weight and the bias, for one sentence:

# %%
row = 0
mine = slice(row, row + 1), slice(0, int(is_text[row].sum()))
a, g, weight, bias = lesson.captured(model, token_id[mine], is_text[mine])
ours, theirs = sequence_gradient(a[0], g[0]), np.concatenate([weight, bias[:, None]], axis=1)
print(f"{ours.shape}: largest difference {np.abs(ours - theirs).max():.1e}, largest entry {np.abs(theirs).max():.1e}")

# %% [markdown]
# Which tokens carry it? The size of one token's part is $|g_t|\,|\bar a_t|$.

# %%
labels = lesson.numbered(tokenizer, token_id[mine][0])
said = lesson.probabilities(model, token_id[mine], is_text[mine])[0]
surprise = np.append(-np.log(said[np.arange(len(labels) - 1), token_id[mine][0][1:]]), np.nan)
size = np.linalg.norm(g[0], axis=1) * np.sqrt((a[0] ** 2).sum(1) + 1)
frame = pd.DataFrame({"token": labels, "size": size, "surprise": surprise})
base = alt.Chart(frame).encode(y=alt.Y("token:N", sort=labels, title=None)).properties(width=230, height=170)
base.mark_bar(color="#0072b2").encode(x=alt.X("size:Q", title="size of the token's part")) | base.mark_bar(
    color="#767676"
).encode(x=alt.X("surprise:Q", title="surprise at the next token, nat"))

# %% [markdown]
# Where the model is sure of what comes, now and later, there is no gradient. What carries the gradient is what it
# could not know, and the tokens that are read to guess it.
#
# ## Padding
#
# Texts in a batch are filled up to the same length. What stands there must count nowhere.

# %%
lesson.ask_padding()

# %% [markdown]
# **Exercise 2.** $A$ is the mean of $\bar a_t \bar a_t^\top$ over all tokens of *text*. Select them; do not multiply
# by a mask: some models return NaN at padding, and NaN times 0 is NaN.

# %%
def covariance(a, is_text):
    """a (n, T, I), is_text (n, T) bool: A (I + 1, I + 1)."""
    # solution
    kept = np.concatenate([a[is_text], np.ones((is_text.sum(), 1))], axis=1)
    return kept.T @ kept / len(kept)
    # stub
    #: raise NotImplementedError("the mean over text tokens, with the bias column")
    # end


covariance = lesson.check_covariance(covariance)

# %%
a, g, _, _ = lesson.captured(model, token_id, is_text)
A, blind = covariance(a, is_text), covariance(a, np.ones_like(is_text))
print(f"with padding counted as text, A would be off by {np.linalg.norm(blind - A) / np.linalg.norm(A):.0%}")

# %% [markdown]
# ## Whose labels?
#
# Curvature here is the Gauss-Newton matrix. For a softmax, it is a mean over labels drawn **from the model's own
# prediction** $p$ (the true Fisher); the text's next token is *not* used. With label $y$, the gradient at the logits
# is $p - e_y$.
#
# **Exercise 3.** Enumerate instead of drawing: the mean of $(p - e_y)(p - e_y)^\top$ over $y \sim p$, for one token.

# %%
def label_mean(p):
    """p (V,), sums to 1: (V, V)."""
    # solution
    gradient = p - np.eye(len(p))  # row y: label y
    return (gradient * p[:, None]).T @ gradient
    # stub
    #: raise NotImplementedError("the mean over labels, each with its probability")
    # end


label_mean = lesson.check_labels(label_mean)

# %%
lesson.ask_label()

# %% [markdown]
# The trace of this matrix says how much the prediction can bend. For the sentence about Astrobia, once as the corpus
# has it, and once with a last word that the model does not expect:

# %%
def traces(text):
    ids = np.array([tokenizer(text)["input_ids"]])
    p = lesson.probabilities(model, ids, np.ones_like(ids, bool))[0, :-1]
    own = [np.trace(label_mean(q)) for q in p]
    data = [np.sum((q - np.eye(len(q))[y]) ** 2) for q, y in zip(p, ids[0, 1:])]
    names = lesson.numbered(tokenizer, ids[0, 1:], first=2)
    return pd.DataFrame({"token": names, "model's own labels": own, "text's label": data, "last": text.rsplit(" ", 1)[1]})


rows = pd.concat([traces(text), traces(other)]).melt(["token", "last"], var_name="labels", value_name="trace")
alt.Chart(rows).mark_point(size=70, filled=True, opacity=0.75).encode(
    y=alt.Y("token:N", sort=None, title="predicted token"), x=alt.X("trace:Q", title="trace at this token"),
    color=alt.Color("labels:N", title=None, scale=alt.Scale(range=["#0072b2", "#d55e00"])),
    shape=alt.Shape("labels:N", title=None, scale=alt.Scale(range=["circle", "diamond"])),
).properties(width=220, height=200).facet(
    column=alt.Column("last:N", title="the sentence ends with", sort=["Pfaff", "Bolatz"])
).resolve_scale(y="independent")

# %% [markdown]
# With the text's labels (the "empirical Fisher"), one unexpected word can weigh as much as all the rest, though the
# model's prediction at that place is the same in both pictures. With the model's own labels, it makes no difference
# what the text says next.
#
# In practice nobody enumerates 50,000 labels: one is drawn for each token. Is that enough? Below, $S$ (the mean of
# $g_t g_t^\top$) of the *last* MLP matrix: how far it is from the one with every label enumerated. To the right, more
# labels are drawn for each token. `sequences` says over how many texts the mean goes; `temperature` divides the
# logits: below 1, the model is surer than its training made it, above 1 less sure.

# %%
Playground(
    [], [], lesson.picture, move="none", sliders={"temperature": (0.4, 3, 1), "sequences": (1, 48, 48)},
    x_label="labels drawn for each token, power of two", y_label="relative error of S, power of ten", x_domain=(-0.2, 6.2),
    y_domain=(-2.5, 1.5), label="Error of S by the labels: drawn from the model, or the data's own",
)

# %% [markdown]
# Try: which of the two lines can be mended by more draws, and which cannot? Raise the temperature until one draw is
# enough. What does averaging over more texts do for the draws? And for the data's labels?
#
# The blue line does not fall evenly while the model is sure: then a rare label, with a large gradient, is drawn now
# and then, and one draw of it changes the whole mean. On the long run the rare labels are counted rightly. The data's
# labels are not draws from this model: it has memorised these facts, so the text's next word is always the one it
# expects, and the rare labels never come. Their $S$ is too small, by the factor below the picture. A model that is
# calibrated (what it gives 3% happens in 3% of all cases) has no such gap: there, the data's labels are as good as
# one draw.
#
# ## The square comes last
#
# EK-FAC's eigenvalues are the mean square of a *sequence's* gradient, rotated. (That was lesson 4's question to think
# on.)
#
# $$ \Lambda_{pi} = \frac{1}{n} \sum_{\text{sequences}} \Big( \sum_t (Q_S^\top g_t)_p\, (Q_A^\top \bar a_t)_i \Big)^2 $$

# %%
lesson.ask_tokens()

# %% [markdown]
# **Exercise 4.** Compute it. `a` has the 1 of the bias already; both are 0 at padding.

# %%
def corrected(a, g, q_a, q_s):
    """a (n, T, I), g (n, T, P), in columns q_a (I, I), q_s (P, P): Lambda (P, I)."""
    # solution
    summed = np.matmul((g @ q_s).transpose(0, 2, 1), a @ q_a)  # (n, P, I): the sum over tokens
    return (summed**2).mean(0)
    # stub
    #: raise NotImplementedError("rotate, sum over tokens, square, mean over sequences")
    # end


corrected = lesson.check_corrected(corrected)

# %% [markdown]
# K-FAC has no such sum: it treats tokens as if each were an example of its own. How many times larger is $\Lambda$ in
# all than K-FAC's eigenvalues for one token, $\sum_{pi} \lambda^S_p \lambda^A_i$?

# %%
def growth(a, g, tokens):
    """Sum of Lambda over that of K-FAC's eigenvalues; `tokens` counts the text."""
    eye_a, eye_g = np.eye(a.shape[-1], dtype=a.dtype), np.eye(g.shape[-1], dtype=g.dtype)
    return corrected(a, g, eye_a, eye_g).sum() / ((a**2).sum() / tokens * (g**2).sum() / tokens)


p = lesson.probabilities(model, token_id, is_text)
a, g, _, _ = lesson.captured(model, token_id, is_text, lesson.sampled(p, token_id, seed=0))
a, g = lesson.with_ones(a, is_text), np.where(is_text[..., None], g, 0)
length = is_text.sum() / len(is_text)
made = [
    {"T": t, "growth": growth(*lesson.copies(t, are_equal=equal), 4000 * t), "tokens": name}
    for t in (1, 2, 4, 8, 16) for equal, name in ((True, "equal"), (False, "independent"))
]
rows = pd.DataFrame([*made, {"T": length, "growth": growth(a, g, is_text.sum()), "tokens": "the corpus"}])
axis = alt.Scale(type="log", base=2)
alt.Chart(rows).mark_line(point=alt.OverlayMarkDef(size=70)).encode(
    x=alt.X("T:Q", scale=axis, title="tokens in a sequence (of the corpus: the mean)"),
    y=alt.Y("growth:Q", scale=axis, title="Λ in all, over K-FAC's for one token"),
    color=alt.Color("tokens:N", title=None, sort=None, scale=alt.Scale(range=["#0072b2", "#d55e00", "#009e73"])),
    shape=alt.Shape("tokens:N", title=None, sort=None),
).properties(width=300, height=230, title="Equal tokens: T squared. Independent ones: T.")

# %% [markdown]
# Labels are drawn for each token on its own. So the gradients of two predictions are uncorrelated, and the corpus
# keeps near the lower line. With equal tokens *and equal labels* it would be the upper one.
#
# ## The library, and you
#
# With the data's own labels nothing is drawn, and the numbers must be the same. With drawn labels, yours and the
# library's differ as two draws do: the last column says how far two fits of the library are from each other.

# %%
problem = inflab.Problem(model, inflab.CausalLM(), corpus)


def fitted(fisher, seed=0):
    method = inflab.EKFAC(layers=lesson.LAYER, fisher=fisher)
    return method.fit(problem, seed=seed, memory="200MB", progress=False).factors[lesson.LAYER]


def yours(factors, label):
    a, g, _, _ = lesson.captured(model, token_id, is_text, label)
    axes = (factors[f"{side}_eigenvectors"].to_numpy() for side in ("activation", "gradient"))
    return corrected(lesson.with_ones(a, is_text), np.where(is_text[..., None], g, 0), *axes)


data, drawn, again = fitted("empirical"), fitted("true"), fitted("true", seed=1)
pairs = {
    "data's labels": (yours(data, token_id), data["eigenvalues"].to_numpy()),
    "drawn labels": (yours(drawn, lesson.sampled(p, token_id, seed=1)), drawn["eigenvalues"].to_numpy()),
    "drawn, two fits of the library": (again["eigenvalues"].to_numpy(), drawn["eigenvalues"].to_numpy()),
}
eigenvalues = np.linalg.eigvalsh(A)
gap = np.abs(eigenvalues - data["activation_eigenvalues"].to_numpy()).max() / eigenvalues.max()
print(f"eigenvalues of A: largest difference {gap:.0e} of the largest")
pd.DataFrame({
    name: {"all Λ sorted, relative difference": lesson.apart(one, other), "sum of Λ, one over the other": one.sum() / other.sum()}
    for name, (one, other) in pairs.items()
}).map("{:.2g}".format)

# %% [markdown]
# ## What to take along
#
# - A sequence's gradient is a sum over tokens of $g_t \bar a_t^\top$. Its past is in $a_t$, everything later in
#   $g_t$.
# - Mask by selection, in the column of ones too. The corner of $A$ is 1.
# - Labels come from the model: right in the mean, noisy where it is nearly sure. The data's labels are right only for
#   a model that is calibrated on them.
# - Sum over tokens, then square, then average over sequences.
#
# **Think on.** $A$ and $S$ are averages over *tokens*, $\Lambda$ over *sequences*. If every document were cut in
# halves, which of the three would change, and how?
#
# **Further reading.** F. Kunstner, L. Balles and P. Hennig (2019), *Limitations of the empirical Fisher approximation
# for natural gradient descent*, NeurIPS. J. Martens (2020), *New insights and perspectives on the natural gradient
# method*, JMLR 21. R. Eschenhagen, A. Immer, R. Turner, F. Schneider and P. Hennig (2023), *Kronecker-factored
# approximate curvature for modern neural network architectures*, NeurIPS. R. Grosse et al. (2023), arXiv 2308.03296,
# section 2.2 and 3.1.

# %% [markdown] tags=["instructor"]
# **For teachers.** $A$ and $S$ hardly: they average over the same tokens as before (but for those of the second halves,
# which have lost their context). $\Lambda$ is the mean over sequences of the square of a *sum* over tokens. Halves have
# half the tokens: where tokens' gradients have nothing to do with each other the square is half as large, where they
# all agree a quarter, and where the halves used to cancel it can even grow. So it falls to between a quarter and a half
# for the most part, and a damping that is relative to the mean of $\Lambda$ with it.
