// Ink on paper: where a picture shows a drawing, and how much ink covers each of its pixels. The steps are explained,
// one by one, in vitlab/predict/paper.py, which computes the same.

const SMALL = 280; // longest side on which ink is looked for, in pixels
const LEAST = 20; // levels of 255: a weaker contrast is not ink
const CLEAR = 6; // ink differs from the paper by at least as many standard deviations of the paper's noise
const UNEVEN = 0.3; // of the paper's own range: what is weaker may be light that was not understood
const SHARP = 0.2; // of full ink: an edge rises by as much within two pixels
const SPECK = [6, 0.035]; // pixels, and share of the longer side: what is smaller is not a drawing
const EVEN = 2; // levels: what differs less than this is the same paper
const FAINT = [0.12, 0.2, 0.3, 0.4, 0.5]; // shares of full ink at which ink may begin
const MOST = 0.0004; // of the pixels may be darker than full ink: specks
const FULL = 0.5; // share of full ink that each piece of the drawing must reach
const TIE = 1e-6; // comparisons do not hang on the last bit of a sum
const TILTS = [0, ...Array.from({ length: 12 }, (_, i) => [i + 1, -i - 1]).flat()];

export const NO_INK = "no ink stands out from the paper";
const FILLED = "the ink fills the whole picture";
const SCATTERED = "ink is scattered over the picture";
export const TINY = "the ink is only a speck";

/**
 * Left, top, right, bottom; right and bottom are the first pixels outside.
 * @typedef {[number, number, number, number]} Box
 *
 * One number per pixel [height, width].
 * @typedef {{ width: number, height: number, values: Float64Array }} Plane
 *
 * Bytes [height, width, channels].
 * @typedef {{ width: number, height: number, channels: 1 | 3, pixels: Uint8Array }} Picture
 *
 * `cover`: share of ink, 0 to 1, in the picture shrunk by `factor`; `box`: of the drawing in it; `reason`: why it cannot
 * be read, or null.
 * @typedef {{ cover: Plane, factor: number, box: Box | null, darker: boolean, reason: string | null }} Ink
 */

/**
 * The drawing in a picture.
 * @param {Picture} picture
 * @returns {Ink}
 */
export function findInk(picture) {
  const factor = Math.ceil(Math.max(picture.width, picture.height) / SMALL);
  let levels = shrink(isGrey(picture) ? oneChannel(picture) : picture, factor);
  const even = evenPaper(levels);
  if (even === null) levels = withoutSpecks(levels);
  const paper = even === null ? paperOf(levels) : levels.map((plane, c) => filledPlane(plane, even[c]));
  const { strength, darker } = strengthOf(levels.map((plane, c) => minus(plane, paper[c])));
  const nothing = filledPlane(strength, 0);
  const lines = even === null ? linesOf(strength) : nothing;
  const { blur, noise, full } = clearest(
    mapped(strength, (value, i) => Math.max(value - lines.values[i], Math.min(value, 0))),
    even === null ? MOST : 0,
  );
  const uneven = even === null ? Math.max(...paper.map(({ values }) => range(values))) : 0;
  if (full < Math.max(LEAST, UNEVEN * uneven) - TIE || full < CLEAR * noise) {
    return { cover: nothing, factor, box: null, darker, reason: NO_INK };
  }
  const faint = lines.values.some((value) => value !== 0) ? FAINT[1] : FAINT[0];
  const ruled = maskOf(lines.values, (value) => value > 0);
  const least = Math.max(faint, (3.5 * noise) / full);
  return { ...drawingIn(coverOf(strength, lines, full), ruled, blur, least), factor, darker };
}

/** @param {Picture} picture */
function isGrey({ channels, pixels }) {
  if (channels === 1) return true;
  for (let i = 0; i < pixels.length; i += 3) {
    if (pixels[i] !== pixels[i + 1] || pixels[i] !== pixels[i + 2]) return false;
  }
  return true;
}

/**
 * The first channel.
 * @param {Picture} picture
 * @returns {Picture}
 */
