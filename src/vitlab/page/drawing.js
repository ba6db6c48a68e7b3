// From a free drawing to an image like those of MNIST, prepared as MNIST's authors did: cropped, scaled to 20 pixels,
// and placed with its centre of mass in the middle. The same in Python: vitlab/predict/drawing.py.

const INK = 25; // of 255; anything brighter counts as drawn
const SIDE = 28;
const LONGEST = 20;
const CENTRE = 14.5; // where MNIST's digits have their centre of mass
const TIE = 1e-6; // a centre exactly between two places goes to the right, whatever the last bit of its sum

/**
 * Left, top, right, bottom; right and bottom are the first pixels outside.
 * @typedef {[number, number, number, number]} Box
 *
 * `placed` is the result [28, 28]. Without a pixel of ink, `box` and `scaled` are null, and `placed` is black.
 * @typedef {object} Normalised
 * @property {boolean} inverted
 * @property {Box | null} box
 * @property {{ width: number, height: number, pixels: Uint8Array } | null} scaled
 * @property {Uint8Array} placed
 */

/**
 * MNIST's normalisation of a grey drawing [height, width].
 * @param {Uint8Array} grey @param {number} width @param {number} height
 * @returns {Normalised}
 */
export function centerDrawing(grey, width, height) {
  const { inverted, bright } = inkBright(grey, width, height);
  const box = inkBox(bright, width, height);
  if (box === null) {
    return { inverted, box, scaled: null, placed: new Uint8Array(SIDE * SIDE) };
  }
  const [left, top, right, bottom] = box;
  const [wide, high] = [right - left, bottom - top];
  const longest = Math.max(wide, high);
  const toWidth = scaledSide(wide, longest);
  const toHeight = scaledSide(high, longest);
  const small = resample(bright, width, box, toWidth, toHeight);
  const brightest = small.reduce((a, b) => Math.max(a, b), 0);
  const strong = small.map((value) => value * (255 / brightest)); // thin strokes fade when they are scaled down
  const scaled = { width: toWidth, height: toHeight, pixels: rounded(strong) };
  return { inverted, box, scaled, placed: place(strong, toWidth, toHeight) };
}

/**
 * Polarity only, then the whole drawing resampled to 28 x 28.
 * @param {Uint8Array} grey @param {number} width @param {number} height
 * @returns {Normalised}
 */
export function plainDrawing(grey, width, height) {
  const { inverted, bright } = inkBright(grey, width, height);
  /** @type {Box} */
  const box = [0, 0, width, height];
  const placed = rounded(resample(bright, width, box, SIDE, SIDE));
  return { inverted, box, scaled: { width: SIDE, height: SIDE, pixels: placed }, placed };
}

/**
 * In proportion to the longest side, which becomes 20 pixels; halves round up. Exact: computed in whole numbers.
 * @param {number} length @param {number} longest
 */
function scaledSide(length, longest) {
  return Math.max(1, Math.floor((2 * LONGEST * length + longest) / (2 * longest)));
}

/**
 * Makes ink bright: inverts the drawing if the median of its outermost pixels is above 127.
 * @param {Uint8Array} grey @param {number} width @param {number} height
 */
function inkBright(grey, width, height) {
  const edge = [];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (y === 0 || x === 0 || y === height - 1 || x === width - 1) {
        edge.push(grey[y * width + x]);
      }
    }
  }
  edge.sort((a, b) => a - b);
  const middle = (edge[Math.floor((edge.length - 1) / 2)] + edge[Math.ceil((edge.length - 1) / 2)]) / 2;
  const inverted = middle > 127;
  return { inverted, bright: inverted ? grey.map((value) => 255 - value) : grey };
}

/**
 * The bounding box of all pixels brighter than INK, or null.
 * @param {Uint8Array} bright @param {number} width @param {number} height
 * @returns {Box | null}
 */
function inkBox(bright, width, height) {
  let [left, top, right, bottom] = [width, height, 0, 0];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (bright[y * width + x] > INK) {
        left = Math.min(left, x);
        right = Math.max(right, x + 1);
        top = Math.min(top, y);
        bottom = y + 1;
      }
    }
  }
  return right === 0 ? null : [left, top, right, bottom];
}

/**
 * The pixels inside `box` of an image `stride` wide, resampled to [toHeight, toWidth] with a triangle filter that grows
 * with the reduction ("bilinear with antialias"), first along the rows, then along the columns.
 * @param {Uint8Array} pixels @param {number} stride @param {Box} box @param {number} toWidth @param {number} toHeight
 */
export function resample(pixels, stride, [left, top, right, bottom], toWidth, toHeight) {
  const across = triangles(right - left, toWidth);
  const down = triangles(bottom - top, toHeight);
  const rows = new Float64Array((bottom - top) * toWidth);
  for (let y = 0; y < bottom - top; y++) {
    for (let x = 0; x < toWidth; x++) {
      const { first, weights } = across[x];
      const start = (top + y) * stride + left + first;
      let sum = 0;
      for (let i = 0; i < weights.length; i++) {
        sum += weights[i] * pixels[start + i];
      }
      rows[y * toWidth + x] = sum;
    }
  }
  const out = new Float64Array(toHeight * toWidth);
  for (let y = 0; y < toHeight; y++) {
    const { first, weights } = down[y];
    for (let x = 0; x < toWidth; x++) {
      let sum = 0;
      for (let i = 0; i < weights.length; i++) {
        sum += weights[i] * rows[(first + i) * toWidth + x];
      }
      out[y * toWidth + x] = sum;
    }
  }
  return out;
}

/**
 * For each of `to` output pixels, the first of the `from` input pixels that it sees, and their weights, which sum to 1.
 * @param {number} from @param {number} to
 */
function triangles(from, to) {
  const scale = from / to;
  const support = Math.max(scale, 1);
  return Array.from({ length: to }, (_, x) => {
    const centre = (x + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - support));
    const end = Math.min(from, Math.ceil(centre + support));
    const weights = [];
    for (let i = first; i < end; i++) {
      weights.push(Math.max(0, 1 - Math.abs(i + 0.5 - centre) / support));
    }
    const sum = weights.reduce((a, b) => a + b, 0);
    return { first, weights: weights.map((weight) => weight / sum) };
  });
}

/**
 * The small image in one of 28 x 28, its centre of mass as near to CENTRE as possible with nothing cut off.
 * @param {Float64Array} small @param {number} width @param {number} height
 */
function place(small, width, height) {
  let [mass, momentX, momentY] = [0, 0, 0];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const value = small[y * width + x];
      mass += value;
      momentX += value * (x + 0.5);
      momentY += value * (y + 0.5);
    }
  }
  /** @type {(moment: number, size: number) => number} */
  const put = (moment, size) => Math.min(SIDE - size, Math.max(0, Math.floor(CENTRE - moment / mass + 0.5 + TIE)));
  const [left, top] = [put(momentX, width), put(momentY, height)];
  const placed = new Float64Array(SIDE * SIDE);
  for (let y = 0; y < height; y++) {
    placed.set(small.subarray(y * width, (y + 1) * width), (top + y) * SIDE + left);
  }
  return rounded(placed);
}

/** @param {Float64Array} values */
function rounded(values) {
  return Uint8Array.from(values, (value) => Math.min(255, Math.max(0, Math.floor(value + 0.5))));
}
