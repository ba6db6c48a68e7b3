// The page's side of worker.js: promises instead of messages, and the newest drawing wins.

const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
const loading = new Map(); // model -> {promise, resolve, reject}
const readers = new Map(); // model -> {current: {request, resolve, reject}, waiting: {job, resolve, reject}}, or null
let requests = 0;

worker.onmessage = ({ data: answer }) => {
  if (answer.request !== undefined) {
    finish(answer);
  } else {
    const promise = loading.get(answer.model);
    loading.delete(answer.model);
    settle(promise, answer);
  }
};

worker.onerror = (event) => {
  const error = new Error(`The networks could not be started: ${event.message ?? "a file of the page is missing"}.`);
  const all = [...loading.values(), ...[...readers.values()].flatMap(({ current, waiting }) => [current, waiting])];
  loading.clear();
  readers.clear();
  all.forEach((promise) => promise?.reject(error));
};

/**
 * A model of this site -> what "loaded" says in worker.js. Rejects with one sentence. While it loads, the same promise
 * for all who ask.
 */
export function load(model, base = `models/${model}/`) {
  return loading.get(model)?.promise ?? ask({ type: "load", model, base: new URL(base, document.baseURI).href });
}

/**
 * A model of the visitor's own, from a config.json that has been parsed and the bytes of a model.safetensors. Each has
 * a new id.
 */
export function loadFiles(model, config, weights) {
  return ask({ type: "load-files", model, config, weights });
}

function ask(message) {
  const pending = {};
  pending.promise = new Promise((resolve, reject) => Object.assign(pending, { resolve, reject }));
  loading.set(message.model, pending);
  worker.postMessage(message);
  return pending.promise;
}

/**
 * Read a drawing: `job` is {drawing, center, hidden, disturb, want} -> what "reading" says in worker.js, or null if a
 * newer job took this one's place. Of each model one job is under way and at most one waits, the newest; while it
 * waits, the one under way is told to leave out its deletion map and curve.
 */
export function read(model, job) {
  return new Promise((resolve, reject) => {
    const reader = readers.get(model) ?? { current: null, waiting: null };
    readers.set(model, reader);
    reader.waiting?.resolve(null);
    reader.waiting = { job, resolve, reject };
    if (reader.current === null) {
      next(model, reader);
    } else {
      worker.postMessage({ type: "hurry", model });
    }
  });
}

function next(model, reader) {
  const { job, resolve, reject } = reader.waiting;
  requests += 1;
  reader.current = { request: requests, resolve, reject };
  reader.waiting = null;
  worker.postMessage({ ...job, type: "read", model, request: requests });
}

function finish(answer) {
  const reader = readers.get(answer.model);
  if (reader?.current?.request !== answer.request) {
    return;
  }
  const { current } = reader;
  reader.current = null;
  if (reader.waiting !== null) {
    next(answer.model, reader);
  }
  settle(current, answer);
}

function settle(promise, answer) {
  if (answer.type === "failed") {
    promise?.reject(new Error(answer.message));
  } else {
    promise?.resolve(answer);
  }
}
