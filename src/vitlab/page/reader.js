// When to ask the networks: at once for the answer, after a pause for what takes longer (deletion map and curves).

import { read } from "./client.js";
import { median } from "./net/numbers.js";
import { toPixels } from "./pictures.js";
import { KINDS } from "./state.js";

/** @import { Slate } from "./draw.js" */
/** @import { Squares } from "./net/model.js" */
/** @import { Picture } from "./net/paper.js" */
/** @import { Store } from "./state.js" */
/** @import { Curve, Job, Kind, Loaded, Reading, Want } from "./net/worker.js" */
/**
 * source: the drawing that was read.
 * @typedef {Reading & { source: Picture }} Shown
 *
 * What one network has said so far. fresh: the deletion map is of the present drawing.
 * @typedef {object} Result
 * @property {Shown | null} reading
 * @property {Float32Array | null} deletion
 * @property {boolean} fresh
 * @property {Partial<Record<Kind, Curve>>} curves
 */

const PAUSE = 220; // milliseconds without a change before the longer questions are asked
const KEPT = 30; // readings whose times count

/** @returns {Result} */
const nothing = () => ({ reading: null, deletion: null, fresh: false, curves: {} });

/**
 * loaded(id): the network, if it has been loaded. changed() is called after every answer, failed(sentence) on errors.
 * @param {Store} store @param {Slate} slate @param {(id: string | null) => Loaded | undefined} loaded
 * @param {() => void} changed @param {(sentence: string) => void} failed
 */
export function createReader(store, slate, loaded, changed, failed) {
  let [first, second] = [nothing(), nothing()];
  /** @type {number[]} */
  let times = [];
  let version = 0;
  let [answered, settled] = [-1, -1]; // the last version that was read, and whose longer questions were answered
  let timer = 0;
  let waiting = false; // for the next frame, to read

  /**
   * @param {Loaded} network @param {Want} want
   * @returns {Job}
   */
  function jobFor(network, want) {
    const { center, hidden, rotate, shift, noise, model } = store.get();
    return {
      // A drawing with its colours, since ink may differ from its paper in nothing else.
      drawing: toPixels(slate.pixels(), network.config.drawing === null ? network.config.channels : 3),
      center,
      hidden: sameSquares(network, loaded(model)) ? hidden : [],
      disturb: { rotate, shift, noise },
      want,
    };
  }

  /**
   * Null if the network has not been loaded, or a newer question replaced this one.
   * @param {string | null} id @param {Want} want
   * @returns {Promise<Shown | null>}
   */
  async function ask(id, want) {
    const network = loaded(id);
    if (!network || id === null) return null;
    const job = jobFor(network, want);
    const reading = await read(id, job);
    return reading && { ...reading, source: job.drawing };
  }

  async function readNow() {
    waiting = false;
    const { model, compare } = store.get();
    const mine = version;
    try {
      const [one, other] = await Promise.all([ask(model, { inside: true }), ask(compare, { inside: false })]);
      if (one && store.get().model === model) {
        first = { ...first, reading: one };
        times = [...times, one.milliseconds].slice(-KEPT);
      }
      if (other && store.get().compare === compare) second = { ...second, reading: other };
    } catch (error) {
      report(error);
    }
    if (mine === version) {
      answered = mine;
      clearTimeout(timer);
      timer = setTimeout(() => askMore(mine).catch(report), PAUSE);
    }
    changed();
  }

  /**
   * The longer questions, one after the other, for as long as nothing changes.
   * @param {number} mine
   */
  async function askMore(mine) {
    const { model, compare } = store.get();
    // When the pause ends, something may have changed already: asking now would replace the question about that.
    if (mine !== version || !loaded(model)) return;
    const map = await ask(model, { deletion: true, inside: false });
    if (mine !== version) return;
    if (map?.deletion) first = { ...first, deletion: map.deletion, fresh: true };
    changed();
    for (const kind of KINDS) {
      const one = await ask(model, { curve: kind, inside: false });
      if (mine !== version) return;
      if (one?.curve) first = { ...first, curves: { ...first.curves, [kind]: one.curve } };
      const other = await ask(compare, { curve: kind, inside: false });
      if (mine !== version) return;
      if (other?.curve) second = { ...second, curves: { ...second.curves, [kind]: other.curve } };
      changed();
    }
    settled = mine;
    changed();
  }

  /** @param {unknown} error */
  const report = (error) => failed(error instanceof Error ? error.message : String(error));

  return {
    // The answer may have changed. `model`, `compare`: this network was replaced; the old one's answers go.
    request({ model = false, compare = false } = {}) {
      version++;
      if (model) [first, times] = [nothing(), []];
      if (compare) second = nothing();
      first = { ...first, fresh: false };
      if (!waiting) requestAnimationFrame(readNow);
      waiting = true;
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

/**
 * @param {{ squares: Squares } | null | undefined} a @param {{ squares: Squares } | null | undefined} b
 */
export function sameSquares(a, b) {
  const names = /** @type {const} */ (["grid", "side", "margin", "size"]);
  return Boolean(a && b && names.every((name) => a.squares[name] === b.squares[name]));
}

/**
 * Whether the drawing has no ink. A network that does not read drawings may have an answer for a black picture.
 * @param {Shown | null} reading @param {Loaded | null} network
 */
export function isBlank(reading, network) {
  if (!reading || network?.config.drawing === null) return false;
  return reading.steps.box === null || reading.steps.placed.every((value) => value === reading.steps.placed[0]);
}
