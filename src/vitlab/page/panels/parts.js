// The parts of a network in their order: what each holds, how many learned numbers it has, and where the page shows it.
// Letters: N tokens, D embed_dim, d width of a head, H hidden width of the MLP, K classes.

import { counted } from "./vector.js";

/** @import { Loaded } from "../net/worker.js" */
/**
 * A rectangle of numbers: `wide` x `high`, learned weights or values that change with the drawing. name: as in the
 * formulas of an opened patch.
 * @typedef {{ kind: "weights" | "values" | "image" | "patches", wide: number, high: number, name?: string }} Shape
 *
 * One part. group: the block it belongs to, or "". opens: the id of the panel that shows it. block and head, from 0: what
 * is opened there. tensors: how the names of its parameters begin; they are counted. share: the parts that share them.
 * @typedef {{ name: string, says: string, group: string, opens: string, block?: number, head?: number,
 *   shapes: Shape[], parameters: number }} Part
 *
 * @typedef {(...starts: string[]) => number} Count  of the parameters whose names begin so
 */

/**
 * @param {Loaded} model
 * @returns {Part[]}
 */
export function partsOf(model) {
  /** @type {Count} */
  const count = (...starts) =>
    Object.entries(model.shapes)
      .filter(([name]) => starts.some((start) => name.startsWith(start)))
      .reduce((sum, [, shape]) => sum + shape.reduce((product, size) => product * size, 1), 0);
  return model.views.tokens ? partsOfTokens(model, count) : partsOfFilters(model, count);
}

/** @type {(wide: number, high: number, name?: string) => Shape} */
const weights = (wide, high, name) => ({ kind: "weights", wide, high, name });
/** @type {(wide: number, high: number, name?: string) => Shape} */
const values = (wide, high, name) => ({ kind: "values", wide, high, name });

/**
 * @param {Loaded} model @param {"image" | "patches"} kind
 * @returns {Shape[]}
 */
const pictures = ({ squares, config }, kind) =>
  Array.from({ length: config.channels }, () => ({ kind, wide: squares.size, high: squares.size }));

/** @param {Loaded} model */
function image(model) {
  const { size } = model.squares;
  const says = `${size} × ${size} numbers${model.config.channels === 3 ? " in each of 3 colours" : ""}`;
  return { name: "Image", says, group: "", opens: "receives", shapes: pictures(model, "image"), parameters: 0 };
}

/**
 * @param {Loaded} model @param {Count} count
 * @returns {Part[]}
 */
function partsOfTokens(model, count) {
  const { config, squares, shapes } = model;
  const { embed_dim: dim, depth, pool } = config.model;
  const [, patch = 0] = shapes["patch_embed.weight"];
  const tokens = squares.grid ** 2 + (pool === "cls" ? 1 : 0);
  const places = count("pos_embed") > 0;
  const pooled = pool === "flatten" ? tokens : 1;
  const how = { cls: "the class token alone", mean: "the mean of all tokens", flatten: "all tokens, end to end" };
  const blocks = Array.from({ length: depth }, (_, i) => partsOfBlock(model, count, i, tokens)).flat();
  return [
    image(model),
    {
      ...{
        name: "Patches",
        says: `${squares.grid ** 2} squares of ${squares.side} × ${squares.side} pixels`,
        group: "",
      },
      ...{ opens: "patches", shapes: pictures(model, "patches"), parameters: 0 },
    },
    {
      ...{ name: "Embedding", says: `one matrix, ${patch} × ${dim}, for every patch`, group: "", opens: "inside" },
      ...{ shapes: [weights(dim, patch, "W")], parameters: count("patch_embed.") },
    },
    {
      name: "Tokens",
      says: `${tokens} tokens of ${dim} numbers${places ? ", positions added" : ""}`,
      ...{ group: "", opens: "inside", parameters: count("pos_embed", "cls_token") },
      shapes: places ? [weights(dim, tokens, "position"), values(dim, tokens, "x")] : [values(dim, tokens, "x")],
    },
    ...blocks,
    {
      ...{ name: "One vector", says: `after a last norm: ${how[pool]}`, group: "", opens: "lens-card" },
      ...{ shapes: [values(dim, pooled)], parameters: count("norm.") },
    },
    ...deciding(model, count),
  ];
}