function oneChannel({ width, height, channels, pixels }) {
  if (channels === 1) return { width, height, channels, pixels };
  const one = new Uint8Array(width * height);
  for (let i = 0; i < one.length; i++) one[i] = pixels[3 * i];
  return { width, height, channels: 1, pixels: one };
}

/**
 * One plane for each channel, of averages of squares of `factor` pixels.
 * @param {Picture} picture @param {number} factor
 * @returns {Plane[]}
 */
function shrink({ width, height, channels, pixels }, factor) {
  const [wide, high] = [Math.ceil(width / factor), Math.ceil(height / factor)];
  return Array.from({ length: channels }, (_, c) => {
    const values = new Float64Array(wide * high);
    for (let y = 0; y < height; y++) {
      const row = Math.floor(y / factor) * wide;
      for (let x = 0; x < width; x++) values[row + Math.floor(x / factor)] += pixels[(y * width + x) * channels + c];
    }
    for (let y = 0; y < high; y++) {
      const rows = Math.min((y + 1) * factor, height) - y * factor;
      for (let x = 0; x < wide; x++) values[y * wide + x] /= rows * (Math.min((x + 1) * factor, width) - x * factor);
    }
    return { width: wide, height: high, values };
  });
}

/**
 * @param {Plane} plane @param {(value: number, i: number) => number} change
 * @returns {Plane}
 */
function mapped({ width, height, values }, change) {
  const out = new Float64Array(values.length);
  for (let i = 0; i < out.length; i++) out[i] = change(values[i], i); // faster than values.map
  return { width, height, values: out };
}

/**
 * 1 for each value that passes the test, else 0.
 * @param {ArrayLike<number>} values @param {(value: number, i: number) => boolean} test
 */
function maskOf(values, test) {
  const mask = new Uint8Array(values.length);
  for (let i = 0; i < mask.length; i++) if (test(values[i], i)) mask[i] = 1;
  return mask;
}

/** @param {Plane} like @param {number} value */
const filledPlane = (like, value) => mapped(like, () => value);

/** @param {Plane} a @param {Plane} b */
const minus = (a, b) => mapped(a, (value, i) => value - b.values[i]);

/** @param {Float64Array} values */
function range(values) {
  let [least, most] = [values[0], values[0]];
  for (const value of values) {
    if (value < least) least = value;
    if (value > most) most = value;
  }
  return most - least;
}

/**
 * The outermost pixels, each once.
 * @param {{ width: number, height: number, values: ArrayLike<number> }} plane
 */
export function borderOf({ width, height, values }) {
  const border = [];
  for (let x = 0; x < width; x++) border.push(values[x]);
  for (let x = 0; x < width; x++) border.push(values[(height - 1) * width + x]);
  for (let y = 1; y < height - 1; y++) border.push(values[y * width], values[y * width + width - 1]);
  return border;
}

/**
 * The value that `share` of the others are below: quickselect (Hoare 1961) on a copy.
 * @param {ArrayLike<number>} values @param {number} share
 */
function ranked(values, share) {
  const copy = Float64Array.from(values);
  const place = Math.floor(share * (copy.length - 1));
  let [left, right] = [0, copy.length - 1];
  while (left < right) {
    const pivot = copy[(left + right) >> 1];
    let [i, j] = [left, right];
    while (i <= j) {
      while (copy[i] < pivot) i++;
      while (copy[j] > pivot) j--;
      if (i > j) break;
      const kept = copy[i];
      copy[i++] = copy[j];
      copy[j--] = kept;
    }
    if (place <= j) right = j;
    else if (place >= i) left = i;
    else break;
  }
  return copy[place];
}

/**
 * The paper's level in each channel if the whole border has one, else null.
 * @param {Plane[]} levels
 */
function evenPaper(levels) {
  const borders = levels.map(borderOf);
  const middles = borders.map((border) => ranked(border, 0.5));
  const even = borders.every((border, c) => border.every((value) => Math.abs(value - middles[c]) <= EVEN));
  return even ? middles : null;
}

