// AdamW (Loshchilov and Hutter 2019), as torch's, and the learning rate over the steps.

/** @import { Parameters } from "./network.js" */
/**
 * @typedef {{ lr: number, beta1: number, beta2: number, eps: number, decay: number }} Rates
 * @typedef {ReturnType<typeof createAdamW>} AdamW
 */

const UNDECAYED = /(^|\.)(pos_embed|cls_token|bias)$/; // not maps from features to features

/**
 * Steps for the parameters whose names `chosen` accepts. Only weight matrices decay, as in vitlab/training.
 * @param {Parameters} parameters @param {Rates} rates @param {(name: string) => boolean} chosen
 */
export function createAdamW({ flat, tensors }, { beta1, beta2, eps, decay }, chosen = () => true) {
  const first = new Float32Array(flat.length);
  const second = new Float32Array(flat.length);
  /** @type {{ start: number, end: number, decay: number }[]} */
  const parts = [];
  for (const [name, { shape, data }] of tensors) {
    const start = (data.byteOffset - flat.byteOffset) / 4;
    const decays = shape.length > 1 && !UNDECAYED.test(name) ? decay : 0;
    if (chosen(name)) parts.push({ start, end: start + data.length, decay: decays });
  }
  let steps = 0;

  /** @param {Float32Array} gradients @param {number} lr */
  return function step(gradients, lr) {
    steps += 1;
    const size = lr / (1 - beta1 ** steps);
    const root = Math.sqrt(1 - beta2 ** steps);
    for (const { start, end, decay: share } of parts) {
      const keep = 1 - lr * share;
      for (let i = start; i < end; i++) {
        const g = gradients[i];
        const m = beta1 * first[i] + (1 - beta1) * g;
        const v = beta2 * second[i] + (1 - beta2) * g * g;
        first[i] = m;
        second[i] = v;
        flat[i] = flat[i] * keep - (size * m) / (Math.sqrt(v) / root + eps);
      }
    }
  };
}

/**
 * The share of the learning rate at a step: it rises linearly, then falls to 0 in a straight line or along a cosine
 * (lr_at in vitlab/training/optim.py).
 * @param {number} step from 0 @param {number} steps @param {number} warmUp steps
 * @param {"linear" | "cosine"} shape
 */
export function rateAt(step, steps, warmUp, shape) {
  if (step < warmUp) return (step + 1) / warmUp;
  const done = (step - warmUp) / Math.max(1, steps - warmUp);
  if (done >= 1) return 0;
  return shape === "linear" ? 1 - done : 0.5 * (1 + Math.cos(Math.PI * done));
}
