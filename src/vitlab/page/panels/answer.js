// The decision: the big answer, ten bars, and the second network's next to them.

import { byId, childrenOf, el, keep, picture, setText, surface } from "../dom.js";
import { argmax, percent } from "../net/numbers.js";
import { strongest } from "./lens.js";

/** @import { View } from "../main.js" */
/** @import { Shown } from "../reader.js" */
/** @import { State, Store } from "../state.js" */
/** @import { Loaded } from "../net/worker.js" */
/** @typedef {{ answer: string, sure: string, unsure: boolean, unlike?: boolean }} Verdict */

const NOTHING = "–";
const CHIP = 44; // pixels

/** @param {Store} store */
export function createAnswer(store) {
  const threshold = byId("threshold", HTMLInputElement);
  threshold.addEventListener("input", () => store.set({ threshold: Number(threshold.value) }));
  const speak = createVoice();

  /** @param {View} view */
  return function render(view) {
    const { state, model, reading, model2, reading2, empty, empty2, speed, times } = view;
    threshold.value = String(state.threshold);
    setText(byId("threshold-value"), `${Math.round(100 * state.threshold)} %`);
    byId("second").hidden = !state.compare;
    document.body.classList.toggle("comparing", Boolean(state.compare));
    const first = verdict(model, reading, state, empty);
    show("answer", "sure", first);
    show("answer2", "sure2", verdict(model2, reading2, state, empty2));
    byId("name1").hidden = !state.compare;
    setText(byId("name1"), model?.config.name ?? "");
    setText(byId("name2"), model2?.config.name ?? "");
    setText(byId("chip-answer"), first.answer);
    setText(byId("chip-sure"), first.sure);
    setText(byId("speed"), speed ? `${speed.toFixed(1)} ms per reading in this browser (median of ${times})` : " ");
    if (!model || !reading) return;
    paintChip(model, reading);
    paintBars(view, model, reading, first);
    speak(state.demo ? "" : sentence(first));
  };
}

/** @param {string} answer @param {string} sure @param {Verdict} verdict */
function show(answer, sure, { answer: text, sure: words, unsure }) {
  const big = byId(answer);
  setText(big, text);
  setText(byId(sure), words);
  big.classList.toggle("unsure", unsure);
  big.classList.toggle("long", text.length > 2);
  big.classList.toggle("longer", text.length > 9);
}

/**
 * @param {Loaded | null} model @param {Shown | null} reading @param {State} state @param {boolean} empty
 * @returns {Verdict}
 */
function verdict(model, reading, state, empty) {
  if (empty || !reading || !model) return { answer: NOTHING, sure: empty ? "nothing to read" : "", unsure: true };
  if (reading.steps.reason !== null) return { answer: "not sure", sure: reading.steps.reason, unsure: true };
  const { probabilities } = reading;
  const { classes } = model.config;
  const best = argmax(probabilities);
  const next = argmax(probabilities.map((p, i) => (i === best ? -1 : p)));
  if (probabilities[best] < state.threshold) {
    const [one, other] = [best, next].map((index) => `${classes[index]} (${percent(probabilities[index], 0)})`);
    const odd = reading.unlike ? ", and unlike anything it was trained on" : "";
    return { answer: "not sure", sure: `${one} or ${other}${odd}`, unsure: true };
  }
  if (!reading.unlike) return { answer: classes[best], sure: percent(probabilities[best]), unsure: false };
  const words = `${percent(probabilities[best])}, but unlike anything it was trained on`;
  return { answer: classes[best], sure: words, unsure: true, unlike: true };
}

/**
 * @param {View} view @param {Loaded} model @param {Shown} reading @param {Verdict} first
 */
function paintBars({ model2, reading2, state, empty, empty2 }, model, reading, first) {
  const { classes } = model.config;
  const shown = strongest(reading.probabilities, classes.length);
  const best = argmax(reading.probabilities);
  const list = byId("bars");
  list.classList.toggle("faded", empty);
  list.classList.toggle(
    "worded",
    classes.some((name) => name.length > 2),
  );
  const rows = keep(list, shown.length, () =>
    el(
      "li",
      {},
      el("span", { class: "name" }),
      el("span", { class: "track", "aria-hidden": "true" }, el("i"), el("i", { class: "other" })),
      el("span", { class: "value" }),
    ),
  );
  shown.forEach((index, i) => {
    const [name, track, value] = childrenOf(rows[i]);
    const [bar, otherBar] = childrenOf(track);
    const p = empty ? 0 : reading.probabilities[index];
    setText(name, classes[index]);
    name.title = classes[index];
    bar.style.transform = `scaleX(${p.toFixed(4)})`;
    const other = state.compare && !empty2 ? sameClass(model2, reading2, classes[index]) : null;
    otherBar.hidden = other === null;
    otherBar.style.transform = `scaleX(${(other ?? 0).toFixed(4)})`;
    setText(value, empty ? "" : percent(p));
    rows[i].classList.toggle("best", !empty && index === best && !first.unsure);
  });
  byId("bars-say").hidden = shown.length === classes.length;
  setText(byId("bars-say"), `The ${shown.length} most probable of ${classes.length} classes.`);
}

/**
 * The other network's probability of the class with this name; null if it has no such class.
 * @param {Loaded | null} model2 @param {Shown | null} reading2 @param {string} name
 */
function sameClass(model2, reading2, name) {
  const index = model2?.config.classes.indexOf(name) ?? -1;
  return reading2 === null || index < 0 ? null : reading2.probabilities[index];
}

/** @param {Verdict} verdict */
function sentence({ answer, sure, unsure, unlike }) {
  if (answer === NOTHING) return "Nothing to read.";
  if (unlike) return `Not sure: ${answer} with ${sure}.`;
  return unsure ? `Not sure: ${sure}.` : `The network reads ${answer}, ${sure}.`;
}

// Tells a screen reader a sentence once it has been unchanged for a while, and never twice in a row.
function createVoice(wait = 900) {
  let timer = 0;
  let last = "";
  /** @param {string} text */
  return (text) => {
    if (text === last) return;
    last = text;
    clearTimeout(timer);
    if (text) timer = setTimeout(() => setText(byId("spoken"), text), wait);
  };
}

/**
 * The small answer at the bottom of a phone's screen.
 * @param {Loaded} model @param {Shown} reading
 */
function paintChip({ squares: { size }, config }, { image }) {
  const input = picture(image, size, size, config.channels);
  surface(byId("chip-image", HTMLCanvasElement), CHIP, CHIP).drawImage(input, 0, 0, CHIP, CHIP);
}