/**
 * Pepper and salt become the median of the 3 x 3 pixels around them.
 * @param {Plane[]} levels
 */
function withoutSpecks(levels) {
  const medians = levels.map(median3);
  const { width, height } = levels[0];
  const alone = new Uint8Array(width * height);
  let count = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = y * width + x;
      if (!levels.some(({ values }, c) => Math.abs(values[at] - medians[c].values[at]) > 2 * LEAST)) continue;
      let alike = 0; // the pixel itself is one of them
      for (let v = Math.max(0, y - 1); v <= Math.min(height - 1, y + 1); v++) {
        for (let u = Math.max(0, x - 1); u <= Math.min(width - 1, x + 1); u++) {
          const near = v * width + u;
          if (levels.every(({ values }) => Math.abs(values[near] - values[at]) <= 2 * LEAST)) alike++;
        }
      }
      if (alike <= 2) {
        alone[at] = 1;
        count++;
      }
    }
  }
  if (count / alone.length <= 0.002) return levels;
  return levels.map((plane, c) => mapped(plane, (value, i) => (alone[i] ? medians[c].values[i] : value)));
}

/**
 * @param {Plane} plane
 * @returns {Plane}
 */
function median3({ width, height, values }) {
  const out = new Float64Array(values.length);
  const nine = new Float64Array(9);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      let n = 0;
      for (let v = y - 1; v <= y + 1; v++) {
        for (let u = x - 1; u <= x + 1; u++) nine[n++] = values[within(v, height) * width + within(u, width)];
      }
      for (let i = 1; i < 9; i++) {
        const value = nine[i];
        let j = i;
        for (; j > 0 && nine[j - 1] > value; j--) nine[j] = nine[j - 1];
        nine[j] = value;
      }
      out[y * width + x] = nine[4];
    }
  }
  return { width, height, values: out };
}

/** @param {number} place @param {number} length */
const within = (place, length) => Math.min(length - 1, Math.max(0, place));

/**
 * The paper's level at each pixel.
 * @param {Plane[]} levels
 */
function paperOf(levels) {
  let paper = surface(levels);
  for (let pass = 0; pass < 2; pass++) {
    const missed = localMedians(levels.map((plane, c) => minus(plane, paper[c])));
    paper = paper.map((plane, c) => mapped(plane, (value, i) => value + missed[c].values[i]));
  }
  return paper;
}

/**
 * The surface of second degree that most pixels lie on; the border counts twice.
 * @param {Plane[]} levels
 */
function surface(levels) {
  const { width, height } = levels[0];
  if (Math.min(width, height) < 8) return levels.map((plane) => filledPlane(plane, ranked(borderOf(plane), 0.5)));
  const step = Math.ceil(Math.max(width, height) / 56);
  /** @type {{ terms: number[], at: number, prior: number }[]} */
  const points = [];
  for (let y = 0; y < height; y += step) {
    for (let x = 0; x < width; x += step) {
      const near = Math.min(Math.min(y, height - 1 - y) / height, Math.min(x, width - 1 - x) / width);
      points.push({ terms: bends(x, y, width, height), at: y * width + x, prior: near < 0.1 ? 1 : 0.5 });
    }
  }
  let weights = points.map(({ prior }) => prior);
  /** @type {number[][]} */
  let found = [];
  for (let pass = 0; pass < 20; pass++) {
    found = leastSquares(points, weights, levels);
    weights = points.map(({ terms, at, prior }) => {
      let square = 0;
      for (let c = 0; c < levels.length; c++) square += (levels[c].values[at] - dot(terms, found[c])) ** 2;
      return prior / Math.max(Math.sqrt(square / levels.length), EVEN);
    });
  }
  return levels.map((plane, c) =>
    mapped(plane, (_, i) => dot(bends(i % width, Math.floor(i / width), width, height), found[c])),
  );
}

