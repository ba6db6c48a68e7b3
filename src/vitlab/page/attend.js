// Sums over attention weights. A layer is {heads, tokens, weights: heads x tokens x tokens, row i what token i takes};
// a class token, if there is one, comes first.

// How much is taken from each patch: by patch `query`, or, if null, by the class token or the mean of all tokens.
export function look({ tokens, weights }, head, patches, query) {
  const first = tokens - patches;
  const row = (token) =>
    weights.subarray((head * tokens + token) * tokens + first, (head * tokens + token + 1) * tokens);
  if (query !== null) return row(first + query);
  if (first > 0) return row(0);
  const sum = new Float32Array(patches);
  for (let token = 0; token < tokens; token++) row(token).forEach((weight, i) => (sum[i] += weight / tokens));
  return sum;
}

// Over about how many patches a look is spread: 2 to the power of its entropy in bits.
export function spread(shares) {
  const total = shares.reduce((sum, share) => sum + share, 0);
  let bits = 0;
  for (const share of shares) if (share > 0) bits -= (share / total) * Math.log2(share / total);
  return 2 ** bits;
}

// The mean over the heads of one layer, tokens x tokens.
export function meanOfHeads({ heads, tokens, weights }) {
  const mean = new Float32Array(tokens * tokens);
  weights.forEach((weight, i) => (mean[i % mean.length] += weight / heads));
  return mean;
}

// All layers multiplied, each mixed half and half with the token itself, as the skip connections do: how much of each
// token has reached each (Abnar and Zuidema 2020). One layer of one head, as above.
export function rollout(layers) {
  const { tokens } = layers[0];
  let reached = null;
  for (const layer of layers) {
    const mixed = meanOfHeads(layer);
    mixed.forEach((weight, i) => (mixed[i] = 0.5 * weight + (i % (tokens + 1) === 0 ? 0.5 : 0)));
    for (let row = 0; row < tokens; row++) {
      const part = mixed.subarray(row * tokens, (row + 1) * tokens);
      const total = part.reduce((sum, weight) => sum + weight, 0);
      part.forEach((weight, i) => (part[i] = weight / total));
    }
    reached = reached ? product(mixed, reached, tokens) : mixed;
  }
  return { heads: 1, tokens, weights: reached };
}

function product(a, b, n) {
  const c = new Float32Array(n * n);
  for (let i = 0; i < n; i++)
    for (let k = 0; k < n; k++) {
      const weight = a[i * n + k];
      for (let j = 0; j < n; j++) c[i * n + j] += weight * b[k * n + j];
    }
  return c;
}
