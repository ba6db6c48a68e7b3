// Beside the answer: whether the page's numbers are Python's, and how sure the network was taught to be.

import { byId, setText } from "../dom.js";
import { percent } from "../net/numbers.js";
import { tested } from "./status.js";

/** @import { View } from "../main.js" */
/** @import { Config } from "../net/config.js" */

const NEAR = 0.03; // of the most that it was taught

/** @param {View} view */
export function renderTrust({ model, reading, empty }) {
  const trust = byId("trust");
  trust.hidden = model === null;
  if (model === null) return;
  const known = !model.config.corrected && model.selftest?.images;
  const state = known ? (model.selftest?.agree ? "verified" : "wrong") : "unknown";
  trust.className = `trust ${state}`;
  setText(byId("trust-mark"), { verified: "Verified", wrong: "Not to be trusted", unknown: "Not verified" }[state]);
  const means = {
    verified: "So what you see here is what your network says.",
    wrong: "Do not rely on any number on this page: reload it, or export it again.",
    unknown: "",
  };
  setText(byId("trust-say"), `${tested(model)} ${means[state]}`.trim());
  if (state === "wrong" && !trust.hasAttribute("data-told")) {
    trust.setAttribute("open", "");
    trust.setAttribute("data-told", "");
  }
  byId("taught").hidden = mostTaught(model.config) === null;
  const best = reading && !empty ? Math.max(...reading.probabilities) : null;
  setText(byId("taught"), taught(model.config, best));
}

/**
 * The probability that the right answer had in training; null without label smoothing.
 * @param {Config} config
 */
function mostTaught({ label_smoothing: smoothing, classes }) {
  if (typeof smoothing !== "number" || !(smoothing > 0 && smoothing < 1)) return null;
  return 1 - smoothing + smoothing / classes.length;
}

/** @param {Config} config @param {number | null} best */
function taught(config, best) {
  const most = mostTaught(config);
  if (most === null) return "";
  const { label_smoothing: smoothing = 0, classes } = config;
  const why = `in training the right answer counted ${percent(most, 0)}, each other one ${percent(smoothing / classes.length, 0)} (label smoothing)`;
  if (best !== null && best >= most - NEAR) return `${percent(best, 0)} is as sure as it was taught to be: ${why}.`;
  return `It was never taught to be surer than ${percent(most, 0)}: ${why}.`;
}