/**
 * 1, x, y, xx, xy, yy, with x and y from -1 to 1.
 * @param {number} column @param {number} row @param {number} width @param {number} height
 */
function bends(column, row, width, height) {
  const x = (2 * (column + 0.5)) / width - 1;
  const y = (2 * (row + 0.5)) / height - 1;
  return [1, x, y, x * x, x * y, y * y];
}

/** @param {number[]} a @param {number[]} b */
function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

/**
 * The six coefficients for each channel, by the normal equations.
 * @param {{ terms: number[], at: number }[]} points @param {number[]} weights @param {Plane[]} levels
 */
function leastSquares(points, weights, levels) {
  const rows = Array.from({ length: 6 }, () => new Array(6 + levels.length).fill(0));
  let total = 0;
  points.forEach(({ terms, at }, n) => {
    total += weights[n];
    for (let i = 0; i < 6; i++) {
      const weighted = weights[n] * terms[i];
      for (let j = 0; j < 6; j++) rows[i][j] += weighted * terms[j];
      for (let c = 0; c < levels.length; c++) rows[i][6 + c] += weighted * levels[c].values[at];
    }
  });
  for (let i = 1; i < 6; i++) rows[i][i] += 1e-3 * total;
  for (let i = 0; i < 6; i++) {
    // The matrix is positive definite, so no pivot is zero.
    for (let k = 0; k < 6; k++) {
      if (k === i) continue;
      const share = rows[k][i] / rows[i][i];
      for (let j = i; j < rows[i].length; j++) rows[k][j] -= share * rows[i][j];
    }
  }
  return levels.map((_, c) => rows.map((row, i) => row[6 + c] / row[i]));
}

/**
 * What the surface missed: medians on a grid of 9 x 9 places, in straight lines between them.
 * @param {Plane[]} difference
 */
function localMedians(difference) {
  const { width, height } = difference[0];
  if (Math.min(width, height) < 16) return difference.map((plane) => filledPlane(plane, 0));
  const size = new Float64Array(width * height);
  for (let i = 0; i < size.length; i++) {
    for (const { values } of difference) size[i] += values[i] * values[i];
    size[i] = Math.sqrt(size[i] / difference.length);
  }
  const limit = ranked(size, 0.999) * FULL - TIE;
  const nodes = 8;
  const grids = difference.map(() => new Float64Array((nodes + 1) ** 2));
  for (let i = 0; i <= nodes; i++) {
    for (let j = 0; j <= nodes; j++) {
      const [top, bottom] = span(i, height, nodes);
      const [left, right] = span(j, width, nodes);
      /** @type {number[]} */
      const calm = [];
      for (let y = top; y < bottom; y++) {
        for (let x = left; x < right; x++) if (size[y * width + x] < limit) calm.push(y * width + x);
      }
      if (4 * calm.length < (bottom - top) * (right - left) || calm.length === 0) continue;
      difference.forEach(({ values }, c) => {
        grids[c][i * (nodes + 1) + j] = ranked(
          Float64Array.from(calm, (at) => values[at]),
          0.5,
        );
      });
    }
  }
  return grids.map((grid) => between(grid, nodes, width, height));
}

/** @param {number} node @param {number} length @param {number} nodes */
function span(node, length, nodes) {
  const end = Math.floor(((node + 1) * length) / nodes);
  return [Math.max(0, Math.floor(((node - 1) * length) / nodes)), Math.min(length, end)];
}

/**
 * The grid in straight lines to [height, width].
 * @param {Float64Array} grid @param {number} nodes @param {number} width @param {number} height
 * @returns {Plane}
 */
function between(grid, nodes, width, height) {
  const [down, across] = [height, width].map((length) =>
    Array.from({ length }, (_, i) => {
      const place = ((i + 0.5) * nodes) / length;
      const low = Math.min(Math.floor(place), nodes - 1);
      return { low, share: place - low };
    }),
  );
  const values = new Float64Array(width * height);
  const line = new Float64Array(nodes + 1);
  down.forEach(({ low, share }, y) => {
    for (let j = 0; j <= nodes; j++) {
      line[j] = grid[low * (nodes + 1) + j] * (1 - share) + grid[(low + 1) * (nodes + 1) + j] * share;
    }
    across.forEach((place, x) => {
      values[y * width + x] = line[place.low] * (1 - place.share) + line[place.low + 1] * place.share;
    });
  });
  return { width, height, values };
}

