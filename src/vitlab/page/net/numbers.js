// Small functions of numbers, for the page and for its worker.

/**
 * The index of the largest value; the first one if there are several.
 * @param {ArrayLike<number>} values
 */
export function argmax(values) {
  let best = 0;
  for (let i = 1; i < values.length; i++) {
    if (values[i] > values[best]) best = i;
  }
  return best;
}

/** @param {number[]} values */
export function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/**
 * 0.9984 -> "99.8 %"; anything below 1 is never shown as 100 %, anything above 0 never as 0 %.
 * @param {number} p
 */
export function percent(p, digits = 1) {
  if (p > 0 && 100 * p < 0.5 * 10 ** -digits) return `< ${10 ** -digits} %`;
  if (p < 1 && 100 * p >= 100 - 0.5 * 10 ** -digits) return `> ${(100 - 10 ** -digits).toFixed(digits)} %`;
  return `${(100 * p).toFixed(digits)} %`;
}

/**
 * Brightness of a colour in bytes: ITU-R 601-2, as in Pillow.
 * @param {number} r @param {number} g @param {number} b
 */
export const luma = (r, g, b) => (19595 * r + 38470 * g + 7471 * b + 32768) >> 16;

/**
 * 95 % interval of a share of which `right` of `count` trials were seen (Wilson 1927), as in vitlab/training/evaluate.py.
 * @param {number} right @param {number} count
 */
export function interval(right, count, z = 1.96) {
  const [share, extra] = [right / count, (z * z) / count];
  const centre = (share + extra / 2) / (1 + extra);
  const half = (z / (1 + extra)) * Math.sqrt((share * (1 - share)) / count + extra / (4 * count));
  return [Math.max(0, centre - half), Math.min(1, centre + half)];
}
