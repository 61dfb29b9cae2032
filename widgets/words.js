// @ts-check
// Numbers, shares and tokens in words. inflab/widgets/payload.py writes numbers the same way.

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
