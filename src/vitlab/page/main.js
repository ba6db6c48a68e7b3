// The page: what is chosen (state.js), what is drawn (draw.js), what the networks say (reader.js), and the panels.

import { followAddress } from "./address.js";
import { load, loadFiles } from "./client.js";
import { byId, forgetColours, setText } from "./dom.js";
import { createSlate } from "./draw.js";
import { listenForFiles } from "./files.js";
import { createKnown } from "./known.js";
import { createReader, isBlank, sameSquares } from "./reader.js";
import { INITIAL, createStore, fromHash, marked } from "./state.js";
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

// Changes that need a reading.
const ASKS = ["drawing", "center", "hidden", "rotate", "shift", "noise", "model", "compare"];

byId("boot").remove();
const linked = fromHash(location.hash.slice(1));
const store = createStore({ ...linked, model: null, compare: null });
const slate = createSlate(store);
const networks = new Map(); // id -> what load gave
const reader = createReader(store, slate, (id) => networks.get(id), render, notice);
const known = createKnown(store, slate, (id) => networks.get(id), notice);
const panels = [
  createStrip,
  createPatches,
  createTokens,
  createAttention,
  createNeeds,
  createAnswer,
  createLens,
  createDisturb,
  createStory,
].map((create) => create(store));
let menu = null;
let ids = []; // of the networks of this site
let own = 0;

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
    const view = {
      state,
      speed,
      times,
      mark: marked(state),
      empty: slate.empty() || isBlank(first.reading, networks),
      empty2: slate.empty() || isBlank(second.reading, networks),
      loading: state.model !== null || menu === null,
      // While another network loads, the page still shows the one that has read.
      model: networks.get(first.reading?.model ?? state.model) ?? null,
      model2: networks.get(second.reading?.model ?? state.compare) ?? null,
      reading: first.reading,
      deletion: first.deletion,
      fresh: first.fresh,
      curves: first.curves,
      reading2: second.reading,
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

// Load a network if that has not happened; true if it is there then.
async function ensure(id) {
  if (networks.has(id)) return true;
  setText(byId("loading"), `Loading ${id} ...`);
  try {
    networks.set(id, await load(id));
    return true;
  } catch (error) {
    notice(error.message);
    return false;
  } finally {
    setText(byId("loading"), "");
  }
}

// Why another network is chosen: "back" to the one before, because another did not load; a "link", whose sentences and
// patches stay; else null.
let cause = null;
function setBecause(why, changes) {
  cause = why;
  store.set(changes);
  cause = null;
}

async function changeModel(name, id, before) {
  const byLink = cause === "link";
  if (before !== null && cause === null) notice("");
  if (id === null) return reader.request({ [name]: true });
  const there = await ensure(id);
  if (store.get()[name] !== id) return; // another was chosen meanwhile
  if (!there) return setBecause("back", { [name]: before });
  const old = networks.get(before);
  if (name === "model" && old && !byLink && !sameSquares(old, networks.get(id)))
    store.set({ hidden: [], query: null, hover: null });
  if (name === "model") fitToSquares();
  if (name === "model") known.settle();
  reader.request({ [name]: true });
  render();
}

// Numbers of patches that this network does not have can come with a link.
function fitToSquares() {
  const { hidden, query, model } = store.get();
  if (!networks.has(model)) return;
  const count = networks.get(model).squares.grid ** 2;
  store.set({
    hidden: hidden.every((p) => p < count) ? hidden : hidden.filter((p) => p < count),
    query: query !== null && query < count ? query : null,
  });
}

// A link pasted into the open page. Its network comes first: a known image is one of that network's.
let pasted = 0;
async function follow({ model, compare, ...rest }) {
  const mine = ++pasted;
  await started;
  notice("");
  const there = model !== undefined && isHere(model) && (await ensure(model));
  if (mine !== pasted) return;
  if (rest.drawing) slate.stop();
  const { hover, tap, demo, drawing, ...plain } = INITIAL;
  const chosen = { model: there ? model : store.get().model, compare: ids.includes(compare) ? compare : null };
  setBecause("link", { ...plain, ...rest, demo: rest.drawing ? false : store.get().demo, ...chosen });
  fitToSquares();
  if (rest.drawing) layLinked();
}

function isHere(id) {
  if (!ids.includes(id)) notice(`The link names a network that is not here: ${id}.`);
  return ids.includes(id);
}

// What a link draws; where there is no such image, what the page begins with.
function layLinked() {
  if (!known.lay()) begin();
}

function begin() {
  slate.demo(7);
  // A network that does not read drawings begins with a picture that it knows.
  if (networks.get(store.get().model)?.config.drawing === null) known.first();
}

const writeAddress = followAddress(store, follow, slate.down);

store.listen((state, before) => {
  const changes = (names) => names.some((name) => state[name] !== before[name]);
  if (state.model === state.compare && state.model !== null) return store.set({ compare: null });
  if (changes(["model"])) changeModel("model", state.model, before.model);
  if (changes(["compare"])) changeModel("compare", state.compare, before.compare);
  if (changes(["drawing"])) known.settle(); // one that was undone may be of another network
  if (changes(ASKS)) reader.request();
  if (changes([...ASKS, "query", "threshold"])) writeAddress();
  render();
});

listenForFiles({
  onProblem: notice,
  isDrawing: () => networks.get(store.get().model)?.config.drawing !== null,
  onPicture: (image) => (notice(""), slate.lay(image, "picture")),
  async onModel(config, weights) {
    const id = `own~${++own}`;
    try {
      const network = await loadFiles(id, config, weights);
      networks.set(id, network);
      menu.add(id, `${network.config.name ?? "own"} (your file)`);
      notice("");
      store.set({ model: id });
    } catch (error) {
      notice(error.message);
    }
  },
});

async function readMenu() {
  try {
    const response = await fetch("models.json");
    if (!response.ok) throw new Error();
    return await response.json();
  } catch {
    notice(
      "models.json is not here, so there is no network to load: serve the folder that `vitlab export RUN --to web` " +
        "wrote, or open your own model below.",
    );
    return { models: [], study: null };
  }
}

async function start() {
  const { models, study } = await readMenu();
  menu = createMenu(store, models, study);
  render();
  ids = models.map(({ id }) => id);
  const wanted = [linked.model, ...ids].filter((id) => ids.includes(id));
  if (linked.model) isHere(linked.model);
  for (const id of wanted) {
    if (!(await ensure(id))) continue;
    store.set({ model: id, compare: ids.includes(linked.compare) ? linked.compare : null });
    break;
  }
  if (store.get().drawing.kind === "example") layLinked();
  else if (store.get().demo && networks.get(store.get().model)?.config.drawing === null) known.first();
}

byId("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address is the page's state
  byId("slate").focus();
});
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => (forgetColours(), render()));
new ResizeObserver(render).observe(document.body);
if (!linked.drawing) slate.demo(7);
const started = start();