/**
 * How far each pixel differs from its paper, along the colour in which ink differs; whether ink is darker.
 * @param {Plane[]} difference
 */
function strengthOf(difference) {
  const towards = difference.map(() => 0);
  const count = difference[0].values.length;
  for (let i = 0; i < count; i++) {
    let square = 0;
    for (const { values } of difference) square += values[i] * values[i];
    for (let c = 0; c < towards.length; c++) towards[c] += difference[c].values[i] * square;
  }
  const length = Math.sqrt(towards.reduce((sum, value) => sum + value * value, 0));
  if (length < TIE) return { strength: filledPlane(difference[0], 0), darker: false };
  const direction = towards.map((value) => value / (length * Math.sqrt(towards.length)));
  const strength = mapped(difference[0], (value, i) => {
    let sum = value * direction[0];
    for (let c = 1; c < direction.length; c++) sum += difference[c].values[i] * direction[c];
    return sum;
  });
  return { strength, darker: towards.reduce((a, b) => a + b, 0) < 0 };
}

/**
 * The smallest blur at which ink is well above the noise, or the best one.
 * @param {Plane} strength @param {number} most  share of the pixels that exceed full ink
 */
function clearest(strength, most) {
  let best = { blur: 0, noise: 1, full: 0 };
  const last = Math.min(3, Math.floor(Math.min(strength.width, strength.height) / 14));
  for (let blur = 0; blur <= last; blur++) {
    const { values } = boxMean(strength, blur);
    const size = new Float64Array(values.length);
    const negative = new Float64Array(values.length);
    for (let i = 0; i < size.length; i++) {
      size[i] = Math.abs(values[i]);
      negative[i] = -values[i];
    }
    const noise = Math.max(1.4826 * ranked(size, 0.5), EVEN / 4);
    const full = -ranked(negative, most);
    if (full / noise > best.full / best.noise + TIE) best = { blur, noise, full };
    if (full >= 20 * noise - TIE) break;
  }
  return best;
}

/**
 * The mean of (2 reach + 1) x (2 reach + 1) pixels; the border is repeated.
 * @param {Plane} plane @param {number} reach
 * @returns {Plane}
 */
function boxMean(plane, reach) {
  if (reach === 0) return plane;
  const { width, height, values } = plane;
  const rows = new Float64Array(values.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let u = x - reach; u <= x + reach; u++) rows[y * width + x] += values[y * width + within(u, width)];
    }
  }
  const out = new Float64Array(values.length);
  for (let y = 0; y < height; y++) {
    for (let v = y - reach; v <= y + reach; v++) {
      const row = within(v, height) * width;
      for (let x = 0; x < width; x++) out[y * width + x] += rows[row + x];
    }
  }
  const count = (2 * reach + 1) ** 2;
  return { width, height, values: out.map((value) => value / count) };
}

/**
 * How strong the paper's own lines are at each pixel.
 * @param {Plane} strength
 */
function linesOf(strength) {
  const grain = Math.max(grainOf(strength), EVEN / 2);
  const down = turned(rules(turned(strength), grain));
  return mapped(rules(strength, grain), (value, i) => Math.max(value, down.values[i]));
}

/**
 * Rows become columns.
 * @param {Plane} plane
 * @returns {Plane}
 */
function turned({ width, height, values }) {
  const out = new Float64Array(values.length);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) out[x * height + y] = values[y * width + x];
  return { width: height, height: width, values: out };
}

/**
 * The standard deviation of the noise between neighbours.
 * @param {Plane} strength
 */
