// @ts-check
// Waiting for an answer: how far it is, a way to give up, and what went wrong, said beside what was asked.
import { button, h, newId } from "./dom.js";
import { inWords } from "./host.js";

/** @typedef {import("./host.js").Ask} WaitingAsk */
/** @typedef {import("./host.js").Progress} WaitingProgress */

const GIVEN_UP =
  "Stopped waiting; the answer will be thrown away. The kernel still finishes what it has begun, and other questions " +
  "wait for it: to end it at once, interrupt the kernel (■).";

/** How far, in words. @param {WaitingProgress} progress */
export function howFar({ what, done, total }) {
  return total > 0 ? `${what}: ${done} of ${total}` : what;
}

/**
 * One question at a time.
 * @param {WaitingAsk} ask
 * @param {(isBusy: boolean) => void} [onBusy]
 */
export function waiting(ask, onBusy = () => {}) {
  const id = newId();
  const words = h("span", { id, class: "waiting-words" });
  const bar = h("progress", { "aria-labelledby": id });
  const stop = button("Stop waiting", () => stopped());
  const line = h("div", { class: "waiting-line", hidden: "" }, words, bar, stop);
  const problem = h("div", { role: "alert", class: "problem", hidden: "" });
  const note = h("p", { role: "status", class: "soft waiting-note" });
  let stopped = () => {};
  let isBusy = false;

  /** @param {boolean} now */
  function busy(now) {
    isBusy = now;
    line.hidden = !now;
    onBusy(now);
  }
  /** @param {string} said */
  function complain(said) {
    problem.textContent = said;
    problem.hidden = said === "";
  }
  return {
    root: h("div", { class: "waiting" }, line, problem, note),
    busy: () => isBusy,
    complain,
    /**
     * Ask; undefined when the reader gives up, when it fails (which is said), or when another answer is waited for.
     * @param {string} what is being done
     * @param {string} kind
     * @param {Record<string, unknown>} args
     * @returns {Promise<any>}
     */
    async run(what, kind, args) {
      if (isBusy) return undefined;
      const before = /** @type {HTMLElement | null} */ (/** @type {Document} */ (line.getRootNode()).activeElement ?? null);
      complain("");
      note.textContent = "";
      words.textContent = what;
      bar.removeAttribute("value"); // how far is not known yet
      let isWaiting = true;
      busy(true);
      const given = new Promise((keep) => {
        stopped = () => (keep(undefined), (note.textContent = GIVEN_UP));
      });
      /** @param {WaitingProgress} progress */
      const tell = (progress) => {
        if (!isWaiting) return;
        words.textContent = howFar(progress);
        if (progress.total > 0) [bar.max, bar.value] = [progress.total, progress.done];
      };
      try {
        return await Promise.race([given, ask(kind, args, tell)]);
      } catch (error) {
        complain(inWords(error));
      } finally {
        isWaiting = false;
        const hadFocus = line.contains(/** @type {Document} */ (line.getRootNode()).activeElement);
        busy(false);
        if (hadFocus) before?.focus(); // a hidden button would drop it
      }
    },
  };
}
