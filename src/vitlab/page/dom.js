// Small helpers for elements and canvases. Text is always inserted as text, never as markup.

/** @import { Squares } from "./net/model.js" */
/** @typedef {Record<string, string | number | boolean | null | undefined | ((event: any) => void)>} Attributes */

/**
 * The element with this id in index.html.
 * @template {HTMLElement} [T=HTMLElement]
 * @param {string} id
 * @param {new () => T} kind
 * @returns {T}
 */
export function byId(id, kind = /** @type {any} */ (HTMLElement)) {
  const element = document.getElementById(id);
  if (element instanceof kind) return element;
  throw new Error(`index.html has no ${kind.name} with the id ${id}`);
}

/**
 * el("li", {class: "x", "aria-label": "y", onclick: f}, "text", child): an element. No inline style: the policy forbids
 * it.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag @param {Attributes} attributes @param {(Node | string)[]} children
 */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  assign(made, attributes);
  made.append(...children);
  return made;
}

/**
 * @template {keyof SVGElementTagNameMap} K
 * @param {K} tag @param {Attributes} attributes @param {(Node | string)[]} children
 */
export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  assign(made, attributes);
  made.append(...children);
  return made;
}

/** @param {Element} element @param {Attributes} attributes */
function assign(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, String(value));
  }
}

/**
 * Sets the text only if it changed: nothing is laid out or announced twice.
 * @param {Element} element @param {string} text
 */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Sets an attribute only if it changed.
 * @param {Element} element @param {string} name @param {string} value
 */
export function setAttribute(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/**
 * Keeps `count` children in `parent`, made by make(i).
 * @template {HTMLElement} T
 * @param {HTMLElement} parent @param {number} count @param {(index: number) => T} make
 * @returns {T[]}
 */
export function keep(parent, count, make) {
  while (parent.children.length > count) parent.lastElementChild?.remove();
  while (parent.children.length < count) parent.append(make(parent.children.length));
  return /** @type {T[]} */ ([...parent.children]);
}

/**
 * @param {Element} parent
 * @returns {HTMLElement[]}
 */
export const childrenOf = (parent) => /** @type {HTMLElement[]} */ ([...parent.children]);

/**
 * The first descendant of this kind.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {Element} parent @param {K} tag
 */
export function part(parent, tag) {
  const found = parent.querySelector(tag);
  if (found === null) throw new Error(`no ${tag} in ${parent.tagName}`);
  return found;
}

/** @param {HTMLCanvasElement} canvas */
function contextOf(canvas) {
  const context = canvas.getContext("2d");
  if (context === null) throw new Error("this browser cannot draw on a canvas");
  return context;
}

/**
 * A context in CSS pixels for a canvas of the size it has on the page, or width x height, sharp on any screen.
 * @param {HTMLCanvasElement} canvas
 */
export function surface(canvas, width = canvas.clientWidth, height = canvas.clientHeight) {
  const ratio = Math.min(window.devicePixelRatio || 1, 3);
  const w = Math.max(1, Math.round(width * ratio));
  const h = Math.max(1, Math.round(height * ratio));
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  const context = contextOf(canvas);
  context.setTransform(w / width, 0, 0, h / height, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

/**
 * A canvas of these pixels: values (row, column, channel; 1 or 3 channels), which become 0..255 times `scale`.
 * @param {ArrayLike<number>} values @param {number} width @param {number} height
 */
export function picture(values, width, height, channels = 1, scale = 255) {
  return pixelCanvas(width, height, (data, i) => {
    for (let c = 0; c < 3; c++) data[4 * i + c] = Math.round(values[channels === 3 ? 3 * i + c : i] * scale);
    data[4 * i + 3] = 255;
  });
}

/**
 * A new canvas whose pixels are set one by one.
 * @param {number} width @param {number} height @param {(data: Uint8ClampedArray, pixel: number) => void} set
 */
function pixelCanvas(width, height, set) {
  const canvas = el("canvas", { width, height });
  const context = contextOf(canvas);
  const image = context.createImageData(width, height);
  for (let i = 0; i < width * height; i++) set(image.data, i);
  context.putImageData(image, 0, 0);
  return canvas;
}

/** @type {Map<string, string>} */
const colours = new Map();

/**
 * The value of one of the page's custom properties; cached, because canvases ask often.
 * @param {string} name
 */
export function css(name) {
  const known = colours.get(name);
  if (known !== undefined) return known;
  const value = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  colours.set(name, value);
  return value;
}

/** For when the colour scheme changes. */
export const forgetColours = () => colours.clear();

/** Whether there is only a finger to point with. */
export const byTouch = () => window.matchMedia("(hover: none)").matches;

export const calmMotion = () => window.matchMedia("(prefers-reduced-motion: reduce)").matches;

/**
 * Draws one patch of the network's input `whole` as a square of `size` pixels at (x, y).
 * @param {CanvasRenderingContext2D} context @param {HTMLCanvasElement} whole @param {Squares} squares
 * @param {number} patch @param {number} x @param {number} y @param {number} size
 */
export function drawPatch(context, whole, { grid, side, margin }, patch, x, y, size) {
  const left = margin + side * (patch % grid);
  const top = margin + side * Math.floor(patch / grid);
  context.drawImage(whole, left, top, side, side, x, y, size, size);
}