function grainOf({ width, height, values }) {
  if (Math.min(width, height) < 3) return 0;
  const left = new Float64Array((width - 2) * (height - 2));
  /** @param {number} at */
  const across = (at) => values[at - 1] - 2 * values[at] + values[at + 1];
  for (let y = 1; y < height - 1; y++) {
    for (let x = 1; x < width - 1; x++) {
      const at = y * width + x;
      left[(y - 1) * (width - 2) + x - 1] = Math.abs(across(at - width) - 2 * across(at) + across(at + width));
    }
  }
  return (1.4826 / 6) * ranked(left, 0.5);
}

/**
 * The lines that run from left to right, perhaps a little askew.
 * @param {Plane} strength @param {number} grain
 */
function rules(strength, grain) {
  const { width, height, values } = strength;
  const none = filledPlane(strength, 0);
  const side = Math.floor(width / 6);
  if (Math.min(width, height) < 16) return none;
  const dark = maskOf(values, (value) => value > 3 * grain + TIE);
  /** @param {number} tilt */
  const moved = (tilt) =>
    Int32Array.from({ length: width }, (_, x) => Math.floor(((x + 0.5 - width / 2) / width) * tilt + 0.5));
  let best = TIE;
  /** @type {Int32Array | null} */
  let found = null;
  for (const tilt of TILTS) {
    const shift = moved(tilt);
    let score = 0;
    for (let y = 0; y < height; y++) {
      let [left, right, all] = [0, 0, 0];
      for (let x = 0; x < width; x++) {
        if (!dark[within(y + shift[x], height) * width + x]) continue;
        all++;
        if (x < side) left++;
        if (x >= width - side) right++;
      }
      score += Math.max(Math.min(Math.min(left, right) / side, all / width) - 0.5, 0) ** 2;
    }
    if (score > best + TIE) [best, found] = [score, shift];
  }
  if (found === null) return none;
  const out = none.values;
  for (let y = 0; y < height; y++) {
    const places = found.map((shift, x) => within(y + shift, height) * width + x);
    const along = Float64Array.from(places, (at) => values[at]);
    const ends = [along.slice(0, side), along.slice(width - side)];
    const least = Math.min(ranked(ends[0], 0.5), ranked(ends[1], 0.5), ranked(along, 0.25));
    if (least <= grain + TIE) continue;
    const level = Math.min(ranked(ends[0], 0.8), ranked(ends[1], 0.8));
    for (const at of places) out[at] = Math.max(out[at], level);
  }
  return mapped(none, (value, i) => Math.max(value, out[i - width] ?? 0, out[i + width] ?? 0));
}

/**
 * The share of ink in each pixel, 0 to 1.
 * @param {Plane} strength @param {Plane} lines @param {number} full
 */
function coverOf(strength, lines, full) {
  if (!lines.values.some((line) => line > 0)) {
    return mapped(strength, (value) => (value <= 0 ? 0 : value >= full ? 1 : value / full));
  }
  const told = maskOf(lines.values, (line) => line < 0.6 * full - TIE);
  const share = mapped(strength, (value, i) => {
    if (!told[i]) return 0;
    return Math.min(1, Math.max(0, (value - lines.values[i]) / (full - lines.values[i])));
  });
  return told.includes(0) ? filled(share, told) : share;
}

/**
 * Pixels that are not told get the larger of two means: of the next told ones above and below, left and right.
 * @param {Plane} share @param {Uint8Array} told
 */
function filled(share, told) {
  const { width, height, values } = share;
  /** @type {(at: number, step: number, left: number) => number} */
  const next = (at, step, left) => {
    let place = at;
    for (let i = 0; i < left; i++) {
      place += step;
      if (told[place]) return values[place];
    }
    return 0;
  };
  return mapped(share, (value, at) => {
    if (told[at]) return value;
    const [x, y] = [at % width, Math.floor(at / width)];
    const across = (next(at, -1, x) + next(at, 1, width - 1 - x)) / 2;
    return Math.max(across, (next(at, -width, y) + next(at, width, height - 1 - y)) / 2);
  });
}

