// The whole way from the pixels to the answer in one line of words, with the place where the story is.

import { byId, el, keep, setAttribute, setText } from "../dom.js";

/** @import { Loaded } from "../net/worker.js" */
/** @typedef {"pixels" | "patches" | "tokens" | "position" | "mix" | "mlp" | "pool" | "filters" | "scores" | "answer"} Place */

const POOLED = { cls: "class token", mean: "mean of tokens", flatten: "all tokens" };
const MIXES = { attention: "attention", mixing: "mixing" };

/** @param {Loaded} model @param {Place | null} at */
export function paintWay(model, at) {
  const way = wayOf(model);
  keep(byId("story-way"), way.length, () => el("li")).forEach((item, i) => {
    const [place, name] = way[i];
    setText(item, name);
    setAttribute(item, "aria-current", place === at ? "step" : "false");
  });
}

/**
 * @param {Loaded} model
 * @returns {[Place, string][]}
 */
function wayOf({ config, views }) {
  const { depth, pos_embed: form, pool, cnn_channels: channels } = config.model;
  if (!views.tokens) {
    return [
      ["pixels", "pixels"],
      ["filters", `filters${times(channels.length)}`],
      ["scores", "scores"],
      ["answer", "answer"],
    ];
  }
  const mixes = views.mixing ? MIXES.mixing : views.attention ? MIXES.attention : null;
  /** @type {[Place, string][]} */
  const block =
    mixes === null
      ? [["mlp", `MLP${times(depth)}`]]
      : [
          ["mix", `[ ${mixes}`],
          ["mlp", `MLP ]${times(depth)}`],
        ];
  return [
    ["pixels", "pixels"],
    ["patches", "patches"],
    ["tokens", "tokens"],
    .../** @type {[Place, string][]} */ (views.mixing || form === "none" ? [] : [["position", "+ position"]]),
    ...block,
    ["pool", POOLED[pool]],
    ["scores", "scores"],
    ["answer", "answer"],
  ];
}

/** @param {number} many */
const times = (many) => (many > 1 ? ` × ${many}` : "");
