// The decision: the big answer, ten bars, and the second network's beside them.

import { argmax, byId, el, keep, percent, picture, setText, surface } from "../dom.js";
import { strongest } from "./lens.js";

export function createAnswer(store) {
  const threshold = byId("threshold");
  threshold.addEventListener("input", () => store.set({ threshold: Number(threshold.value) }));
  const speak = createVoice();

  return function render(view) {
    const { state, model, reading, model2, reading2, empty, empty2, speed, times } = view;
    threshold.value = state.threshold;
    setText(byId("threshold-value"), `${Math.round(100 * state.threshold)} %`);
    byId("second").hidden = !state.compare;
    document.body.classList.toggle("comparing", Boolean(state.compare));
    const first = verdict(model, reading, state, empty);
    show("answer", "sure", first);
    show("answer2", "sure2", verdict(model2, reading2, state, empty2));
    byId("name1").hidden = !state.compare;
    setText(byId("name1"), nameOf(model));
    setText(byId("name2"), nameOf(model2));
    setText(byId("chip-answer"), first.answer);
    setText(byId("chip-sure"), first.sure);
    setText(byId("speed"), speed ? `${speed.toFixed(1)} ms per reading in this browser, median of ${times}` : " ");
    if (!reading) return;
    paintChip(view);
    bars(view, first);
    speak(state.demo ? "" : sentence(first));
  };
}

function show(answer, sure, { answer: text, sure: words, unsure }) {
  const big = byId(answer);
  setText(big, text);
  setText(byId(sure), words);
  big.classList.toggle("unsure", unsure);
  big.classList.toggle("long", text.length > 2);
  big.classList.toggle("longer", text.length > 9);
}

const nameOf = (model) => model?.config.name ?? "";

function verdict(model, reading, state, empty) {
  if (empty || !reading) return { answer: "–", sure: empty ? "nothing is drawn" : "", unsure: true };
  const { probabilities } = reading;
  const classes = model.config.classes;
  const [best, next] = topTwo(probabilities);
  const sure = percent(probabilities[best]);
  if (probabilities[best] >= state.threshold) return { answer: classes[best], sure, unsure: false };
  return {
    answer: "not sure",
    sure: `${classes[best]} ${percent(probabilities[best], 0)} or ${classes[next]} ${percent(probabilities[next], 0)}`,
    unsure: true,
  };
}

function topTwo(probabilities) {
  const best = argmax(probabilities);
  return [best, argmax(probabilities.map((p, i) => (i === best ? -1 : p)))];
}

function bars({ model, reading, model2, reading2, state, empty, empty2 }, first) {
  const classes = model.config.classes;
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
    const [name, track, value] = rows[i].children;
    const p = empty ? 0 : reading.probabilities[index];
    setText(name, classes[index]);
    name.title = classes[index];
    track.firstElementChild.style.transform = `scaleX(${p.toFixed(4)})`;
    const other = state.compare && reading2 && !empty2 ? sameClass(model2, reading2, classes[index]) : null;
    track.lastElementChild.hidden = other === null;
    track.lastElementChild.style.transform = `scaleX(${(other ?? 0).toFixed(4)})`;
    setText(value, empty ? "" : percent(p));
    rows[i].classList.toggle("best", !empty && index === best && !first.unsure);
  });
}

// The other network's probability of the class of this name; null where it does not know it.
function sameClass(model2, reading2, name) {
  const index = model2?.config.classes.indexOf(name) ?? -1;
  return index < 0 ? null : reading2.probabilities[index];
}

const sentence = ({ answer, sure, unsure }) =>
  answer === "–" ? "Nothing is drawn." : unsure ? `Not sure: ${sure}.` : `The network reads ${answer}, ${sure}.`;

// Say a sentence to a screen reader once it has stood for a while, and never twice in a row.
function createVoice(wait = 900) {
  let timer = null;
  let last = "";
  return (text) => {
    if (text === last) return;
    last = text;
    clearTimeout(timer);
    if (text) timer = setTimeout(() => setText(byId("spoken"), text), wait);
  };
}

// The small answer at the lower edge of a phone's screen.
function paintChip({ reading, model }) {
  const { size } = model.squares;
  const input = picture(reading.image, size, size, model.config.channels);
  surface(byId("chip-image"), 44, 44).drawImage(input, 0, 0, 44, 44);
}
