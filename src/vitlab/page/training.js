// The page's side of learn/worker.js, which is started, with the images to learn from, when a visitor first trains.

import { bytes, json } from "./resources.js";

/** @import { Facts } from "./learn/lesson.js" */
/** @import { Begin, Drawing, Failed, Files, Order, Progress } from "./learn/worker.js" */
/** @typedef {{ send: (message: Begin | Order | Drawing) => void, files: () => Promise<Files> }} Training */

/**
 * Starts the worker and gives it the images. Rejects with an Error of one sentence.
 * @param {(facts: Facts) => void} opened @param {(progress: Progress) => void} onProgress
 * @param {(sentence: string) => void} onFailure
 * @returns {Promise<Training>}
 */
export async function startTraining(opened, onProgress, onFailure) {
  const [facts, png] = await Promise.all([json("lesson.json"), bytes("lesson.png")]);
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
  worker.postMessage({ type: "lesson", png, facts }, [png]);
  opened(facts);
  return {
    send: (message) => worker.postMessage(message),
    files: () =>
      new Promise((resolve) => {
        waiting.push(resolve);
        worker.postMessage({ type: "files" });
      }),
  };
}
