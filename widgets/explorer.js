// @ts-check
// The Explorer's view: steps through queries, shows the ranked sequences of each, the tokens and layers of one.
//
// It draws what the Python side sends (`_page`, `_tokens`, `_profile`) and says what the reader does (`position`,
// `selected`) and waits for (`_asked`). One self-contained ES module, as its host loads it; every text goes in by textContent. The parts
// (stepper, queryCard, sequenceList, tokenView, layerProfile) are functions from actions to {root, update}.

/** @typedef {"positive" | "negative"} Sign */
/** @typedef {string | number | boolean | null} Plain */
/** @typedef {{query: Plain, train: Plain, rank: number, sign: Sign}} Selected */
/** @typedef {{rank: number, train: Plain, effect: number | null, share: number | null, text: string, meta: Record<string, Plain>}} Item */
/** @typedef {{position: number, query: {id: Plain, prompt: string, completion: string, meta: Record<string, Plain>}, positive: Item[], negative: Item[]}} Page */
/** @typedef {Selected & {text: string[], effect: (number | null)[]}} Tokens */
/** @typedef {Selected & {svg: string, dark: Record<string, string>, alt: string}} Profile */
/** @typedef {{n_query: number, n_train: number, method: string, units: string}} Summary */
/** @typedef {{get(name: string): any, set(name: string, value: any): void, save_changes(): void, on(name: string, call: () => void): void, off(name: string, call: () => void): void}} Model */
/** @typedef {"first" | "previous" | "next" | "last" | "into" | "up" | "down" | "start" | "end" | "pick" | "leave"} Command */

/** @type {Sign[]} */
const SIGNS = ["positive", "negative"];
const LIKELY = { positive: "more likely", negative: "less likely" };
const SHIFT =
  "The heat sits one token early: a token's number is what the model learned at the place where it reads that token " +
  "and predicts the next one (and, through attention, later ones), so look one token to the right for the word it taught.";
const KEYS = "Keys: ← → step through queries, ↓ into the list, ↑ ↓ and Enter pick a sequence, ← → walk its tokens, Esc goes back.";

// ---------------------------------------------------------------- words and numbers

/** Three significant digits, always with a sign: +0.120, −4.50×10⁻⁶. @param {number | null | undefined} value */
export function signed(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  return (value < 0 ? "−" : value > 0 ? "+" : "") + digits(Math.abs(value));
}

/** @param {number} size a number that is not negative */
export function digits(size) {
  if (size === 0) return "0";
  const [digit, power] = size.toExponential(2).split("e");
  if (Number(power) >= -4 && Number(power) < 3) return size.toPrecision(3);
  return `${digit}×10${String(Number(power)).replace(/./g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)])}`;
}

