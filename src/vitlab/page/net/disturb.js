// Disturbances of a float image [C, side, side] in 0..1, black at 0, as vitlab/look makes them; each has one number
// with a unit, and 0 leaves the image unchanged.

/**
 * Degrees counter-clockwise, pixels to the right, standard deviation; a missing one is 0.
 * @typedef {{ rotate?: number, shift?: number, noise?: number }} Disturbance
 */

/** The strengths at which a curve is computed. */
export const STRENGTHS = {
  rotate: [-90, -75, -60, -45, -30, -15, 0, 15, 30, 45, 60, 75, 90],
  shift: [-8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8],
  noise: [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1],
};

/**
 * Rotation and shift, then noise.
 * @param {Float32Array} image @param {number} channels @param {number} side @param {Disturbance} [disturbance]
 */
export function disturbed(image, channels, side, { rotate = 0, shift = 0, noise = 0 } = {}) {
  const moved = rotate === 0 && shift === 0 ? image : mapped(image, channels, side, rotate, shift);
  return noise === 0 ? moved : noisy(moved, noise);
}

/**
 * Rotated counter-clockwise around the centre and shifted to the right in one bilinear sampling; outside is black.
 * @param {Float32Array} image @param {number} channels @param {number} side @param {number} degrees
 * @param {number} right
 */
export function mapped(image, channels, side, degrees, right) {
  const angle = (degrees * Math.PI) / 180;
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  const middle = side / 2;
  const out = new Float32Array(image.length);
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      const [fromX, fromY] = [x + 0.5 - middle - right, y + 0.5 - middle];
      const sourceX = cos * fromX - sin * fromY + middle - 0.5;
      const sourceY = sin * fromX + cos * fromY + middle - 0.5;
      for (let c = 0; c < channels; c++) {
        out[(c * side + y) * side + x] = sample(image, c * side * side, side, sourceX, sourceY);
      }
    }
  }
  return out;
}

/**
 * The image between four pixels; those outside are black.
 * @param {Float32Array} image @param {number} start @param {number} side @param {number} x @param {number} y
 */
function sample(image, start, side, x, y) {
  const [left, top] = [Math.floor(x), Math.floor(y)];
  const [tx, ty] = [x - left, y - top];
  /** @type {(row: number, column: number) => number} */
  const at = (row, column) =>
    row < 0 || row >= side || column < 0 || column >= side ? 0 : image[start + row * side + column];
  const above = (1 - tx) * at(top, left) + tx * at(top, left + 1);
  const below = (1 - tx) * at(top + 1, left) + tx * at(top + 1, left + 1);
  return (1 - ty) * above + ty * below;
}

/**
 * Adds normal noise of this standard deviation and clips; the noise pattern is the same every time.
 * @param {Float32Array} image @param {number} sd
 */
export function noisy(image, sd) {
  const normal = normals();
  return image.map((value) => Math.min(1, Math.max(0, value + sd * normal())));
}

/** Normal numbers (Box and Muller 1958) from uniform ones (Marsaglia 2003, "Xorshift RNGs"), with a fixed seed. */
function normals() {
  let state = 2463534242;
  const uniform = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return ((state >>> 0) + 0.5) / 2 ** 32;
  };
  return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}
