// The outline of a drawing: a thin line over a map changes none of its colours. As in the report's pictures, it runs
// halfway between the darkest and the brightest pixel, and a colour picture has none.

/** @type {WeakMap<Float32Array, Path2D | null>} */
const known = new WeakMap(); // many maps show the same drawing

/**
 * The outline in pixels of the picture [size, size, channels], whose left upper corner is (0, 0); null if it has none.
 * @param {Float32Array} image @param {number} size @param {number} channels
 */
export function outlineOf(image, size, channels) {
  const found = known.get(image);
  if (found !== undefined) return found;
  const [least, most] = extent(image);
  const path = channels === 1 && most > least ? marched(image, size, (least + most) / 2) : null;
  known.set(image, path);
  return path;
}

/** @param {Float32Array} image */
function extent(image) {
  let [least, most] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of image) [least, most] = [Math.min(least, value), Math.max(most, value)];
  return [least, most];
}

/**
 * Marching squares (Lorensen and Cline 1987, in the plane): between four neighbouring pixels, the line joins the places
 * where the brightness passes `level`. Beyond the edge it is as at the edge.
 * @param {Float32Array} image @param {number} size @param {number} level
 */
function marched(image, size, level) {
  const path = new Path2D();
  /** @type {(x: number, y: number) => number} */
  const above = (x, y) => image[y * size + x] - level;
  for (let y = 0; y + 1 < size; y++) {
    for (let x = 0; x + 1 < size; x++) {
      const corners = [above(x, y), above(x + 1, y), above(x + 1, y + 1), above(x, y + 1)];
      const passed = crossings(corners, x + 0.5, y + 0.5);
      for (let i = 0; i + 1 < passed.length; i += 2) {
        path.moveTo(...passed[i]);
        path.lineTo(...passed[i + 1]);
      }
    }
  }
  return path;
}

const SIDES = [
  [0, 0, 1, 0],
  [1, 0, 0, 1],
  [1, 1, -1, 0],
  [0, 1, 0, -1],
];

/**
 * Where the sides of a square, clockwise from the upper one, pass 0: none, two or four places.
 * @param {number[]} corners @param {number} left @param {number} top
 */
function crossings(corners, left, top) {
  /** @type {[number, number][]} */
  const places = [];
  SIDES.forEach(([x, y, right, down], i) => {
    const [from, to] = [corners[i], corners[(i + 1) % 4]];
    if (from > 0 === to > 0) return;
    const along = from / (from - to);
    places.push([left + x + along * right, top + y + along * down]);
  });
  return places;
}
