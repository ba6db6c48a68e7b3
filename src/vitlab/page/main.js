// The page: what is chosen (state.js), what is drawn (draw.js), what the networks say (reader.js), and the panels.

import { followAddress } from "./address.js";
import { load, loadFiles } from "./client.js";
import { byId, forgetColours, setText } from "./dom.js";
import { createSlate } from "./draw.js";
import { listenForFiles } from "./files.js";
import { createKnown } from "./known.js";
import { createAnswer } from "./panels/answer.js";
import { createAttention } from "./panels/attention.js";
import { createDisturb } from "./panels/disturb.js";
import { createLens } from "./panels/lens.js";
import { createMenu } from "./panels/menu.js";
import { createNeeds } from "./panels/needs.js";
import { createPatches } from "./panels/patches.js";
import { renderInvitation, renderStatus } from "./panels/status.js";
import { createStory } from "./panels/story.js";
import { createStrip } from "./panels/strip.js";
import { createTokens } from "./panels/tokens.js";
import { createTrain } from "./panels/train.js";
import { createReader, isBlank, sameSquares } from "./reader.js";
import { json } from "./resources.js";
import { createStore, fromHash, INITIAL, marked } from "./state.js";

/** @import { Menu, MenuFile } from "./panels/menu.js" */
/** @import { Result, Shown } from "./reader.js" */
/** @import { State } from "./state.js" */
/** @import { Loaded } from "./net/worker.js" */
/**
 * What the panels show. speed: the median of `times` readings in milliseconds. mark: the patch to mark. empty: there is
 * nothing to read. Names that end in 2 belong to the second network.
 * @typedef {object} View
 * @property {State} state
 * @property {number | null} speed
 * @property {number} times
 * @property {number | null} mark
 * @property {boolean} empty
 * @property {boolean} empty2
 * @property {boolean} loading
 * @property {Loaded | null} model
 * @property {Loaded | null} model2
 * @property {Shown | null} reading
 * @property {Shown | null} reading2
 * @property {Float32Array | null} deletion
 * @property {boolean} fresh
 * @property {Result["curves"]} curves
 * @property {Result["curves"]} curves2
 */

/** @type {(keyof State)[]} */
const READ_AGAIN = ["drawing", "center", "hidden", "rotate", "shift", "noise", "model", "compare"];

byId("boot").remove();
const linked = fromHash(location.hash.slice(1));
const store = createStore({ ...linked, model: null, compare: null });
const slate = createSlate(store);
/** @type {Map<string | null, Loaded>} */
const networks = new Map();
const networkOf = networks.get.bind(networks);
const reader = createReader(store, slate, networkOf, render, notice);
const known = createKnown(store, slate, networkOf, notice);
const panels = [
  createStrip(store),
  createPatches(store),
  createTokens(store),
  createAttention(store),
  createNeeds(store),
  createAnswer(store),
  createLens(),
  createDisturb(store),
  createTrain((config, weights) => addOwn(config, weights, config.name)),
  createStory(),
];
/** @type {Menu | null} */
let menu = null;
/** @type {string[]} */
let ids = []; // of the networks of this site
let own = 0;

/** @param {string} sentence */
function notice(sentence) {
  setText(byId("notice"), sentence);
  byId("notice").hidden = !sentence;
}

/** @param {unknown} error */
const noticeError = (error) => notice(error instanceof Error ? error.message : String(error));

let waiting = false;
function render() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    const state = store.get();
    const { first, second, speed, times, answered, settled } = reader.results();
    // While another network loads, the page still shows the one that has read.
    const model = networkOf(first.reading?.model ?? state.model) ?? null;
    const model2 = networkOf(second.reading?.model ?? state.compare) ?? null;
    /** @type {View} */
    const view = {
      state,
      speed,
      times,
      mark: marked(state),
      empty: slate.empty() || isBlank(first.reading, model),
      empty2: slate.empty() || isBlank(second.reading, model2),
      loading: state.model !== null || menu === null,
      model,
      model2,
      reading: first.reading,
      reading2: second.reading,
      deletion: first.deletion,
      fresh: first.fresh,
      curves: first.curves,
      curves2: second.curves,
    };
    document.body.classList.toggle("alive", view.reading !== null);
    document.body.classList.toggle("answered", answered && view.reading !== null);
    document.body.classList.toggle("settled", settled);
    byId("turn").hidden = !slate.empty() && !(state.demo && slate.finished());
    renderInvitation(view, slate.empty());
    for (const panel of panels) panel(view);
    renderStatus(view);
    menu?.render(view);
    known.render(view);
  });
}

/**
 * Loads a network if needed; false, after a notice, if it could not be loaded.
 * @param {string} id
 */
async function ensure(id) {
  if (networks.has(id)) return true;
  setText(byId("loading"), `Loading ${id} ...`);
  try {
    networks.set(id, await load(id));
    return true;
  } catch (error) {
    noticeError(error);
    return false;
  } finally {
    setText(byId("loading"), "");
  }
}

/**
 * Why the page itself chooses a network: "back" to the previous one, because another did not load; a "link", whose
 * notices and patches are kept; else null.
 * @type {"back" | "link" | null}
 */
