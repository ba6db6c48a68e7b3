// The page's side of worker.js: promises instead of messages, and the newest drawing wins.

/** @import { Failed, Job, Load, LoadFiles, Loaded, Reading } from "./net/worker.js" */
/**
 * @template T
 * @typedef {{ promise: Promise<T>, resolve: (value: T) => void, reject: (error: Error) => void }} Pending
 */
/**
 * The job that a network works on, and the one that waits.
 * @typedef {object} Queue
 * @property {{ request: number, pending: Pending<Reading | null> } | null} current
 * @property {{ job: Job, pending: Pending<Reading | null> } | null} waiting
 */

const worker = new Worker(new URL("./net/worker.js", import.meta.url), { type: "module" });
/** @type {Map<string, Pending<Loaded>>} */
const loading = new Map();
/** @type {Map<string, Queue>} */
const queues = new Map();
let requests = 0;

/** @param {MessageEvent<Loaded | Reading | Failed>} event */
worker.onmessage = ({ data: answer }) => {
  if (answer.type === "loaded") {
    finishLoading(answer.model)?.resolve(answer);
  } else if (answer.type === "reading") {
    finishReading(answer.model, answer.request)?.resolve(answer);
  } else {
    const { model, request, message } = answer;
    const pending = request === undefined ? finishLoading(model) : finishReading(model, request);
    pending?.reject(new Error(message));
  }
};

worker.onerror = (event) => {
  const error = new Error(
    `The page could not start its networks: ${event.message ?? "a file of the page is missing"}.`,
  );
  for (const pending of loading.values()) pending.reject(error);
  for (const { current, waiting } of queues.values()) {
    current?.pending.reject(error);
    waiting?.pending.reject(error);
  }
  loading.clear();
  queues.clear();
};

/**
 * Loads a model of this site. Rejects with one sentence. Everybody who asks while it loads gets the same promise.
 * @param {string} model
 */
export function load(model, base = `models/${model}/`) {
  return loading.get(model)?.promise ?? ask({ type: "load", model, base: new URL(base, document.baseURI).href });
}

/**
 * Loads the user's own model from a parsed config.json and the bytes of a model.safetensors; `model` is a new id. `like`:
 * the id of a network that learned from the same images.
 * @param {string} model @param {any} config @param {ArrayBuffer} weights @param {string | null} like
 */
export function loadFiles(model, config, weights, like = null) {
  return ask({ type: "load-files", model, config, weights, like });
}

/** @param {Load | LoadFiles} message */
function ask(message) {
  /** @type {Pending<Loaded>} */
  const pending = newPending();
  loading.set(message.model, pending);
  worker.postMessage(message);
  return pending.promise;
}

/**
 * Reads a drawing; null if a newer job replaced this one. Each model works on one job while at most one waits, the
 * newest; then the current one skips its deletion map and curve.
 * @param {string} model @param {Job} job
 */
export function read(model, job) {
  const queue = queues.get(model) ?? { current: null, waiting: null };
  queues.set(model, queue);
  queue.waiting?.pending.resolve(null);
  /** @type {Pending<Reading | null>} */
  const pending = newPending();
  queue.waiting = { job, pending };
  if (queue.current === null) {
    next(model, queue);
  } else {
    worker.postMessage({ type: "hurry", model });
  }
  return pending.promise;
}

/** @param {string} model @param {Queue} queue */
function next(model, queue) {
  if (queue.waiting === null) return;
  const { job, pending } = queue.waiting;
  requests += 1;
  queue.current = { request: requests, pending };
  queue.waiting = null;
  worker.postMessage({ ...job, type: "read", model, request: requests });
}

/**
 * @template T
 * @returns {Pending<T>}
 */
function newPending() {
  /** @type {Partial<Pending<T>>} */
  const pending = {};
  pending.promise = new Promise((resolve, reject) => Object.assign(pending, { resolve, reject }));
  return /** @type {Pending<T>} */ (pending);
}

/** @param {string} model */
function finishLoading(model) {
  const pending = loading.get(model);
  loading.delete(model);
  return pending;
}

/** @param {string} model @param {number} request */
function finishReading(model, request) {
  const queue = queues.get(model);
  if (queue?.current?.request !== request) return undefined;
  const { pending } = queue.current;
  queue.current = null;
  next(model, queue);
  return pending;
}