/** @param {number | null} share */
export function percent(share) {
  if (share === null || !Number.isFinite(share)) return "–";
  return share > 0 && share < 0.001 ? "<0.1 %" : `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
}

/** What the effect does to the probability: exp(nats). Nothing beyond 1 nat, where a linear prediction says no such thing. @param {number | null} effect */
export function factor(effect) {
  return effect === null || Math.abs(effect) > 1 ? "" : `, ×${digits(Math.exp(effect))} as likely`;
}

/** A token as a reader can see it: line breaks, tabs, control characters and lone blanks get a sign. @param {string} text */
export function visible(text) {
  const shown = text
    .replace(/\r\n|\n/g, "⏎").replace(/\t/g, "⇥").replace(/\r/g, "␍")
    .replace(/[\u0000-\u001f]/g, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0)))
    .replace(/[\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g, (c) => `‹${c.charCodeAt(0).toString(16)}›`);
  if (shown === "") return "∅";
  return shown.trim() === "" ? shown.replace(/\s/g, "␣") : shown;
}

/** Strength of a colour between 0 and 1, linear in the effect. @param {number | null} effect @param {number} most */
export function heat(effect, most) {
  return effect === null || most === 0 ? 0 : Math.min(1, Math.abs(effect) / most);
}

/** @param {(number | null)[]} values */
export function largest(values) {
  return values.reduce((/** @type {number} */ most, value) => Math.max(most, Math.abs(value ?? 0)), 0);
}

/**
 * What a key means, by where it is pressed; null leaves it to the browser.
 * @param {{key: string, ctrlKey?: boolean, metaKey?: boolean, altKey?: boolean, shiftKey?: boolean}} event
 * @param {"root" | "text" | "list" | "tokens"} place
 * @returns {Command | null}
 */
export function command(event, place) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return null;
  /** @type {Record<string, Command>} */
  const steps = { ArrowLeft: "previous", ArrowRight: "next" };
  /** @type {Record<string, Record<string, Command>>} */
  const table = {
    root: { ...steps, Home: "first", End: "last", ArrowDown: "into" },
    text: steps,
    list: { ...steps, Home: "start", End: "end", ArrowUp: "up", ArrowDown: "down", Enter: "pick", " ": "pick", Escape: "leave" },
    tokens: { ArrowLeft: "up", ArrowRight: "down", Home: "start", End: "end", Escape: "leave" },
  };
  return table[place][event.key] ?? null;
}

/** @param {Selected | Tokens | Profile | {}} a @param {Selected | {}} b */
export function samePair(a, b) {
  return "sign" in a && "sign" in b && a.query === b.query && a.sign === b.sign && a.rank === b.rank;
}

// ---------------------------------------------------------------- building blocks

let made = 0;

/**
 * An element; strings become text, never markup.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, string>} [attributes]
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** @param {Record<string, Plain>} meta */
function chips(meta) {
  const row = h("span", { class: "chips" });
  for (const [name, value] of Object.entries(meta)) {
    if (value === "" || value === null) continue; // not every sequence has every label
    row.append(h("span", { class: "chip" }, h("span", { class: "chip-name" }, `${name} `), String(value)));
  }
  return row;
}

/** Scroll inside its box only: scrollIntoView would move the notebook. @param {HTMLElement} box @param {HTMLElement} item */
function reveal(box, item) {
  const [outer, inner] = [box.getBoundingClientRect(), item.getBoundingClientRect()];
  if (inner.top < outer.top) box.scrollTop += inner.top - outer.top - 4;
  if (inner.bottom > outer.bottom) box.scrollTop += inner.bottom - outer.bottom + 4;
}

/**
 * A listbox that keeps the focus and points at its active option, so that redrawing never loses the focus.
 * @param {HTMLElement} box
 * @param {(index: number) => void} [onActive]
 */
function roving(box, onActive = () => {}) {
  const id = `inflab-${++made}`;
  let active = 0;
  /** @type {HTMLElement[]} */
  let options = [];
  /** @param {number} index */
  function point(index) {
    options[active]?.classList.remove("active");
    active = Math.max(0, Math.min(options.length - 1, index));
    const option = options[active];
    if (!option) return box.removeAttribute("aria-activedescendant");
    option.classList.add("active");
    box.setAttribute("aria-activedescendant", option.id);
    onActive(active);
  }
  return {
    point,
    active: () => active,
    /** @param {HTMLElement[]} drawn @param {number} index */
    refill(drawn, index) {
      options = drawn;
      options.forEach((option, i) => (option.id = `${id}-${i}`));
      active = 0;
      point(index);
    },
    /** @param {Command} step */
    move(step) {
      const to = { up: active - 1, down: active + 1, start: 0, end: options.length - 1 }[/** @type {string} */ (step)];
      if (to === undefined) return;
      point(to);
      if (options[active]) reveal(box, options[active]);
    },
  };
}

// ---------------------------------------------------------------- parts

/** Buttons and "3 / 100". @param {(command: Command) => void} act */
export function stepper(act) {
  const place = h("output", { "aria-live": "polite", "aria-label": "position in the query batch" });
  /** @type {[Command, string, string][]} */
  const wanted = [["first", "⏮", "First query"], ["previous", "◀", "Previous query"], ["next", "▶", "Next query"], ["last", "⏭", "Last query"]];
  const buttons = wanted.map(([name, sign, label]) => {
    const button = h("button", { type: "button", "aria-label": label, title: label }, h("span", { "aria-hidden": "true" }, `${sign}\ufe0e`));
    button.addEventListener("click", () => act(name));
    return button;
  });
  const root = h("div", { class: "stepper" }, h("span", { class: "label" }, "Query"), buttons[0], buttons[1], place, buttons[2], buttons[3]);
  return {
    root,
    /** @param {number} position @param {number} count */
    update(position, count) {
      place.textContent = `${position + 1} / ${count}`;
      // aria-disabled, not disabled: a disabled button would drop the focus at the end of the batch.
      buttons.forEach((button, i) => button.setAttribute("aria-disabled", String(i < 2 ? position <= 0 : position >= count - 1)));
    },
  };
}

/** Prompt and highlighted completion. */
export function queryCard() {
  const text = h("p", { class: "query-text", dir: "auto" });
  const about = h("div", { class: "query-about" });
  return {
    root: h("section", { class: "query", "aria-label": "Query" }, text, about),
    /** @param {Page["query"]} query */
    update(query) {
      const space = /^\s*/.exec(query.completion)?.[0] ?? "";
      text.replaceChildren(query.prompt + space, h("mark", {}, query.completion.slice(space.length)));
      // Reached by Tab only when there is something to scroll.
      text.scrollHeight > text.clientHeight + 1 ? text.setAttribute("tabindex", "0") : text.removeAttribute("tabindex");
      text.scrollTop = 0;
      about.replaceChildren(chips({ query: query.id, ...query.meta }));
    },
  };
}

/**
 * One ranked list.
 * @param {Sign} sign
 * @param {(rank: number) => void} pick
 */
export function sequenceList(sign, pick) {
  const id = `inflab-${++made}`;
  const list = h("div", { role: "listbox", tabindex: "0", "aria-labelledby": id, class: "list", "data-sign": sign });
  const none = h("p", { class: "none", hidden: "" }, `No training sequence makes this completion ${LIKELY[sign]}.`);
  const total = h("span", { class: "soft" });
  const title = h("div", { class: "title", id }, h("span", { class: `swatch ${sign}`, "aria-hidden": "true" }), `Makes it ${LIKELY[sign]} `, total);
  const rover = roving(list);
  /** @type {Item[]} */
  let shown = [];
  /** @type {HTMLElement[]} */
  let options = [];

  /** @param {Item} item @param {number} most */
  function option(item, most) {
    const bar = h("span", { class: `bar ${sign}`, "aria-hidden": "true" });
    bar.style.width = `${(100 * heat(item.effect, most)).toFixed(1)}%`;
    const measure = h("div", { class: "measure" }, h("span", { class: "number" }, signed(item.effect)), h("span", { class: "share" }, percent(item.share)), h("span", { class: "track" }, bar));
    const text = h("div", { class: "snippet", dir: "auto" }, item.text || `sequence ${item.train}`);
    const row = h("div", { role: "option", class: "item" }, h("span", { class: "rank" }, String(item.rank)), measure, h("div", {}, text, chips({ id: item.train, ...item.meta })));
    const words = `${item.rank}. ${signed(item.effect)} nat, ${percent(item.share)} of total. ${item.text}`;
    row.setAttribute("aria-label", words.slice(0, 300));
    row.addEventListener("click", () => (rover.point(item.rank - 1), pick(item.rank)));
    return row;
  }
  return {
    root: h("section", { class: "column" }, title, list, none),
    focus: () => list.focus(),
    /** @param {Command} step */
    act(step) {
      if (step === "pick") shown[rover.active()] && pick(shown[rover.active()].rank);
      else rover.move(step);
    },
    /** @param {Item[]} items @param {number} most largest effect of both lists, which share a scale */
    update(items, most) {
      shown = items;
      options = items.map((item) => option(item, most));
      list.replaceChildren(...options);
      list.scrollTop = 0;
      list.hidden = items.length === 0;
      none.hidden = items.length > 0;
      const sum = items.reduce((all, item) => all + (item.share ?? 0), 0);
      total.textContent = items.length ? `these ${items.length} hold ${percent(sum)} of the total` : "";
      rover.refill(options, 0);
    },
    /** @param {Selected | {}} selected */
    choose(selected) {
      const index = "sign" in selected && selected.sign === sign ? selected.rank - 1 : -1;
      options.forEach((row, i) => row.setAttribute("aria-selected", String(i === index)));
      if (index >= 0) rover.point(index);
    },
  };
}

/** The chosen sequence as a heat map, with a legend and the number under the pointer or the focus. */
export function tokenView() {
  const box = h("div", { role: "listbox", tabindex: "0", "aria-orientation": "horizontal", class: "tokens", dir: "auto", "aria-label": "Tokens of the chosen sequence" });
  const readout = h("p", { class: "readout" });
  const [low, high] = [h("span", { class: "end" }), h("span", { class: "end" })];
  const legend = h("div", { class: "legend" }, h("span", {}, "less likely"), low, h("span", { class: "ramp", "aria-hidden": "true" }), high, h("span", {}, "more likely"),
    h("span", { class: "soft" }, "nat per added copy; underline: ", h("u", { class: "key positive" }, "more"), ", ", h("u", { class: "key negative" }, "less")));
  const shift = h("p", { class: "soft shift" }, SHIFT);
  const waiting = h("p", { class: "none" });
  /** @type {Tokens | null} */
  let shown = null;
  const rover = roving(box, (index) => tell(index));

  /** @param {number} index */
  function tell(index) {
    if (!shown || shown.text[index] === undefined) return;
    const token = h("span", { class: "said", dir: "auto" }, visible(shown.text[index]));
    readout.replaceChildren(h("b", {}, signed(shown.effect[index])), " nat per added copy at ", token, ` token ${index + 1} of ${shown.text.length}`);
  }
  /** @param {Tokens} tokens @param {number} index @param {number} most */
  function option(tokens, index, most) {
    const [text, effect] = [tokens.text[index], tokens.effect[index]];
    const strength = heat(effect, most);
    const span = h("span", { role: "option", "aria-selected": "false", title: `${signed(effect)} nat per added copy` }, visible(text));
    span.className = `token ${effect === null || effect === 0 ? "zero" : effect < 0 ? "negative" : "positive"}${strength > 0.2 ? " marked" : ""}`;
    span.style.setProperty("--heat", `${Math.round(100 * strength)}%`);
    span.setAttribute("aria-label", `${visible(text).trim()}, ${signed(effect)} nat`);
    span.addEventListener("mouseenter", () => tell(index));
    span.addEventListener("click", () => rover.point(index));
    return span;
  }
  box.addEventListener("mouseleave", () => tell(rover.active()));
  return {
    root: h("div", { class: "token-view" }, waiting, box, readout, legend, shift),
    /** @param {Command} step */
    act: (step) => rover.move(step),
    /** @param {Tokens | null} tokens @param {string} note what to say when there are none */
    update(tokens, note) {
      shown = tokens;
      waiting.textContent = note;
      waiting.hidden = tokens !== null;
      for (const part of [box, readout, legend, shift]) part.hidden = tokens === null;
      if (tokens === null) return box.replaceChildren();
      const most = largest(tokens.effect);
      const options = tokens.text.map((_, index) => option(tokens, index, most));
      box.replaceChildren();
      options.forEach((span, index) => {
        box.append(span);
        if (/\n$/.test(tokens.text[index])) box.append("\n"); // the line break itself, after its sign
      });
      box.scrollTop = 0;
      [low.textContent, high.textContent] = [signed(-most), signed(most)];
      rover.refill(options, tokens.effect.findIndex((effect) => Math.abs(effect ?? 0) === most));
    },
  };
}

/** The layer profile: an image in the inks of a light and of a dark page; the style sheet shows one. */
export function layerProfile() {
  const root = h("div", { class: "profile" });
  return {
    root,
    /** @param {Profile | null} profile */
    update(profile) {
      const pictures = profile ? [profile.svg, Object.entries(profile.dark).reduce((svg, [from, to]) => svg.replaceAll(from, to), profile.svg)] : [];
      root.replaceChildren(...pictures.map((svg, i) =>
        h("img", { class: i ? "for-dark" : "for-light", alt: profile?.alt ?? "", src: `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}` })));
    },
  };
}

// ---------------------------------------------------------------- the whole

/**
 * Draw the Explorer.
 * @param {{model: Model, el: HTMLElement}} host
 * @returns {() => void} takes the listeners away
 */
function render({ model, el }) {
  /** @type {Summary} */
  const summary = model.get("_summary");
  const steps = stepper((name) => step(name));
  const query = queryCard();
  const lists = { positive: sequenceList("positive", (rank) => pick("positive", rank)), negative: sequenceList("negative", (rank) => pick("negative", rank)) };
  const tokens = tokenView();
  const layers = layerProfile();
  const problem = h("div", { role: "alert", class: "problem", hidden: "" });
  const headline = h("div", { class: "headline" });
  const about = h("span", { class: "soft about" }, [summary.method, `${summary.n_train.toLocaleString("en")} training sequences`, `effect in ${summary.units}`].filter(Boolean).join(" · "));
  const root = h("div", { class: "inflab-explorer", tabindex: "0", role: "group", "aria-label": "Influence explorer", "data-lm-suppress-shortcuts": "true" },
    h("div", { class: "bar-top" }, steps.root, about), problem, query.root,
    h("div", { class: "columns" }, lists.positive.root, lists.negative.root),
    h("section", { class: "detail", "aria-label": "Chosen sequence" }, headline, h("div", { class: "detail-body" }, tokens.root, layers.root)),
    h("p", { class: "soft keys" }, KEYS));

  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let patience;
  let turn = model.get("_asked").turn ?? 0;
  /** @returns {Page} */
  const page = () => model.get("_page");
  const isFresh = () => page().position === model.get("position");

  /** @param {Command} name */
  function step(name) {
    const [now, last] = [model.get("position"), summary.n_query - 1];
    const to = Math.max(0, Math.min(last, { first: 0, previous: now - 1, next: now + 1, last }[/** @type {string} */ (name)] ?? now));
    if (to === now) return;
    model.set("position", to);
    model.save_changes();
  }
  /** @param {Sign} sign @param {number} rank */
  function pick(sign, rank) {
    const item = page()[sign].find((one) => one.rank === rank);
    if (!item || !isFresh()) return; // the list on screen is of a query already left
    model.set("selected", { query: page().query.id, train: item.train, rank, sign });
    model.save_changes();
  }
  function drawPlace() {
    steps.update(model.get("position"), summary.n_query);
    root.setAttribute("aria-busy", String(!isFresh()));
  }
  function drawPage() {
    const { query: asked, positive, negative } = page();
    const most = largest([...positive, ...negative].map((item) => item.effect));
    query.update(asked);
    SIGNS.forEach((sign) => lists[sign].update(page()[sign], most));
    drawPlace();
    drawChoice();
  }
  function drawChoice() {
    /** @type {Selected | {}} */
    const selected = model.get("selected");
    SIGNS.forEach((sign) => lists[sign].choose(selected));
    const item = "sign" in selected ? page()[selected.sign].find((one) => one.rank === selected.rank && one.train === selected.train) : undefined;
    if (item && "sign" in selected) {
      headline.replaceChildren(h("b", {}, `Sequence ${item.train}`), ` · rank ${item.rank} of those that make it ${LIKELY[selected.sign]} · one more copy is predicted, to first order, to change the completion by `,
        h("b", { class: "number" }, `${signed(item.effect)} nat`), factor(item.effect), chips(item.meta));
    } else headline.replaceChildren();
    drawTokens();
    drawProfile();
  }
  function drawTokens() {
    askForProfile();
    const [selected, sent] = [model.get("selected"), model.get("_tokens")];
    const note = !("sign" in selected) ? "No sequence to look into." : model.get("error") ? "No tokens to show." : "Reading its tokens …";
    tokens.update(samePair(sent, selected) ? sent : null, note);
  }
  function drawProfile() {
    const sent = model.get("_profile");
    layers.update(samePair(sent, model.get("selected")) && sent.svg ? sent : null);
  }
  /** When the reader stays on a sequence whose tokens are there: drawing takes longer than a step. */
  function askForProfile() {
    clearTimeout(patience);
    const selected = model.get("selected");
    if (!samePair(model.get("_tokens"), selected) || samePair(model.get("_profile"), selected)) return;
    patience = setTimeout(() => {
      // The turn makes every question a new one: an earlier one may have found the kernel busy with another query.
      model.set("_asked", { ...selected, turn: ++turn });
      model.save_changes();
    }, 120);
  }
  /** @param {string} words */
  function complain(words) {
    problem.textContent = words;
    problem.hidden = words === "";
  }
  /** Whatever fails is said in the widget. @template {unknown[]} A @param {(...values: A) => void} action */
  const guarded = (action) => (/** @type {A} */ ...values) => {
    try {
      action(...values);
    } catch (error) {
      complain(`The view failed: ${error instanceof Error ? error.message : error}`);
    }
  };

  const onKey = guarded((/** @type {KeyboardEvent} */ event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    const list = SIGNS.find((sign) => lists[sign].root.contains(target));
    const place = list ? "list" : target.closest(".tokens") ? "tokens" : target.closest(".query-text") ? "text" : "root";
    const plain = !event.ctrlKey && !event.metaKey && !event.altKey;
    if (plain && event.key !== "Tab" && !(place === "root" && event.key === "Escape")) event.stopPropagation();
    const name = command(event, place);
    if (name === null) return;
    event.preventDefault();
    if (name === "leave") root.focus();
    else if (name === "into") (page().positive.length ? lists.positive : lists.negative).focus();
    else if (list && name !== "next" && name !== "previous") lists[list].act(name);
    else if (place === "tokens") tokens.act(name);
    else step(name);
  });
  root.addEventListener("keydown", onKey);

  /** @type {[string, () => void][]} */
  const listeners = [
    ["change:position", drawPlace], ["change:_page", drawPage], ["change:selected", drawChoice], ["change:_tokens", drawTokens],
    ["change:_profile", drawProfile], ["change:error", () => (complain(model.get("error")), drawTokens())],
  ].map(([name, draw]) => [/** @type {string} */ (name), guarded(/** @type {() => void} */ (draw))]);
  for (const [name, draw] of listeners) model.on(name, draw);

  el.append(root);
  guarded(() => (drawPage(), complain(model.get("error"))))();
  return () => {
    clearTimeout(patience);
    for (const [name, draw] of listeners) model.off(name, draw);
    root.removeEventListener("keydown", onKey);
  };
}

export default { render };
