// Sums over attention weights.

/** @import { Layer } from "./net/model.js" */

/**
 * How much is taken from each patch: by patch `query`, or, if that is null, by the class token or the mean token.
 * @param {Layer} layer @param {number} head @param {number} patches @param {number | null} query
 */
export function attentionFrom({ tokens, weights }, head, patches, query) {
  const first = tokens - patches;
  /** @type {(token: number) => Float32Array} */
  const row = (token) =>
    weights.subarray((head * tokens + token) * tokens + first, (head * tokens + token + 1) * tokens);
  if (query !== null) return row(first + query);
  if (first > 0) return row(0);
  const sum = new Float32Array(patches);
  for (let token = 0; token < tokens; token++) {
    row(token).forEach((weight, i) => {
      sum[i] += weight / tokens;
    });
  }
  return sum;
}

/**
 * The number of patches that attention is spread over: 2 to the power of its entropy in bits.
 * @param {Float32Array} shares
 */
export function spread(shares) {
  const total = shares.reduce((sum, share) => sum + share, 0);
  let bits = 0;
  for (const share of shares) if (share > 0) bits -= (share / total) * Math.log2(share / total);
  return 2 ** bits;
}

/**
 * The mean over the heads of one layer, tokens x tokens.
 * @param {Layer} layer
 */
export function meanOfHeads({ heads, tokens, weights }) {
  const mean = new Float32Array(tokens * tokens);
  weights.forEach((weight, i) => {
    mean[i % mean.length] += weight / heads;
  });
  return mean;
}

/**
 * Attention rollout (Abnar and Zuidema 2020): all layers multiplied, each mixed half and half with the identity, which
 * stands for the skip connection. How much of each token has reached each token, as one layer with one head.
 * @param {Layer[]} layers
 * @returns {Layer}
 */
export function rollout(layers) {
  const { tokens } = layers[0];
  let reached = null;
  for (const layer of layers) {
    const mixed = meanOfHeads(layer).map((weight, i) => 0.5 * weight + (i % (tokens + 1) === 0 ? 0.5 : 0));
    for (let row = 0; row < tokens; row++) {
      const part = mixed.subarray(row * tokens, (row + 1) * tokens);
      const total = part.reduce((sum, weight) => sum + weight, 0);
      part.set(part.map((weight) => weight / total));
    }
    reached = reached ? product(mixed, reached, tokens) : mixed;
  }
  return { heads: 1, tokens, weights: reached ?? new Float32Array() };
}

/** @param {Float32Array} a @param {Float32Array} b @param {number} n */
function product(a, b, n) {
  const c = new Float32Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < n; k++) {
      const weight = a[i * n + k];
      for (let j = 0; j < n; j++) c[i * n + j] += weight * b[k * n + j];
    }
  }
  return c;
}
