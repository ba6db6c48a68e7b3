// "How it learned": a slider over training time. The answer, the maps and the lens are those of the network as it was.

import { byId, css, setAttribute, setText, surface } from "../dom.js";
import { argmax, percent } from "../net/numbers.js";

/** @import { Epochs, Replay } from "../epochs.js" */
/** @import { View } from "../main.js" */
/** @import { Store } from "../state.js" */
/** @typedef {Replay["kept"][number]} Moment */

const PAUSE = 450; // milliseconds that each moment is shown for while it plays
const [HEIGHT, INSET] = [64, 11]; // pixels; INSET: half of the slider's knob
const LEAST = 0.001; // share of errors at the bottom of the curve

/** @param {Store} store @param {Epochs} epochs */
export function createReplay(store, epochs) {
  const slider = byId("replay-epoch", HTMLInputElement);
  const [play, end] = [byId("replay-play"), byId("replay-end", HTMLButtonElement)];
  /** @type {Replay | null} */
  let shown = null;
  let playing = false;
  let timer = 0;
  let now = "";

  // The last place of the slider is the finished network.
  const place = () => {
    const { epoch } = store.get();
    const count = shown?.kept.length ?? 0;
    return epoch === null ? count : (shown?.kept.findIndex((one) => one.epoch === epoch) ?? count);
  };

  /** @param {number} to */
  function go(to) {
    store.set({ epoch: shown?.kept[to]?.epoch ?? null });
    fetchRest();
  }

  let fetching = false;
  // Once a visitor is interested, the other moments are fetched one after the other, so that the slider is quick.
  async function fetchRest() {
    const { model } = store.get();
    if (fetching || model === null) return;
    fetching = true;
    for (const { epoch } of shown?.kept ?? []) {
      if (store.get().model !== model || !(await epochs.weights(model, epoch).catch(() => null))) break;
    }
    fetching = false;
  }

  slider.addEventListener("input", () => {
    stop();
    go(Number(slider.value));
  });
  end.addEventListener("click", () => {
    stop();
    go(Number(slider.max));
  });
  play.addEventListener("click", () => {
    if (playing) return stop();
    playing = true;
    go(place() < Number(slider.max) ? place() : 0);
  });

  function stop() {
    playing = false;
    clearTimeout(timer);
    timer = 0;
    setText(play, "Play");
  }

  // The next moment follows when this one has been read and seen.
  function playOn() {
    setText(play, "Pause");
    if (timer !== 0) return;
    timer = setTimeout(() => {
      timer = 0;
      if (!playing) return;
      if (place() >= Number(slider.max)) stop();
      else go(place() + 1);
    }, PAUSE);
  }

  /** @param {View} view */
  return function render({ state, model, reading, empty }) {
    const replay = epochs.of(state.model);
    byId("replay").hidden = replay === null;
    if (replay !== shown) {
      shown = replay;
      stop();
      if (replay) prepare(slider, replay);
    }
    const at = place();
    setText(
      byId("past"),
      state.epoch === null || !replay
        ? ""
        : state.epoch === 0
          ? "as it was before training"
          : `as it was after epoch ${state.epoch}`,
    );
    if (!replay || !model) return;
    slider.value = String(at);
    end.disabled = state.epoch === null;
    setAttribute(slider, "aria-valuetext", moment(replay, at));
    setText(byId("replay-value"), state.epoch === null ? "end" : String(state.epoch));
    const there = epochs.isThere();
    if (there && reading) {
      const best = argmax(reading.probabilities);
      const reads = `It reads this as ${model.config.classes[best]} (${percent(reading.probabilities[best], 0)}).`;
      now = `${moment(replay, at)}${empty ? "" : ` ${reads}`}`;
    }
    setText(byId("replay-now"), there ? now : epochs.progress() || now);
    paint(replay, at);
    if (playing && there) playOn();
  };
}

/** @param {HTMLInputElement} slider @param {Replay} replay */
function prepare(slider, { kept, epochs }) {
  slider.max = String(kept.length);
  const every = kept.length === epochs + 1 ? "" : ` (${kept.length} of ${epochs + 1} moments, evenly chosen)`;
  setText(
    byId("replay-say"),
    `Move the slider back to see the network as it was earlier in its training${every}: the answer, the maps and the ` +
      "lens show how it would have read your drawing then.",
  );
  const wrong = kept.map(score).filter((one) => one !== null);
  byId("replay-curve").hidden = byId("replay-key").hidden = wrong.length < 2;
  const on = isValidated(kept) ? "Validation images" : "Training images, while it learned,";
  const [first, last] = [wrong[0], wrong[wrong.length - 1]].map((one) => percent(1 - (one ?? 0)));
  setText(byId("replay-key"), `${on} that it got wrong: from ${first} to ${last}, on a logarithmic scale`);
}

/**
 * The errors over training time, above the places of the slider: a line drawn from 100 % down to LEAST.
 * @param {Replay} replay @param {number} at
 */
function paint({ kept }, at) {
  const canvas = byId("replay-curve", HTMLCanvasElement);
  const width = canvas.clientWidth;
  if (!width) return;
  const context = surface(canvas, width, HEIGHT);
  /** @param {number} i */
  const x = (i) => INSET + (i / kept.length) * (width - 2 * INSET);
  /** @param {number} share */
  const y = (share) => 4 + (Math.log(Math.max(LEAST, 1 - share)) / Math.log(LEAST)) * (HEIGHT - 8);
  context.lineWidth = 1;
  context.strokeStyle = css("--line");
  context.strokeRect(INSET, 4, width - 2 * INSET, HEIGHT - 8);
  context.strokeStyle = css("--mark");
  context.strokeRect(x(at), 2, 0, HEIGHT - 2);
  context.lineWidth = 2;
  context.lineJoin = "round";
  context.strokeStyle = css("--accent");
  context.beginPath();
  kept.forEach((one, i) => {
    const share = score(one);
    if (share !== null) context.lineTo(x(i), y(share));
  });
  context.stroke();
}

/** @param {Replay} replay @param {number} at */
function moment({ kept, epochs, selected }, at) {
  const one = kept[at];
  if (!one) return `The finished network${selected === null ? "" : `, of epoch ${selected} of ${epochs}`}.`;
  const when = one.epoch === 0 ? "Before training" : `After epoch ${one.epoch} of ${epochs}`;
  const right = score(one);
  const on = one.val_top1 === null ? "training images right, while it learned from them" : "validation images right";
  return right === null ? `${when}.` : `${when}: ${percent(right)} of the ${on}.`;
}

/**
 * The share of images that it got right then: of validation images or, in a run without any, of training images.
 * @param {Moment} one
 */
const score = ({ val_top1, train_top1 }) => val_top1 ?? train_top1;

/** @param {Moment[]} kept */
const isValidated = (kept) => kept.some(({ val_top1 }) => val_top1 !== null);
