// @ts-check
// What every widget shares: a root that keeps its keys from the notebook, errors in words, questions and answers.
import { h } from "./dom.js";

/** @typedef {{what: string, done: number, total: number}} Progress */
/** @typedef {(kind: string, args?: Record<string, unknown>, onProgress?: (progress: Progress) => void) => Promise<any>} Ask */
/** @typedef {{get(name: string): any, set(name: string, value: any): void, save_changes(): void, send(content: any): void, on(name: string, call: (...values: any[]) => void): void, off(name: string, call: (...values: any[]) => void): void}} Model */
/** @typedef {{model: Model, ask: Ask, set(values: Record<string, unknown>): void, complain(words: string): void, root: HTMLElement}} Host */
/**
 * What a part gives its host: what it shows, what it does when a trait changes, on a key, at the end.
 * @typedef {{children: (Node | string)[], listeners?: Record<string, () => void>, onKey?: (event: KeyboardEvent) => boolean, start?: () => void, cleanUp?: () => void}} Built
 */

/**
 * Questions to the Python side (inflab/widgets/base.py). A promise is kept when the answer comes, and broken, with the
 * error in words, when there is none.
 * @param {Model} model
 * @returns {{ask: Ask, close: () => void}}
 */
export function asking(model) {
  const mine = Math.random().toString(36).slice(2); // every view of a model hears all answers
  let count = 0;
  /** @type {Map<string, {keep: (answer: any) => void, fail: (error: Error) => void, onProgress?: (progress: Progress) => void}>} */
  const open = new Map();
  /** @param {any} message */
  function hear(message) {
    const waiting = open.get(message?.id);
    if (!waiting) return;
    if ("progress" in message) return waiting.onProgress?.(message.progress);
    open.delete(message.id);
    if ("error" in message) waiting.fail(new Error(message.error));
    else waiting.keep(message.answer);
  }
  model.on("msg:custom", hear);
  return {
    ask(kind, args = {}, onProgress) {
      const id = `${mine}-${++count}`;
      return new Promise((keep, fail) => {
        open.set(id, { keep, fail, onProgress });
        model.send({ id, kind, args });
      });
    },
    close: () => model.off("msg:custom", hear),
  };
}

/** The same question again and again, of which only the newest answer counts: an older one comes as undefined. @param {Ask} ask @returns {Ask} */
export function newest(ask) {
  let turn = 0;
  return async (kind, args, onProgress) => {
    const mine = ++turn;
    try {
      const answer = await ask(kind, args, (progress) => mine === turn && onProgress?.(progress));
      return mine === turn ? answer : undefined;
    } catch (error) {
      if (mine === turn) throw error;
    }
  };
}

/**
 * A front-end module of anywidget.
 * @param {string} name class of the root
 * @param {string} label what it is, for those who hear it
 * @param {(host: Host) => Built} build
 */
export function widget(name, label, build) {
  return {
    /** @param {{model: Model, el: HTMLElement}} given */
    render({ model, el }) {
      const problem = h("div", { role: "alert", class: "problem", hidden: "" });
      const root = h("div", { class: `inflab inflab-${name}`, tabindex: "0", role: "group", "aria-label": label, "data-lm-suppress-shortcuts": "true" });
      /** @param {string} words */
      function complain(words) {
        problem.textContent = words;
        problem.hidden = words === "";
      }
      /** Whatever fails is said in the widget. @template {unknown[]} A @param {(...values: A) => any} action */
      const guarded = (action) => (/** @type {A} */ ...values) => {
        try {
          return action(...values);
        } catch (error) {
          complain(`The view failed: ${inWords(error)}`);
        }
      };
      const { ask, close } = asking(model);
      /** @type {Host} */
      const host = {
        model, ask, complain, root,
        set(values) {
          for (const [key, value] of Object.entries(values)) model.set(key, value);
          model.save_changes();
        },
      };
      el.append(root);
      /** @type {Built} */
      let built = { children: [] };
      guarded(() => (built = build(host)))();
      root.append(problem, ...built.children);

      const onKey = guarded((/** @type {KeyboardEvent} */ event) => {
        const isPlain = !event.ctrlKey && !event.metaKey && !event.altKey;
        const isOurs = event.key !== "Tab" && !(event.key === "Escape" && event.target === root);
        if (isPlain && isOurs) event.stopPropagation(); // a key pressed here is not for the notebook
        if (built.onKey?.(event)) event.preventDefault();
      });
      root.addEventListener("keydown", onKey);
      const listeners = Object.entries(built.listeners ?? {}).map(([event, call]) => /** @type {const} */ ([event, guarded(call)]));
      listeners.push(["change:error", () => complain(model.get("error") ?? "")]);
      for (const [event, call] of listeners) model.on(event, call);
      guarded(() => built.start?.())();
      if (model.get("error")) complain(model.get("error"));
      return () => {
        for (const [event, call] of listeners) model.off(event, call);
        root.removeEventListener("keydown", onKey);
        close();
        built.cleanUp?.();
      };
    },
  };
}

/** @param {unknown} error */
export function inWords(error) {
  return error instanceof Error ? error.message : String(error);
}
