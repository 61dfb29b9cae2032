// @ts-check
// The tokens of one training sequence as a heat map, in three views (METHOD section 5).
import { button, h, newId } from "./dom.js";
import { heatMap } from "./heat_map.js";
import { widget } from "./host.js";
import { heatLegend, pairPicker, saidToken, tokenLine } from "./token_line.js";
import { largest, signed } from "./words.js";

/** @typedef {"update" | "output" | "input"} TokenViewName */
/** @typedef {{text?: string[], effect?: (number | null)[], units?: string, view?: string, views?: string[], note?: string, sum?: number | null, total?: number | null, token?: number}} TokenData */

/** @type {Record<TokenViewName, {name: string, means: string, shift: string}>} */
export const TOKEN_VIEWS = {
  update: {
    name: "update",
    means: "What the weight update made at each token position adds to the effect.",
    shift: "It sits one token early: a position reads its token and learns to predict the next one (and, through attention, later ones), so look one token to the right for the word it taught.",
  },
  output: {
    name: "output",
    means: "How much of the effect lies in each predicted token: what it gains itself when the weights move towards the query.",
    shift: "No shift: a number stands at the predicted token itself.",
  },
  input: {
    name: "input",
    means: "What scaling the token's embedding would change in the effect: a derivative, so the numbers need not sum to it.",
    shift: "No shift: a number stands at the token that is read.",
  },
};

/** What is known of a view. @param {string} view */
function aboutTokenView(view) {
  return view in TOKEN_VIEWS ? TOKEN_VIEWS[/** @type {TokenViewName} */ (view)] : { name: view, means: "", shift: "" };
}

/** Which view; arrows choose within it. @param {(view: string) => void} onView */
function tokenViewSwitch(onView) {
  const group = newId();
  const root = h("div", { role: "radiogroup", "aria-label": "Token view", class: "token-switch" });
  /** @type {HTMLInputElement[]} */
  let inputs = [];
  root.addEventListener("keydown", (event) => {
    if (!["Tab", "Escape"].includes(event.key)) event.stopPropagation(); // elsewhere arrows step through queries
  });
  return {
    root,
    /** @param {string[]} views @param {string} view */
    update(views, view) {
      if (inputs.map((input) => input.value).join() !== views.join()) {
        inputs = views.map((name) => {
          const input = h("input", { type: "radio", name: group, value: name });
          input.addEventListener("change", () => input.checked && onView(name));
          return input;
        });
        root.replaceChildren(...inputs.map((input) => h("label", { title: aboutTokenView(input.value).means }, input, aboutTokenView(input.value).name)));
      }
      for (const input of inputs) input.checked = input.value === view;
      root.hidden = views.length < 2;
    },
  };
}

/**
 * A sequence in colour, with the number under the pointer or the focus.
 * @param {{onView?: (view: string) => void, onToken?: (index: number) => void}} [actions]
 */
export function tokenView({ onView = () => {}, onToken = () => {} } = {}) {
  const views = tokenViewSwitch(onView);
  const toggle = button("Show whitespace", () => {
    withBlanks = !withBlanks;
    toggle.setAttribute("aria-pressed", String(withBlanks));
    draw(true);
  }, { "aria-pressed": "false" });
  const line = tokenLine("Tokens of the chosen sequence", { onActive: tell, onHover: tell, onMove: onToken });
  const readout = h("p", { class: "token-readout" });
  const legend = heatLegend();
  const meaning = h("p", { class: "soft token-meaning", "aria-live": "polite" });
  const waiting = h("p", { class: "none" });
  let withBlanks = false;
  /** @type {TokenData & {text: string[], effect: (number | null)[]} | null} */
  let shown = null;

  /** @param {number} index */
  function tell(index) {
    if (shown?.text[index] === undefined) return;
    readout.replaceChildren(h("b", {}, signed(shown.effect[index])), ` ${shown.units} at`, ...saidToken(shown.text[index]), `token ${index + 1} of ${shown.text.length}`);
  }
  /** @param {boolean} isNewText @param {number} [token] */
  function draw(isNewText, token) {
    if (!shown) return;
    const place = line.active();
    const most = largest(shown.effect);
    if (isNewText) line.write(shown.text, withBlanks);
    line.paint(shown.effect, most, shown.units ?? "", token ?? place);
    legend.update(most, shown.units ?? "", shown.view);
  }
  function drawMeaning() {
    const { means, shift } = aboutTokenView(shown?.view ?? "update");
    const { sum = null, total = null, units = "" } = shown ?? {};
    const isWhole = sum !== null && total !== null && Math.abs(sum - total) <= 0.005 * Math.abs(total);
    const sums = sum === null ? "" : isWhole ? ` The numbers sum to the whole effect, ${signed(total)} ${units}.`
      : ` The numbers sum to ${signed(sum)} ${units}${total === null ? "" : `, the whole effect is ${signed(total)}`}.`;
    if (meaning.textContent === `${means} ${shift}${sums}`) return; // said already
    meaning.replaceChildren(h("b", {}, means), ` ${shift}${sums}`);
  }
  return {
    root: h("div", { class: "token-view" }, h("div", { class: "token-bar" }, views.root, toggle), waiting, line.root, readout, legend.root, meaning),
    /** @param {number} index */
    point: (index) => line.point(index),
    /** Nothing to show yet when there is no `text`: `note` says why. @param {TokenData | null} data */
    update(data) {
      const { text, effect = [], view = "update", note = "No sequence to look into." } = data ?? {};
      const isSame = shown !== null && text !== undefined && shown.text.length === text.length && shown.text.every((piece, i) => piece === text[i]);
      shown = text?.length ? { ...data, text, effect, view } : null;
      views.update(data?.views ?? [view], view);
      waiting.textContent = text?.length === 0 ? "This sequence has no tokens." : note;
      waiting.hidden = shown !== null;
      for (const part of [line.root, readout, legend.root, meaning, toggle]) part.hidden = shown === null;
      if (!shown) return line.write([]);
      const most = largest(effect);
      const strongest = effect.findIndex((number) => Math.abs(number ?? 0) === most);
      draw(!isSame, data?.token ?? (isSame ? undefined : strongest));
      drawMeaning();
    },
  };
}

export default widget("token-view", "Token view", ({ model, set }) => {
  const picker = pairPicker({ onPosition: (position) => set({ position }), onRank: (rank) => set({ rank }) });
  const view = tokenView({ onView: (name) => set({ view: name }), onToken: (token) => set({ token }) });
  const layers = heatMap();
  const byLayer = h("details", { class: "token-layers" }, h("summary", {}, "Layer by layer"), layers.root);
  const drawLayers = () => {
    const { heat, text, units } = model.get("_tokens");
    byLayer.hidden = !heat;
    if (byLayer.open) layers.update(heat ? { ...heat, text, units } : null);
  };
  byLayer.addEventListener("toggle", drawLayers);
  const draw = () => {
    view.update({ ...model.get("_tokens"), token: model.get("token") });
    drawLayers();
  };
  const choose = () => picker.update(model.get("_choices"), model.get("position"), model.get("rank"));
  return {
    children: [picker.root, view.root, byLayer],
    listeners: { "change:_tokens": draw, "change:token": () => view.point(model.get("token")), "change:_choices": choose, "change:position": choose, "change:rank": choose },
    start: () => (choose(), draw()),
  };
});
