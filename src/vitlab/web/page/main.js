// The page: what is chosen (state.js), what is drawn (draw.js), what the networks say (reader.js), and the panels.

import { followAddress } from "./address.js";
import { load, loadFiles } from "./client.js";
import { byId, picture, setText, surface, forgetColours } from "./dom.js";
import { createSlate } from "./draw.js";
import { listenForFiles } from "./files.js";
import { createKnown } from "./known.js";
import { createReader, sameSquares } from "./reader.js";
import { INITIAL, createStore, fromHash, marked } from "./state.js";
import { createAnswer } from "./panels/answer.js";
import { createAttention } from "./panels/attention.js";
import { createDisturb } from "./panels/disturb.js";
import { createLens } from "./panels/lens.js";
import { createMenu } from "./panels/menu.js";
import { createNeeds } from "./panels/needs.js";
import { createPatches } from "./panels/patches.js";
import { renderStatus } from "./panels/status.js";
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
      empty: slate.empty() || isBlank(first.reading),
      empty2: slate.empty() || isBlank(second.reading),
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
    setText(byId("turn"), slate.empty() ? "Draw a digit here" : "Your turn: draw a digit");
    for (const panel of panels) panel(view);
    renderStatus(view);
    menu?.render(view);
    paintChip(view);
    known.render(view);
  });
}

// A drawing without ink; a network that reads no drawings may have something to say about a black picture, too.
function isBlank(reading) {
  if (!reading || networks.get(reading.model)?.config.drawing === null) return false;
  return reading.steps.box === null || reading.steps.placed.every((value) => value === 0);
}

// The small answer at the lower edge of a phone's screen.
function paintChip({ reading, model }) {
  if (!reading) return;
  const { size } = model.squares;
  surface(byId("chip-image"), 44, 44).drawImage(
    picture(reading.image, size, size, model.config.channels),
    0,
    0,
    44,
    44,
  );
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

let goingBack = false; // to the network before, because another did not load: the sentence about that stays
async function changeModel(name, id, before) {
  if (before !== null && !goingBack) notice("");
  if (id === null) return reader.request({ [name]: true });
  const there = await ensure(id);
  if (store.get()[name] !== id) return; // another was chosen meanwhile
  if (!there) {
    goingBack = true;
    store.set({ [name]: before });
    goingBack = false;
    return;
  }
  const old = networks.get(before);
  if (name === "model" && old && !sameSquares(old, networks.get(id)))
    store.set({ hidden: [], query: null, hover: null });
  if (name === "model") fitToSquares();
  if (name === "model") known.settle();
  reader.request({ [name]: true });
  render();
}

// Numbers of patches that this network does not have can come with a link.
function fitToSquares() {
  const { hidden, query, model } = store.get();
  const count = networks.get(model).squares.grid ** 2;
  store.set({
    hidden: hidden.every((p) => p < count) ? hidden : hidden.filter((p) => p < count),
    query: query !== null && query < count ? query : null,
  });
}

const writeAddress = followAddress(store, ({ model, compare, ...rest }) => {
  const { hover, tap, demo, drawing, ...plain } = INITIAL;
  store.set({ ...plain, ...rest, demo: false, model: model ?? store.get().model, compare: compare ?? null });
  if (rest.drawing) known.lay();
});

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
  const ids = models.map(({ id }) => id);
  const wanted = [linked.model, ...ids].filter((id) => ids.includes(id));
  if (linked.model && !ids.includes(linked.model))
    notice(`The link names a network that is not here: ${linked.model}.`);
  for (const id of wanted) {
    if (!(await ensure(id))) continue;
    store.set({ model: id, compare: ids.includes(linked.compare) ? linked.compare : null });
    break;
  }
  if (store.get().drawing.kind === "example") known.lay();
  const first = networks.get(store.get().model);
  // A network that does not read drawings begins with a picture that it knows.
  if (store.get().demo && first?.config.drawing === null) known.first();
}

window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => (forgetColours(), render()));
new ResizeObserver(render).observe(document.body);
if (!linked.drawing) slate.demo(7);
start();
