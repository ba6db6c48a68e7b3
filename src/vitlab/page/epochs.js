// The network at earlier moments of its training: the weights after some epochs (vitlab/export/replay.py), loaded when
// they are first asked for. The worker holds one such network at a time, beside the finished one.

import { loadFiles } from "./client.js";
import { bytes } from "./resources.js";

/** @import { Loaded } from "./net/worker.js" */
/** @import { Store } from "./state.js" */
/** @typedef {ReturnType<typeof createEpochs>} Epochs */
/**
 * `replay` of a network in models.json. epochs: of the whole training; selected: the epoch of the finished network;
 * train_top1: of the images of that epoch, while it learned from them.
 * @typedef {object} Replay
 * @property {number} epochs
 * @property {number | null} selected
 * @property {{ epoch: number, val_top1: number | null, train_top1: number | null, sha256: string }[]} kept
 */

/** @param {string} model */
const past = (model) => `${model}~past`; // no id of a site or of a user's file ends like this

/**
 * loaded(id): the finished network. read() is called when another moment is ready to read, show() as files arrive.
 * @param {Store} store @param {(id: string | null) => Loaded | undefined} loaded @param {() => void} read
 * @param {() => void} show @param {(sentence: string) => void} failed
 */
export function createEpochs(store, loaded, read, show, failed) {
  /** @type {Map<string, Replay>} */
  const replays = new Map();
  /** @type {Map<string, Promise<ArrayBuffer>>} */
  const files = new Map();
  /** @type {{ model: string, epoch: number } | null} */
  let ready = null; // what the worker holds
  let busy = false;
  let progress = "";

  /** @param {string | null} model */
  const of = (model) => (model === null ? null : (replays.get(model) ?? null));

  /**
   * The weights after an epoch; asked for once.
   * @param {string} model @param {number} epoch
   */
  function weights(model, epoch) {
    const address = `models/${model}/epochs/${epoch}.safetensors`;
    const known = files.get(address);
    if (known) return known;
    const coming = bytes(address, (received, total) => {
      progress = `Loading epoch ${epoch}: ${kilobytes(received)}${total === null ? "" : ` of ${kilobytes(total)}`} kB ...`;
      show();
    }).finally(() => {
      progress = "";
    });
    files.set(address, coming);
    coming.catch(() => files.delete(address)); // it may succeed later
    return coming;
  }

  // Puts the network of the chosen moment into the worker; of several choices meanwhile, the last counts.
  async function follow() {
    if (busy) return;
    busy = true;
    for (;;) {
      const { model, epoch } = store.get();
      if (model === null || epoch === null || (ready?.model === model && ready.epoch === epoch)) break;
      const moment = of(model)?.kept.find((one) => one.epoch === epoch);
      const network = loaded(model);
      if (!moment || !network) break;
      try {
        const data = await weights(model, epoch);
        const { novelty, ...config } = network.config; // the distances are those of the finished network
        await loadFiles(past(model), { ...config, sha256: moment.sha256 }, data, model);
        ready = { model, epoch };
      } catch (error) {
        failed(error instanceof Error ? error.message : String(error));
        store.set({ epoch: null });
      }
    }
    busy = false;
    read();
  }

  store.listen((state, before) => {
    if (state.model !== before.model && before.model !== null && state.epoch !== null) store.set({ epoch: null });
    else if (state.epoch !== before.epoch || state.model !== before.model) settle();
  });

  // A link may name an epoch that this network does not have.
  function settle() {
    const { model, epoch } = store.get();
    const known = epoch === null || model === null || replays.size === 0;
    if (!known && !of(model)?.kept.some((one) => one.epoch === epoch)) store.set({ epoch: null });
    else follow();
  }

  return {
    of,
    weights,
    /** @param {{ id: string, replay?: Replay }[]} models of models.json */
    offer(models) {
      for (const { id, replay } of models) if (replay) replays.set(id, replay);
    },
    settle,
    progress: () => progress,
    // Whether the chosen moment is the one that is read.
    isThere() {
      const { model, epoch } = store.get();
      return epoch === null || (ready?.model === model && ready?.epoch === epoch);
    },
    /**
     * Which of the worker's networks reads for this one: itself, or itself at the chosen moment.
     * @param {string} id
     */
    place(id) {
      const { model, epoch } = store.get();
      return id === model && epoch !== null && ready?.model === model ? past(id) : id;
    },
  };
}

/** @param {number} count */
const kilobytes = (count) => Math.ceil(count / 1000).toLocaleString("en");
