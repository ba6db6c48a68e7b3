// When to ask the networks: at once for the answer, after a pause for what takes longer (the deletion map, the curves).

import { read } from "./client.js";
import { median } from "./dom.js";
import { toPixels } from "./pictures.js";
import { RANGES } from "./state.js";

const PAUSE = 220; // milliseconds without a change
const KEPT = 30; // readings whose times count

// fresh: the deletion map is of this drawing.
const nothing = () => ({ reading: null, deletion: null, fresh: false, curves: {} });

// results() -> {first, second: {reading, deletion, fresh, curves}, speed, times, answered, settled}; loaded(id) ->
// what client.js's load gave, or undefined.
export function createReader(store, slate, loaded, changed, failed) {
  let [first, second] = [nothing(), nothing()];
  let times = [];
  let version = 0;
  let [answered, settled] = [-1, -1]; // the last version that has been read, and whose longer questions were answered
  let timer = null;
  let frame = null;

  function job(model, want) {
    const { center, hidden, rotate, shift, noise } = store.get();
    const seen = sameSquares(model, loaded(store.get().model)) ? hidden : [];
    return {
      drawing: toPixels(slate.pixels(), model.config.channels),
      center,
      hidden: seen,
      disturb: { rotate, shift, noise },
      want,
    };
  }

  async function readNow(id, want) {
    const asked = job(loaded(id), want);
    const reading = await read(id, asked);
    return reading && { ...reading, source: asked.drawing };
  }

  async function live() {
    frame = null;
    const { model, compare } = store.get();
    const mine = version;
    try {
      const answers = await Promise.all(
        [model, compare].map((id) =>
          id && loaded(id) ? readNow(id, { deletion: false, curve: null, inside: id === model }) : null,
        ),
      );
      if (answers[0] && store.get().model === model) {
        first = { ...first, reading: answers[0] };
        times = [...times, answers[0].milliseconds].slice(-KEPT);
      }
      if (answers[1] && store.get().compare === compare) second = { ...second, reading: answers[1] };
    } catch (error) {
      failed(error.message);
    }
    changed();
    if (mine !== version) return;
    answered = mine;
    changed();
    clearTimeout(timer);
    timer = setTimeout(() => more(mine).catch((error) => failed(error.message)), PAUSE);
  }

  // The longer questions, one after the other, as long as nothing has changed.
  async function more(mine) {
    const { model, compare } = store.get();
    if (!loaded(model)) return;
    const ask = async (id, want) => (mine === version ? readNow(id, want) : null);
    const { deletion } = (await ask(model, { deletion: true, curve: null, inside: false })) ?? {};
    if (mine === version && deletion) first = { ...first, deletion, fresh: true };
    changed();
    for (const kind of Object.keys(RANGES)) {
      const { curve } = (await ask(model, { deletion: false, curve: kind, inside: false })) ?? {};
      if (mine === version && curve) first = { ...first, curves: { ...first.curves, [kind]: curve } };
      const other =
        compare && loaded(compare) ? await ask(compare, { deletion: false, curve: kind, inside: false }) : null;
      if (mine === version && other?.curve) second = { ...second, curves: { ...second.curves, [kind]: other.curve } };
      changed();
    }
    if (mine === version) settled = mine;
    changed();
  }

  return {
    // Something has changed that the answer hangs on. `model`, `compare`: this network is another one now, so that no
    // answer of the old one may be shown.
    request({ model = false, compare = false } = {}) {
      version++;
      if (model) [first, times] = [nothing(), []];
      if (compare) second = nothing();
      first = { ...first, fresh: false };
      frame ??= requestAnimationFrame(live);
    },
    results: () => ({
      first,
      second,
      speed: times.length ? median(times) : null,
      times: times.length,
      answered: answered === version,
      settled: settled === version,
    }),
  };
}

export function sameSquares(a, b) {
  return Boolean(a && b) && ["grid", "side", "margin", "size"].every((name) => a.squares[name] === b.squares[name]);
}

// A drawing without ink; a network that reads no drawings may have something to say about a black picture, too.
export function isBlank(reading, networks) {
  if (!reading || networks.get(reading.model)?.config.drawing === null) return false;
  return reading.steps.box === null || reading.steps.placed.every((value) => value === 0);
}