let cause = null;
/** @param {"back" | "link"} why @param {Partial<State>} changes */
function setBecause(why, changes) {
  cause = why;
  store.set(changes);
  cause = null;
}

/**
 * @param {"model" | "compare"} name @param {string | null} id @param {string | null} before
 */
async function changeModel(name, id, before) {
  const byLink = cause === "link";
  if (before !== null && cause === null) notice("");
  if (id === null) return reader.request({ [name]: true });
  const there = await ensure(id);
  if (store.get()[name] !== id) return; // another was chosen meanwhile
  if (!there) return setBecause("back", { [name]: before });
  if (name === "model") {
    const old = networkOf(before);
    if (old && !byLink && !sameSquares(old, networkOf(id))) store.set({ hidden: [], query: null, hover: null });
    fitToSquares();
    known.settle();
  }
  reader.request({ [name]: true });
  render();
}

// A link can name patches that this network does not have.
function fitToSquares() {
  const { hidden, query, model } = store.get();
  const network = networkOf(model);
  if (!network) return;
  const count = network.squares.grid ** 2;
  store.set({
    hidden: hidden.every((p) => p < count) ? hidden : hidden.filter((p) => p < count),
    query: query !== null && query < count ? query : null,
  });
}

let pasted = 0;
/**
 * A link pasted into the open page. Its network comes first: a known image is one of that network's.
 * @param {Partial<State>} choices
 */
async function follow({ model, compare, ...rest }) {
  const mine = ++pasted;
  await started;
  notice("");
  const there = typeof model === "string" && isHere(model) && (await ensure(model));
  if (mine !== pasted) return;
  if (rest.drawing) slate.stop();
  const { center, hidden, query, rotate, shift, noise, threshold } = INITIAL;
  setBecause("link", {
    ...{ center, hidden, query, rotate, shift, noise, threshold },
    ...rest,
    demo: rest.drawing ? false : store.get().demo,
    model: there ? model : store.get().model,
    compare: compare && ids.includes(compare) ? compare : null,
  });
  fitToSquares();
  if (rest.drawing) layLinked();
}

/** @param {string} id */
function isHere(id) {
  const here = ids.includes(id);
  if (!here) notice(`The link names a network that this page does not have: ${id}.`);
  return here;
}

const readsDrawings = () => networkOf(store.get().model)?.config.drawing !== null;

// Shows what a link draws; if there is no such image, what the page starts with.
function layLinked() {
  if (!known.lay()) begin();
}

function begin() {
  slate.demo(7);
  if (!readsDrawings()) known.first();
}

const writeAddress = followAddress(store, follow, slate.down);

store.listen((state, before) => {
  /** @param {(keyof State)[]} names */
  const changed = (...names) => names.some((name) => state[name] !== before[name]);
  if (state.model === state.compare && state.model !== null) return store.set({ compare: null });
  if (changed("model")) changeModel("model", state.model, before.model);
  if (changed("compare")) changeModel("compare", state.compare, before.compare);
  if (changed("drawing")) known.settle(); // undo may bring back an image of another network
  if (changed(...READ_AGAIN)) reader.request();
  if (changed(...READ_AGAIN, "query", "threshold")) writeAddress();
  render();
});

/**
 * Opens a network that is not of this site, adds it to the menu and chooses it.
 * @param {any} config @param {ArrayBuffer} weights @param {string} name
 */
async function addOwn(config, weights, name) {
  const id = `own~${++own}`;
  try {
    networks.set(id, await loadFiles(id, config, weights));
    menu?.add(id, name);
    notice("");
    store.set({ model: id });
  } catch (error) {
    noticeError(error);
  }
}

listenForFiles({
  onProblem: notice,
  under: () => (readsDrawings() ? null : (networkOf(store.get().model)?.config.background ?? 0)),
  onPicture(image) {
    notice("");
    slate.lay(image, "picture");
  },
  onModel: (config, weights) => addOwn(config, weights, `${config?.name} (your file)`),
});

/** @returns {Promise<MenuFile>} */
async function readMenu() {
  try {
    return await json("models.json");
  } catch {
    notice(
      "There is no models.json here, so no network to load: serve the folder that `vitlab export RUN --to web` wrote, " +
        "or open your own model below.",
    );
    return { models: [], study: null };
  }
}

async function start() {
  const { models, study } = await readMenu();
  menu = createMenu(store, models, study);
  render();
  ids = models.map(({ id }) => id);
  const { model, compare } = linked;
  if (model) isHere(model);
  for (const id of model && ids.includes(model) ? [model, ...ids] : ids) {
    if (!(await ensure(id))) continue;
    store.set({ model: id, compare: compare && ids.includes(compare) ? compare : null });
    break;
  }
  if (store.get().drawing.kind === "example") layLinked();
  else if (store.get().demo && !readsDrawings()) known.first();
}

byId("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address is the page's state
  byId("slate").focus();
});
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  forgetColours();
  render();
});
new ResizeObserver(render).observe(document.body);
if (!linked.drawing) slate.demo(7);
const started = start();
