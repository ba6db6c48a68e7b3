// Beside the answer, in a sentence each: whether the page's numbers are Python's, and how sure the network was taught to be.

import { byId, setText } from "../dom.js";
import { percent } from "../net/numbers.js";
import { tied, words } from "../words.js";

/** @import { View } from "../main.js" */
/** @import { Config } from "../net/config.js" */
/** @import { Loaded } from "../net/worker.js" */

const MARKS = { verified: "Verified:", wrong: "Not to be trusted:", unknown: "Not verified:" };

/** @param {View} view */
export function renderTrust({ model }) {
  const trust = byId("trust");
  trust.hidden = model === null;
  if (model === null) return;
  const [state, means] = verdict(model);
  trust.className = `trust small ${state}`;
  setText(byId("trust-mark"), MARKS[state]);
  setText(byId("trust-say"), means);
  const said = taught(model.config);
  byId("taught").hidden = said === "";
  setText(byId("taught"), tied(said));
}

/**
 * The mark, and what follows it.
 * @param {Loaded} model
 * @returns {[keyof typeof MARKS, string]}
 */
function verdict({ selftest, config }) {
  const things = `${words(config).thing}s`;
  if (config.corrected) {
    return [
      "unknown",
      `it was corrected here, so the self-test of the original, ${config.corrected}, no longer counts.`,
    ];
  }
  if (!selftest?.images) {
    return ["unknown", `it came without known ${things}, so nothing compares your browser's numbers with Python's.`];
  }
  const known = `on ${selftest.images} known ${things}, your browser computed`;
  if (selftest.agree) return ["verified", `${known} the same numbers as the original program in Python.`];
  return [
    "wrong",
    `${known} other numbers than the original program in Python, so rely on none of them: reload the page, or export it again.`,
  ];
}

/**
 * What label smoothing asked of the network in training; "" without it.
 * @param {Config} config
 */
function taught({ label_smoothing: smoothing, classes }) {
  if (typeof smoothing !== "number" || !(smoothing > 0 && smoothing < 1)) return "";
  const each = smoothing / classes.length;
  const [most, least] = [1 - smoothing + each, each].map(exact);
  return `About ${most} is “sure” here: the network was trained to give the right answer ${most} and each other one ${least}, not 100 % and 0 % (label smoothing).`;
}

/**
 * 0.91 -> "91 %", 0.955 -> "95.5 %".
 * @param {number} share
 */
const exact = (share) => percent(share, Number.isInteger(Number((100 * share).toFixed(6))) ? 0 : 1);
