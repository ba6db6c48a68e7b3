// What can be switched off in a network, to see what its answer depends on: a head, the choice that attention makes, the
// mixing of tokens, a whole block, the positions. Each has a name, which is also its name in the address:
//   h1.2  head 2 of block 1 gives nothing (its part of what the output projection reads is 0)
//   m1    attention of block 1 takes the same from every token: the mean
//   t1    block 1 does not mix tokens (of an MLP-Mixer)
//   b1    block 1 is skipped
//   pos   no positions are added

/** @import { ModelKnobs } from "./config.js" */
/**
 * In one block. heads: for each, whether it is off.
 * @typedef {{ skip: boolean, mean: boolean, mixing: boolean, heads: boolean[] }} BlockCut
 *
 * @typedef {{ positions: boolean, blocks: BlockCut[] }} Cuts
 *
 * What a name means; block and head count from 0.
 * @typedef {{ kind: "head", block: number, head: number }
 *   | { kind: "mean" | "mixing" | "skip", block: number }
 *   | { kind: "positions" }} Cut
 */

const NAME = /^(?:pos|h([1-9]\d{0,2})\.([1-9]\d{0,2})|m([1-9]\d{0,2})|t([1-9]\d{0,2})|b([1-9]\d{0,2}))$/;

/**
 * Null if it is no such name.
 * @param {string} name
 * @returns {Cut | null}
 */
export function readCut(name) {
  const found = NAME.exec(name);
  if (found === null) return null;
  const [, block, head, mean, mixing, skip] = found;
  if (block) return { kind: "head", block: Number(block) - 1, head: Number(head) - 1 };
  if (mean) return { kind: "mean", block: Number(mean) - 1 };
  if (mixing) return { kind: "mixing", block: Number(mixing) - 1 };
  return skip ? { kind: "skip", block: Number(skip) - 1 } : { kind: "positions" };
}

/**
 * The names of everything that can be switched off in a network of tokens: block by block, then the positions.
 * @param {ModelKnobs} model
 */
export function cutsOf({ depth, num_heads: heads, attn_form: form, pos_embed: positions }) {
  const names = Array.from({ length: depth }, (_, i) => {
    const block = i + 1;
    const ofHeads = Array.from({ length: heads }, (__, head) => `h${block}.${head + 1}`);
    if (form === "none") return [`b${block}`];
    return form === "mixing" ? [`b${block}`, `t${block}`] : [`b${block}`, `m${block}`, ...ofHeads];
  }).flat();
  return positions === "none" ? names : [...names, "pos"];
}

/**
 * What the network has to leave out; names of parts that it does not have do nothing.
 * @param {string[]} names @param {ModelKnobs} model
 * @returns {Cuts}
 */
export function openCuts(names, model) {
  /** @type {BlockCut[]} */
  const blocks = Array.from({ length: model.depth }, () => ({
    skip: false,
    mean: false,
    mixing: false,
    heads: new Array(model.num_heads).fill(false),
  }));
  let positions = false;
  for (const cut of names.filter((name) => cutsOf(model).includes(name)).map(readCut)) {
    if (cut?.kind === "head") blocks[cut.block].heads[cut.head] = true;
    else if (cut?.kind === "mean") blocks[cut.block].mean = true;
    else if (cut?.kind === "mixing") blocks[cut.block].mixing = true;
    else if (cut?.kind === "skip") blocks[cut.block].skip = true;
    else positions = true;
  }
  return { positions, blocks };
}