/**
 * The cover of the drawing alone, its box, and the reason why it cannot be read or null.
 * @param {Plane} cover @param {Uint8Array} ruled @param {number} blur @param {number} least
 * @returns {Pick<Ink, "cover" | "box" | "reason">}
 */
function drawingIn(cover, ruled, blur, least) {
  const nothing = { cover: filledPlane(cover, 0), box: null, reason: NO_INK };
  const smooth = boxMean(cover, blur);
  const { width, height, values } = smooth;
  let peak = TIE;
  for (const value of values) if (value > peak) peak = value;
  if (steepest(smooth) < SHARP * peak - TIE) return nothing;
  const full = maskOf(values, (value) => value > FULL * peak - TIE);
  /** @type {{ touch: number, kept: Uint8Array, others: number } | null} */
  let found = null;
  for (const faint of [least, ...FAINT.filter((share) => share > least)]) {
    const ink = maskOf(values, (value) => value > faint * peak - TIE);
    const { kept, others } = mainPieces(withoutHairs(ink, ruled, width, height), full, width, height);
    if (!kept.includes(1)) break;
    const border = borderOf({ width, height, values: kept });
    const touch = border.reduce((a, b) => a + b, 0) / border.length;
    if (found === null || touch < found.touch / 2) found = { touch, kept, others };
    if (touch <= 0.01) break;
  }
  if (found === null) return nothing;
  const { touch, kept, others } = found;
  const box = boxAround(kept, width, height);
  let area = 0;
  for (const value of kept) area += value;
  let reason = null;
  if (Math.max(box[2] - box[0], box[3] - box[1]) < Math.max(SPECK[0], SPECK[1] * Math.max(width, height))) {
    reason = TINY;
  } else if (touch > 0.4 || (area / kept.length > 0.5 && touch > 0.2)) reason = FILLED;
  else if (others > 0.5 * area) reason = SCATTERED;
  const halo = grown(kept, width, height, 1 + blur);
  return { cover: mapped(cover, (value, i) => (halo[i] ? value : 0)), box, reason };
}

/**
 * The largest difference between two pixels with one between them.
 * @param {Plane} plane
 */
function steepest({ width, height, values }) {
  let most = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const value = values[y * width + x];
      if (x >= 2) most = Math.max(most, Math.abs(value - values[y * width + x - 2]));
      if (y >= 2) most = Math.max(most, Math.abs(value - values[(y - 2) * width + x]));
    }
  }
  return most;
}

/**
 * On and beside the paper's lines, ink must be two pixels thick.
 * @param {Uint8Array} ink @param {Uint8Array} ruled @param {number} width @param {number} height
 */
function withoutHairs(ink, ruled, width, height) {
  if (!ruled.includes(1)) return ink;
  const near = grown(ruled, width, height, 1);
  /** @param {number} x @param {number} y */
  const at = (x, y) => ink[within(y, height) * width + within(x, width)];
  return maskOf(ink, (value, i) => {
    if (!value || !near[i]) return value === 1;
    const [x, y] = [i % width, Math.floor(i / width)];
    for (const u of [x - 1, x + 1]) {
      for (const v of [y - 1, y + 1]) if (at(u, y) && at(x, v) && at(u, v)) return true;
    }
    return false;
  });
}

/**
 * All pixels within `reach` of one that is set, in rows and in columns.
 * @param {Uint8Array} mask @param {number} width @param {number} height @param {number} reach
 */
function grown(mask, width, height, reach) {
  const out = new Uint8Array(mask.length);
  for (let i = 0; i < mask.length; i++) {
    if (!mask[i]) continue;
    const [x, y] = [i % width, Math.floor(i / width)];
    for (let v = Math.max(0, y - reach); v <= Math.min(height - 1, y + reach); v++) {
      out.fill(1, v * width + Math.max(0, x - reach), v * width + Math.min(width - 1, x + reach) + 1);
    }
  }
  return out;
}

