// A visitor's own classes for "Train one here": drawings are added to them from a bar below the drawing area.

import { byId, el, keep, part, picture, setAttribute, setText, surface } from "../dom.js";
import { saveFile } from "../downloads.js";
import { LEAST } from "../learn/drawings.js";
import { toNpz } from "../learn/npz.js";
import { centerDrawing } from "../net/drawing.js";
import { toPixels } from "../pictures.js";

/** @import { Slate } from "../draw.js" */
/** @import { Collected } from "../learn/drawings.js" */

const CLASSES = ["A", "B", "C"];
const MOST = 100; // drawings of a class
const MOST_LETTERS = 20;
const SIDE = 28;
const THUMB = 36; // pixels

/** @typedef {ReturnType<typeof createOwn>} Own */

/** @param {Slate} slate */
export function createOwn(slate) {
  /** @type {Uint8Array[][]} */
  const drawings = CLASSES.map(() => []);
  const fields = CLASSES.map((letter, i) =>
    el("input", { type: "text", value: letter, maxlength: MOST_LETTERS, "aria-label": `Name of class ${i + 1}` }),
  );
  const lists = CLASSES.map(() => el("ul", { class: "own-list" }));
  const counts = CLASSES.map(() => el("span", { class: "small" }));
  const adders = CLASSES.map((_, i) => el("button", { type: "button", onclick: () => add(i) }));
  const chosen = () => byId("train-from-own", HTMLInputElement).checked;
  const name = (/** @type {number} */ i) => fields[i].value.trim() || CLASSES[i];
  const save = byId("own-save", HTMLButtonElement);

  byId("own-classes").append(
    ...CLASSES.map((_, i) =>
      el("div", { class: "own-class" }, el("div", { class: "own-head" }, fields[i], counts[i]), lists[i]),
    ),
  );
  byId("own-add").append(...adders);
  for (const field of fields) field.addEventListener("input", show);
  for (const id of ["train-from-page", "train-from-own"]) byId(id).addEventListener("change", show);
  byId("own-draw").addEventListener("click", () => {
    byId("draw-title").scrollIntoView(); // on a phone its section has no box
    byId("slate").focus({ preventScroll: true });
  });
  byId("own-done").addEventListener("click", () => {
    byId("train").scrollIntoView();
    byId("train-play").focus({ preventScroll: true });
  });
  save.addEventListener("click", () => {
    const { names, images, labels } = collected();
    saveFile(toNpz(images, labels, names, SIDE, 1), "drawings.npz");
  });
  show();

  /** @param {number} i */
  function add(i) {
    slate.stop();
    const { placed, box, reason } = centerDrawing(toPixels(slate.pixels(), 3));
    if (box === null || slate.empty()) return say("There is no drawing yet: draw one, then say which it is.");
    if (reason !== null) return say(`This drawing cannot be used: ${reason}.`);
    if (drawings[i].length >= MOST) return say(`${name(i)} has ${MOST} drawings; that is enough.`);
    drawings[i].push(placed);
    slate.clear();
    show();
    say(missing() ?? "Enough to train with. More make it better.");
  }

  /** @param {string} sentence */
  const say = (sentence) => setText(byId("own-say"), sentence);

  // What must still be drawn; null if nothing.
  function missing() {
    const few = drawings.flatMap(({ length }, i) => (length < LEAST ? [`${LEAST - length} of ${name(i)}`] : []));
    return few.length ? `Still to draw: ${few.join(", ")}.` : null;
  }

  // Why there can be no training yet; null if there can.
  function problem() {
    const names = CLASSES.map((_, i) => name(i));
    if (new Set(names).size < names.length) return "Two of your classes have the same name: give one of them another.";
    return missing();
  }

  /** @returns {Collected} */
  function collected() {
    return {
      names: CLASSES.map((_, i) => name(i)),
      images: drawings.flat(),
      labels: drawings.flatMap((some, i) => some.map(() => i)),
    };
  }

  function show() {
    byId("own").hidden = byId("own-bar").hidden = !chosen();
    document.body.classList.toggle("collecting", chosen());
    save.disabled = drawings.every(({ length }) => length === 0);
    drawings.forEach((some, i) => {
      setText(counts[i], some.length < LEAST ? `${some.length} of ${LEAST}` : `${some.length}`);
      setText(adders[i], `${name(i)} · ${some.length}`);
      setAttribute(adders[i], "aria-label", `Add the drawing to ${name(i)}, which has ${some.length}`);
      const items = keep(lists[i], some.length, () =>
        el("li", {}, el("button", { type: "button", title: "Remove" }, el("canvas", { "aria-hidden": "true" }))),
      );
      items.forEach((item, k) => {
        const button = part(item, "button");
        button.onclick = () => {
          some.splice(k, 1);
          show();
        };
        setAttribute(button, "aria-label", `Remove drawing ${k + 1} of ${name(i)}`);
        paint(part(item, "canvas"), some[k]);
      });
    });
  }

  return { chosen, problem, collected };
}

/** @param {HTMLCanvasElement} canvas @param {Uint8Array} image */
function paint(canvas, image) {
  surface(canvas, THUMB, THUMB).drawImage(picture(image, SIDE, SIDE, 1, 1), 0, 0, THUMB, THUMB);
}
