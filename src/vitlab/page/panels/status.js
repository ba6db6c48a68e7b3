// What there is to do here, the self-test, and which network this is.

import { byId, setText } from "../dom.js";
import { percent } from "../net/numbers.js";
import { words } from "../words.js";

/** @import { Config } from "../net/config.js" */
/** @import { View } from "../main.js" */
/** @import { Loaded } from "../net/worker.js" */

const DRAW = "Draw with the mouse, a finger or a pen.";
const SHOW = "Open a picture, or draw over this one with the mouse, a finger or a pen.";

/**
 * A network that does not read drawings is shown pictures.
 * @param {View} view @param {boolean} empty
 */
export function renderInvitation({ model }, empty) {
  const { digits, draws } = words(model?.config ?? null);
  const start = digits ? "Draw a digit and watch" : draws ? "Draw and watch" : "Show a picture and watch";
  setText(byId("title"), `${start} a network read it`);
  document.title = `${start} a ${kind(model)} read it`;
  setText(byId("draw-word"), draws ? "Draw" : "Show");
  const [first, next] = digits
    ? ["Draw a digit here", "Your turn: draw a digit"]
    : draws
      ? ["Draw here", "Your turn: draw"]
      : ["Open a picture, or draw here", "Your turn"];
  setText(byId("turn"), empty ? first : next);
  setText(byId("slate-how"), draws ? DRAW : SHOW);
  byId("slate-digits").hidden = !digits;
}

/** @param {Loaded | null} model */
function kind(model) {
  if (!model) return "network";
  if (!model.views.tokens) return "convolutional network";
  if (model.views.mixing) return "MLP-Mixer";
  return model.views.attention ? "Vision Transformer" : "network";
}

/** @param {View} view */
export function renderStatus({ model, loading }) {
  const waiting = loading ? "Loading the network ..." : "No network is loaded.";
  setText(byId("selftest"), model ? tested(model) : waiting);
  byId("selftest").classList.toggle("good", Boolean(model?.selftest?.agree));
  const facts = byId("model-facts");
  setText(facts, model ? about(model.config) : "");
  const credit = model?.examples?.credit ?? "";
  byId("credit").hidden = credit === "";
  setText(byId("credit"), credit);
  facts.title = model ? `SHA-256 of model.safetensors: ${model.config.sha256 ?? "unknown"}` : "";
}

/**
 * What the self-test found, in one sentence.
 * @param {Loaded} model
 */
export function tested({ selftest, config }) {
  if (config.corrected) {
    return `Corrected here, so the self-test and the test accuracy of the original, ${config.corrected}, no longer hold.`;
  }
  const things = `${words(config).thing}s`;
  if (!selftest?.images) {
    return `This network came without known ${things}, so the page's numbers were not compared with Python's.`;
  }
  const { images, agree, maxDifference } = selftest;
  const most = `largest difference ${scientific(maxDifference)}`;
  if (agree) return `This page's numbers match Python's on ${images} of ${images} known ${things} (${most}).`;
  return `Warning: this page's numbers differ from Python's on ${images} known ${things} (${most}).`;
}

/**
 * 3.1e-6 -> "3e-6".
 * @param {number} x
 */
const scientific = (x) => (x === 0 ? "0" : x.toExponential(0));

/** @param {Config} config */
function about(config) {
  const { name, data, test_top1: top1, test_top1_interval: interval, test_images: images, params, sha256 } = config;
  const parts = [name];
  if (top1 !== null && top1 !== undefined) {
    const range = interval ? ` (95 % interval ${interval.map((p) => (100 * p).toFixed(2)).join(" to ")})` : "";
    const on = images ? `${images.toLocaleString("en")} test images of ${data}` : data;
    parts.push(`${percent(top1, 2)} correct on ${on}${range}`);
  }
  for (const [label, text] of config.metrics ?? []) parts.push(`${label} ${text}`);
  if (params) parts.push(`${params.toLocaleString("en")} parameters`);
  if (sha256) parts.push(`digest ${sha256.slice(0, 12)}`);
  return parts.join(" · ");
}
