// The page's side of learn/worker.js, which is started when a visitor first trains.

import { bytes, json } from "./resources.js";

/** @import { Facts } from "./learn/lesson.js" */
/** @import { Begin, Drawing, Failed, Files, Order, Progress } from "./learn/worker.js" */
/**
 * lesson: gives the worker the images that the page carries, once; rejects with an Error of one sentence.
 * @typedef {object} Training
 * @property {(message: Begin | Order | Drawing) => void} send
 * @property {() => Promise<Facts>} lesson
 * @property {() => Promise<Files>} files
 */

/**
 * @param {(progress: Progress) => void} onProgress @param {(sentence: string) => void} onFailure
 * @returns {Training}
 */
export function startTraining(onProgress, onFailure) {
  const worker = new Worker(new URL("./learn/worker.js", import.meta.url), { type: "module" });
  /** @type {((files: Files) => void)[]} */
  const waiting = [];
  /** @param {MessageEvent<Progress | Files | Failed>} event */
  worker.onmessage = ({ data: answer }) => {
    if (answer.type === "progress") onProgress(answer);
    else if (answer.type === "files") waiting.shift()?.(answer);
    else onFailure(answer.message);
  };
  worker.onerror = (event) => onFailure(`The training could not be started: ${event.message ?? "a file is missing"}.`);
  /** @type {Promise<Facts> | null} */
  let loading = null;
  async function load() {
    const [facts, png] = await Promise.all([json("lesson.json"), bytes("lesson.png")]);
    worker.postMessage({ type: "lesson", png, facts }, [png]);
    return facts;
  }
  return {
    send: (message) => worker.postMessage(message),
    lesson() {
      loading ??= load().catch((error) => {
        loading = null; // the next try asks again
        throw error;
      });
      return loading;
    },
    files: () =>
      new Promise((resolve) => {
        waiting.push(resolve);
        worker.postMessage({ type: "files" });
      }),
  };
}