/**
 * A block's heads share its norm and its output projection: each head is given its part of the parameters.
 * @param {Loaded} model @param {Count} count @param {number} block @param {number} tokens
 * @returns {Part[]}
 */
function partsOfBlock({ config, shapes, views }, count, block, tokens) {
  const { embed_dim: dim, num_heads: heads, head_dim: own, attn_form: form } = config.model;
  const name = `blocks.${block}.`;
  const group = `Block ${block + 1}`;
  const [hidden] = shapes[`${name}mlp.fc1.weight`];
  const width = form === "merged" ? dim : (own ?? dim / heads);
  const attention = count(`${name}attn.`, `${name}norm1.`);
  const parts = Array.from({ length: views.attention ? heads : 0 }, (_, head) => ({
    name: `Head ${head + 1}`,
    says: `compares ${tokens} × ${tokens} pairs of tokens`,
    ...{ group, opens: "inside", block, head },
    shapes: [
      form === "merged" ? weights(dim, dim, "W_q") : weights(3 * width, dim, "W_q W_k W_v"),
      values(tokens, tokens, "a"),
      values(width, tokens, "o"),
      weights(dim, width, "W_o"),
    ],
    parameters: Math.floor(attention / heads) + (head < attention % heads ? 1 : 0),
  }));
  const mlp = {
    ...{ name: "MLP", says: `each token alone: ${dim} → ${hidden} → ${dim} numbers`, group, opens: "inside", block },
    shapes: [
      weights(hidden, dim, "W₁"),
      values(hidden, tokens, "hidden"),
      weights(hidden, dim, "W₂"),
      values(dim, tokens, "m"),
    ],
    parameters: count(`${name}mlp.`, `${name}norm2.`),
  };
  if (!views.mixing) return [...parts, mlp];
  const [across] = shapes[`${name}tokens.fc1.weight`];
  const mixing = {
    ...{
      name: "Mixing",
      says: `each number alone: ${tokens} → ${across} → ${tokens} tokens`,
      group,
      opens: "inside",
      block,
    },
    shapes: [
      weights(across, tokens, "V₁"),
      values(across, dim, "hidden"),
      weights(across, tokens, "V₂"),
      values(dim, tokens, "c"),
    ],
    parameters: count(`${name}tokens.`, `${name}norm1.`),
  };
  return [mixing, mlp];
}

/**
 * @param {Loaded} model @param {Count} count
 * @returns {Part[]}
 */
function deciding({ config, shapes }, count) {
  const layers = Object.keys(shapes).filter((name) => /^head\.\d+\.weight$/.test(name));
  const classes = config.classes.length;
  return [
    {
      ...{
        name: "Head",
        says: `${layers.length === 1 ? "one matrix that decides" : `${layers.length} matrices that decide`}`,
        group: "",
      },
      ...{ opens: "decide", parameters: count("head.") },
      shapes: layers.map((name) => weights(shapes[name][1], shapes[name][0])),
    },
    {
      ...{ name: "Classes", says: `${counted(classes)} probabilities`, group: "", opens: "decide", parameters: 0 },
      shapes: [values(classes, 1)],
    },
  ];
}

/**
 * @param {Loaded} model @param {Count} count
 * @returns {Part[]}
 */
function partsOfFilters(model, count) {
  let side = model.squares.size;
  const layers = model.config.model.cnn_channels.map((outs, i) => {
    const [, inner] = model.shapes[`convs.${i}.weight`];
    side = Math.floor((side - 2) / 2);
    return {
      name: `Filters ${i + 1}`,
      says: `${outs} filters of 3 × 3; they make ${outs} pictures of ${side} × ${side}`,
      ...{ group: "", opens: "needs", parameters: count(`convs.${i}.`) },
      shapes: [weights(9 * inner, outs), ...Array.from({ length: outs }, () => values(side, side))],
    };
  });
  return [image(model), ...layers, ...deciding(model, count)];
}
