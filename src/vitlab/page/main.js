// The page: what is chosen (state.js), what is drawn (draw.js), what the networks say (reader.js), and the panels.

import { followAddress } from "./address.js";
import { byId, forgetColours, setText } from "./dom.js";
import { createSlate } from "./draw.js";
import { listenForFiles } from "./files.js";
import { createKnown } from "./known.js";
import { createNetworks } from "./networks.js";
import { createAnswer } from "./panels/answer.js";
import { createAttention } from "./panels/attention.js";
import { createCorrect } from "./panels/correct.js";
import { createDisturb } from "./panels/disturb.js";
import { createLens } from "./panels/lens.js";
import { createMenu } from "./panels/menu.js";
import { createNeeds } from "./panels/needs.js";
import { createOwn } from "./panels/own.js";
import { createPatches } from "./panels/patches.js";
import { renderInvitation, renderStatus } from "./panels/status.js";
import { createStory } from "./panels/story.js";
import { createStrip } from "./panels/strip.js";
import { createTokens } from "./panels/tokens.js";
import { createTrain } from "./panels/train.js";
import { createReader, isBlank } from "./reader.js";
import { createStore, fromHash, INITIAL, marked } from "./state.js";

/** @import { Menu } from "./panels/menu.js" */
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
/** @type {Menu | null} */
let menu = null;
const networks = createNetworks(store, {
  notice,
  chosen(name) {
    if (name === "model") known.settle();
    reader.request({ [name]: true });
    render();
  },
  opened: (id, name) => menu?.add(id, name),
});
const networkOf = networks.of;
const reader = createReader(store, slate, networkOf, render, notice);
const known = createKnown(store, slate, networkOf, notice);
const panels = [
  createStrip(store),
  createPatches(store),
  createTokens(store),
  createAttention(store),
  createNeeds(store),
  createAnswer(store),
  createCorrect(store, networks.weightsOf, networks.addOwn),
  createLens(),
  createDisturb(store),
  createTrain((config, weights) => networks.addOwn(config, weights, config.name), createOwn(slate)),
  createStory(),
];

/** @param {string} sentence */
function notice(sentence) {
  setText(byId("notice"), sentence);
  byId("notice").hidden = !sentence;
}

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

let pasted = 0;
/**
 * A link pasted into the open page. Its network comes first: a known image is one of that network's.
 * @param {Partial<State>} choices
 */
async function follow({ model, compare, ...rest }) {
  const mine = ++pasted;
  await started;
  notice("");
  const there = typeof model === "string" && networks.isHere(model) && (await networks.ensure(model));
  if (mine !== pasted) return;
  if (rest.drawing) slate.stop();
  const { center, hidden, query, rotate, shift, noise, threshold } = INITIAL;
  networks.setLinked({
    ...{ center, hidden, query, rotate, shift, noise, threshold },
    ...rest,
    demo: rest.drawing ? false : store.get().demo,
    model: there ? model : store.get().model,
    compare: compare && networks.ids().includes(compare) ? compare : null,
  });
  networks.fitToSquares();
  if (rest.drawing) layLinked();
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
  if (changed("model")) networks.change("model", state.model, before.model);
  if (changed("compare")) networks.change("compare", state.compare, before.compare);
  if (changed("drawing")) known.settle(); // undo may bring back an image of another network
  if (changed(...READ_AGAIN)) reader.request();
  if (changed(...READ_AGAIN, "query", "threshold")) writeAddress();
  render();
});

listenForFiles({
  onProblem: notice,
  under: () => (readsDrawings() ? null : (networkOf(store.get().model)?.config.background ?? 0)),
  onPicture(image) {
    notice("");
    slate.lay(image, "picture");
  },
  onModel: (config, weights) => networks.addOwn(config, weights, `${config?.name} (your file)`),
});

async function start() {
  const { models, study } = await networks.readMenu();
  menu = createMenu(store, models, study);
  render();
  await networks.chooseFirst(linked);
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
