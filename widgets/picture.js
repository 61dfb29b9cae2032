// @ts-check
// The picture on screen as a file: SVG with the colours it has now, or PNG.
import { button, h } from "./dom.js";

const PICTURE_STYLES = ["fill", "stroke", "stroke-width", "stroke-dasharray", "opacity", "fill-opacity", "font-family", "font-size", "font-weight", "text-anchor", "dominant-baseline", "visibility", "display"];

/**
 * A copy of a picture that needs no style sheet.
 * @param {SVGSVGElement} drawn
 * @returns {string}
 */
export function standAlone(drawn) {
  const copy = /** @type {SVGSVGElement} */ (drawn.cloneNode(true));
  const [from, to] = [[drawn, ...drawn.querySelectorAll("*")], [copy, ...copy.querySelectorAll("*")]];
  from.forEach((element, i) => {
    const now = getComputedStyle(element);
    to[i].setAttribute("style", PICTURE_STYLES.map((name) => `${name}:${now.getPropertyValue(name)}`).join(";"));
  });
  const { width, height } = drawn.getBoundingClientRect();
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("width", String(Math.ceil(width)));
  copy.setAttribute("height", String(Math.ceil(height)));
  const page = getComputedStyle(drawn.closest(".inflab") ?? drawn).backgroundColor;
  copy.style.background = page;
  return new XMLSerializer().serializeToString(copy);
}

/** @param {Blob} blob @param {string} name */
export function download(blob, name) {
  const url = URL.createObjectURL(blob);
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

/** Buttons that save the first picture of what is shown. @param {() => Element | null} place */
export function savePicture(place) {
  /** @param {(drawn: SVGSVGElement | HTMLCanvasElement) => void} save */
  const withPicture = (save) => () => {
    const drawn = [...(place()?.querySelectorAll("svg, canvas") ?? [])].find((one) => one.checkVisibility() && one.getBoundingClientRect().height > 60);
    if (drawn) save(/** @type {SVGSVGElement | HTMLCanvasElement} */ (drawn));
    said.textContent = drawn ? "" : "No picture here.";
  };
  const said = h("span", { class: "soft", role: "status" });
  const asSvg = button("Save SVG", withPicture((drawn) => drawn instanceof SVGElement
    ? download(new Blob([standAlone(drawn)], { type: "image/svg+xml" }), "inflab.svg") : asPixels(drawn)));
  const asPng = button("Save PNG", withPicture((drawn) => asPixels(drawn)));
  return h("div", { class: "save-picture" }, asSvg, asPng, said);
}

/** @param {SVGSVGElement | HTMLCanvasElement} drawn */
function asPixels(drawn) {
  if (drawn instanceof HTMLCanvasElement) return drawn.toBlob((blob) => blob && download(blob, "inflab.png"));
  const { width, height } = drawn.getBoundingClientRect();
  const image = new Image();
  image.addEventListener("load", () => {
    const canvas = h("canvas", { width: String(2 * Math.ceil(width)), height: String(2 * Math.ceil(height)) });
    canvas.getContext("2d")?.drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => blob && download(blob, "inflab.png"));
  });
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(standAlone(drawn))}`;
}