/**
 * The largest connected piece of ink with those that belong to it, and how many pixels other pieces have.
 * @param {Uint8Array} ink @param {Uint8Array} full @param {number} width @param {number} height
 */
function mainPieces(ink, full, width, height) {
  const { labels, pieces } = connected(ink, full, width, height);
  const kept = new Uint8Array(ink.length);
  const solid = pieces.filter((piece) => piece.isFull); // what is nowhere full ink is a smudge
  if (solid.length === 0) return { kept, others: 0 };
  const largest = solid.reduce((a, b) => (b.area > a.area ? b : a));
  const rest = new Set(solid.filter((piece) => piece !== largest && piece.area >= Math.max(1, 0.02 * largest.area)));
  const inside = new Set([largest.label]);
  let around = largest.box;
  for (let more = true; more; ) {
    more = false;
    const reach = 0.4 * Math.max(around[2] - around[0], around[3] - around[1]);
    for (const piece of [...rest]) {
      if (gap(around, piece.box) > reach) continue;
      inside.add(piece.label);
      rest.delete(piece);
      around = union(around, piece.box);
      more = true;
    }
  }
  for (let i = 0; i < kept.length; i++) kept[i] = Number(inside.has(labels[i]));
  return { kept, others: [...rest].reduce((sum, { area }) => sum + area, 0) };
}

/**
 * The pieces of ink, whose pixels touch at a side or a corner, numbered from 1 in the order of their first pixels.
 * @param {Uint8Array} ink @param {Uint8Array} full @param {number} width @param {number} height
 */
function connected(ink, full, width, height) {
  const labels = new Int32Array(ink.length);
  /** @type {{ label: number, area: number, box: Box, isFull: boolean }[]} */
  const pieces = [];
  /** @type {number[]} */
  const open = [];
  for (let start = 0; start < ink.length; start++) {
    if (!ink[start] || labels[start]) continue;
    const piece = { label: pieces.length + 1, area: 0, box: /** @type {Box} */ ([width, height, 0, 0]), isFull: false };
    pieces.push(piece);
    labels[start] = piece.label;
    open.push(start);
    for (let at = open.pop(); at !== undefined; at = open.pop()) {
      const [x, y] = [at % width, Math.floor(at / width)];
      piece.area++;
      piece.isFull ||= full[at] === 1;
      extend(piece.box, x, y);
      for (let v = Math.max(0, y - 1); v <= Math.min(height - 1, y + 1); v++) {
        for (let u = Math.max(0, x - 1); u <= Math.min(width - 1, x + 1); u++) {
          const near = v * width + u;
          if (!ink[near] || labels[near]) continue;
          labels[near] = piece.label;
          open.push(near);
        }
      }
    }
  }
  return { labels, pieces };
}

/**
 * The bounding box of the pixels that are set.
 * @param {ArrayLike<number>} mask @param {number} width @param {number} height
 */
export function boxAround(mask, width, height) {
  /** @type {Box} */
  const box = [width, height, 0, 0];
  for (let i = 0; i < mask.length; i++) {
    if (!mask[i]) continue;
    extend(box, i % width, Math.floor(i / width));
  }
  return box;
}

/**
 * Makes a box as large as to hold a pixel, in place.
 * @param {Box} box @param {number} x @param {number} y
 */
function extend(box, x, y) {
  if (x < box[0]) box[0] = x;
  if (y < box[1]) box[1] = y;
  if (x >= box[2]) box[2] = x + 1;
  if (y >= box[3]) box[3] = y + 1;
}

/**
 * How far two boxes are apart, in the direction in which it is more.
 * @param {Box} a @param {Box} b
 */
const gap = (a, b) => Math.max(a[0] - b[2], b[0] - a[2], a[1] - b[3], b[1] - a[3], 0);

/**
 * The box around both.
 * @param {Box} a @param {Box} b
 * @returns {Box}
 */
const union = (a, b) => [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[2], b[2]), Math.max(a[3], b[3])];
