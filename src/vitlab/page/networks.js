// The networks of the page: loaded once each, and chosen by the menu, by an address or as the first that loads.

import { load, loadFiles } from "./client.js";
import { arrived, arriving } from "./coming.js";
import { byId, setText } from "./dom.js";
import { sameClasses, sameSquares } from "./reader.js";
import { bytes, json } from "./resources.js";

/** @import { MenuFile } from "./panels/menu.js" */
/** @import { Loaded } from "./net/worker.js" */
/** @import { State, Store } from "./state.js" */
/**
 * notice(sentence) shows it; chosen(name) follows when the first or the second network is there, or there is none;
 * opened(id, name) when one that is not of this site has been opened.
 * @typedef {object} Listeners
 * @property {(sentence: string, stays?: boolean) => void} notice
 * @property {(name: "model" | "compare") => void} chosen
 * @property {(id: string, name: string) => void} opened
 */

const NO_MENU =
  "There is no models.json here, so there is no network to load: serve the folder that `vitlab export RUN --to web` wrote, " +
  "or open your own model below.";
const AS_FILE =
  "Browsers do not let a page that is opened as a file load its networks: run `python -m http.server` in its folder and open " +
  "http://localhost:8000, or export it with --single-file.";

/** @param {Store} store @param {Listeners} listeners */
export function createNetworks(store, { notice, chosen, opened }) {
  /** @type {Map<string | null, Loaded>} */
  const networks = new Map();
  /** @type {string[]} */
  let ids = []; // of the networks of this site
  let own = 0;
  /** @type {Map<string, ArrayBuffer>} */
  const ownWeights = new Map();
  /**
   * Why the page itself chooses a network: "back" to the previous one, because another did not load; a "link", whose
   * notices and patches are kept; else null.
   * @type {"back" | "link" | null}
   */
  let cause = null;

  /** @param {unknown} error */
  const noticeError = (error) => notice(error instanceof Error ? error.message : String(error));

  /** @param {"back" | "link"} why @param {Partial<State>} changes */
  function setBecause(why, changes) {
    cause = why;
    store.set(changes);
    cause = null;
  }

  /**
   * Loads a network if needed; false, after a notice, if it could not be loaded.
   * @param {string} id
   */
  async function ensure(id) {
    if (networks.has(id)) return true;
    try {
      networks.set(id, await load(id, undefined, arriving(id)));
      return true;
    } catch (error) {
      noticeError(error);
      return false;
    } finally {
      arrived();
    }
  }

  /** @param {"model" | "compare"} name @param {string | null} id @param {string | null} before */
  async function change(name, id, before) {
    const byLink = cause === "link";
    if (before !== null && cause === null) notice("");
    if (name === "compare" && cause === null) setText(byId("compare-say"), "");
    if (id === null) return chosen(name);
    const there = await ensure(id);
    if (store.get()[name] !== id) return; // another was chosen meanwhile
    if (!there) return setBecause("back", { [name]: before });
    if (name === "model") {
      const old = networks.get(before);
      if (old && !byLink && !sameSquares(old, networks.get(id))) store.set({ hidden: [], query: null, hover: null });
      if (old && !byLink) store.set({ cuts: [], block: 0, head: 0 });
      fit();
    }
    refuseOtherClasses();
    chosen(name);
  }

  // Networks of other classes have no answers in common: nothing could be compared.
  function refuseOtherClasses() {
    const { model, compare } = store.get();
    const [one, other] = [networks.get(model), networks.get(compare)];
    if (!one || !other || sameClasses(one, other)) return;
    const { name, classes } = other.config;
    const sentence = `${name} tells ${classes.slice(0, 3).join(", ")} ... apart, which are not the classes of ${one.config.name}.`;
    setText(byId("compare-say"), `These two cannot be compared: ${sentence}`);
    setBecause("back", { compare: null });
  }

  // A link can name patches, blocks and heads that this network does not have.
  function fit() {
    const { hidden, query, cuts, block, head, model } = store.get();
    const network = networks.get(model);
    if (!network) return;
    const count = network.squares.grid ** 2;
    const { depth, num_heads: heads } = network.config.model;
    store.set({
      cuts: keepOnly(cuts, (name) => network.cuts.includes(name)),
      block: block < depth ? block : 0,
      head: head < heads ? head : 0,
      hidden: keepOnly(hidden, (patch) => patch < count),
      query: query !== null && query < count ? query : null,
    });
  }

  /**
   * Opens a network that is not of this site, adds it to the menu and chooses it; its id, or null after a notice.
   * @param {any} config @param {ArrayBuffer} weights @param {string} name
   */
  async function addOwn(config, weights, name) {
    const id = `own~${++own}`;
    try {
      networks.set(id, await loadFiles(id, config, weights));
      ownWeights.set(id, weights);
      opened(id, name);
      notice("");
      store.set({ model: id });
      return id;
    } catch (error) {
      noticeError(error);
      return null;
    }
  }

  /** @param {string} id */
  async function weightsOf(id) {
    return ownWeights.get(id) ?? (await bytes(`models/${id}/model.safetensors`));
  }

  /** @returns {Promise<MenuFile>} */
  async function readMenu() {
    try {
      /** @type {MenuFile} */
      const menu = await json("models.json");
      ids = menu.models.map(({ id }) => id);
      return menu;
    } catch {
      notice(location.protocol === "file:" ? AS_FILE : NO_MENU, true);
      return { models: [], study: null };
    }
  }

  /** @param {string} id */
  function isHere(id) {
    const here = ids.includes(id);
    if (!here) notice(`The link asks for a network that this page does not have: ${id}.`);
    return here;
  }

  /**
   * Chooses the networks that the address names; without one, the first that loads.
   * @param {Partial<State>} linked
   */
  async function chooseFirst({ model, compare }) {
    if (model) isHere(model);
    for (const id of model && ids.includes(model) ? [model, ...ids] : ids) {
      if (!(await ensure(id))) continue;
      store.set({ model: id, compare: compare && ids.includes(compare) ? compare : null });
      break;
    }
  }

  return {
    /** @param {string | null} id */
    of: (id) => networks.get(id),
    ids: () => ids,
    /** @param {Partial<State>} changes */
    setLinked: (changes) => setBecause("link", changes),
    ...{ ensure, change, fit, addOwn, weightsOf, readMenu, isHere, chooseFirst },
  };
}

/**
 * The items that are wanted; the same list, and so no change, if all are.
 * @template T
 * @param {T[]} items @param {(item: T) => boolean} wanted
 */
const keepOnly = (items, wanted) => (items.every(wanted) ? items : items.filter(wanted));
