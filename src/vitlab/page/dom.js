// Small helpers for elements, canvases and numbers. Text always enters as text, never as markup.

export const byId = (id) => document.getElementById(id);

// el("li", {class: "x", "aria-label": "y", onclick: f}, "text", child): an element. No inline style: the policy
// forbids it.
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  assign(made, attributes);
  made.append(...children);
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  assign(made, attributes);
  made.append(...children);
  return made;
}

function assign(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
}

// Set the text only if it changed, so that nothing is laid out or announced twice.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Keep `count` children in `parent`, made by make(i).
export function keep(parent, count, make) {
  while (parent.children.length > count) parent.lastElementChild.remove();
  while (parent.children.length < count) parent.append(make(parent.children.length));
  return parent.children;
}

// A 2-d context in CSS pixels for a canvas of the size it has on the page (or width x height if given), sharp on any
// screen.
export function surface(canvas, width = canvas.clientWidth, height = canvas.clientHeight) {
  const ratio = Math.min(window.devicePixelRatio || 1, 3);
  const w = Math.max(1, Math.round(width * ratio));
  const h = Math.max(1, Math.round(height * ratio));
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  const context = canvas.getContext("2d");
  context.setTransform(w / width, 0, 0, h / height, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

// A picture as a canvas of its own size: values (row, column, channel; 1 or 3 channels), times `scale` = 0..255.
export function picture(values, width, height, channels = 1, scale = 255, into = document.createElement("canvas")) {
  if (into.width !== width || into.height !== height) Object.assign(into, { width, height });
  const context = into.getContext("2d");
  const data = context.createImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) data.data[4 * i + c] = Math.round(values[channels === 3 ? 3 * i + c : i] * scale);
    data.data[4 * i + 3] = 255;
  }
  context.putImageData(data, 0, 0);
  return into;
}

// The same, transparent where it is dark: to lay a digit over a map.
export function veil(values, size, channels = 1, strength = 0.8, into = document.createElement("canvas")) {
  if (into.width !== size) Object.assign(into, { width: size, height: size });
  const context = into.getContext("2d");
  const data = context.createImageData(size, size);
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const most = (255 * strength) / (1 + 2 * mean); // a picture that is bright all over must not hide the map
  for (let i = 0; i < size * size; i++) {
    let value = 0;
    for (let c = 0; c < channels; c++) value += values[channels * i + c] / channels;
    data.data.fill(255, 4 * i, 4 * i + 3);
    data.data[4 * i + 3] = Math.round(most * value);
  }
  context.putImageData(data, 0, 0);
  return into;
}

// 0.9984 -> "99.8 %": never 100 % for less than 1, never 0 % for more than 0.
export function percent(p, digits = 1) {
  if (p > 0 && 100 * p < 0.5 * 10 ** -digits) return `< ${10 ** -digits} %`;
  if (p < 1 && 100 * p >= 100 - 0.5 * 10 ** -digits) return `> ${(100 - 10 ** -digits).toFixed(digits)} %`;
  return `${(100 * p).toFixed(digits)} %`;
}

export const argmax = (values) => values.reduce((best, value, i) => (value > values[best] ? i : best), 0);

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

const colours = new Map();

// The value of a custom property of the page's colours; remembered, for canvases ask often.
export function css(name) {
  if (!colours.has(name)) colours.set(name, getComputedStyle(document.documentElement).getPropertyValue(name).trim());
  return colours.get(name);
}

// Another colour scheme is on.
export const forgetColours = () => colours.clear();

export const calmMotion = () => window.matchMedia("(prefers-reduced-motion: reduce)").matches;

// One patch of the picture `whole` of the network's input, as a square of `size` pixels at (x, y).
export function drawPatch(context, whole, { grid, side, margin }, patch, x, y, size) {
  const left = margin + side * (patch % grid);
  const top = margin + side * Math.floor(patch / grid);
  context.drawImage(whole, left, top, side, side, x, y, size, size);
}
