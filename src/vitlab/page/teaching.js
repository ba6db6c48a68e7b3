// The page's side of learn/teacher.js: a thread for each teaching, which can be stopped.

import { bytes, json } from "./resources.js";

/** @import { Config } from "./net/config.js" */
/** @import { Result, Task, Told } from "./learn/teacher.js" */

/**
 * What the page carries to learn from, if it shows the data that this network was trained on; else null.
 * @param {Config} config
 * @returns {Promise<Task["lesson"]>}
 */
export async function lessonFor({ data, classes, channels }) {
  try {
    const facts = await json("lesson.json");
    const same = facts.data === data && facts.channels === channels && facts.classes.join("\n") === classes.join("\n");
    return same ? { facts, png: await bytes("lesson.png") } : null;
  } catch {
    return null; // a page without it
  }
}

/**
 * Begins to teach. `taught` rejects with an Error of one sentence; after stop() it never settles.
 * @param {Task} task @param {(step: number, steps: number) => void} onStep
 */
export function startTeaching(task, onStep) {
  const worker = new Worker(new URL("./learn/teacher.js", import.meta.url), { type: "module" });
  const stop = () => worker.terminate();
  /** @type {Promise<Result>} */
  const taught = new Promise((resolve, reject) => {
    /** @param {MessageEvent<Told>} event */
    worker.onmessage = ({ data: told }) => {
      if (told.type === "step") return onStep(told.step, told.steps);
      stop();
      if (told.type === "taught") resolve(told);
      else reject(new Error(told.message));
    };
    worker.onerror = (event) => {
      stop();
      reject(new Error(`The teaching could not be started: ${event.message ?? "a file is missing"}.`));
    };
  });
  worker.postMessage(task);
  return { taught, stop };
}
