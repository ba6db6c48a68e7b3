// From a free drawing to an image like those of MNIST, whose authors made theirs the same way: cut out, scaled to 20
// pixels, put so that the centre of mass is in the middle. The Python of the same meaning: vitlab/predict/drawing.py.

const INK = 25; // of 255; what is brighter counts as drawn
const SIDE = 28;
const LONGEST = 20;
const CENTRE = 14.5; // where MNIST's digits have their centre of mass
const TIE = 1e-6; // a mass that lies between two places goes to the right, whatever the last bit of its sum

/**
 * The MNIST normalisation: grey Uint8Array [height, width] -> {inverted, box: [left, top, right, bottom] (right and
 * bottom are the first pixels outside) or null, scaled: {width, height, pixels} or null, placed: Uint8Array [28, 28]}.
 * Without a pixel of ink there is no box, and `placed` is black.
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
  for (let i = 0; i < small.length; i++) {
    small[i] *= 255 / brightest; // thin strokes fade when they are scaled down
  }
  const scaled = { width: toWidth, height: toHeight, pixels: rounded(small) };
  return { inverted, box, scaled, placed: place(small, toWidth, toHeight) };
}

/** Polarity only, then the whole drawing resampled to 28 x 28: grey [height, width] -> as `centerDrawing`. */
export function plainDrawing(grey, width, height) {
  const { inverted, bright } = inkBright(grey, width, height);
  const box = [0, 0, width, height];
  const placed = rounded(resample(bright, width, box, SIDE, SIDE));
  return { inverted, box, scaled: { width: SIDE, height: SIDE, pixels: placed }, placed };
}

/** In proportion to the longest, which becomes 20 pixels; halves go up, in whole numbers so that no digit is lost. */
function scaledSide(length, longest) {
  return Math.max(1, Math.floor((2 * LONGEST * length + longest) / (2 * longest)));
}

/** Ink is bright: inverted if the median of the outermost pixels is above 127. */
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

/** The smallest rectangle of pixels brighter than INK, [left, top, right, bottom], or null. */
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
 * The pixels inside `box` of an image `stride` wide, resampled to Float64Array [toHeight, toWidth] with a triangle
 * filter that grows with the reduction ("bilinear with antialias"), first along the rows, then along the columns.
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

/** For each of `to` output pixels the first of `from` input pixels that it sees, and their weights, which sum to 1. */
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

/** The small image in one of 28 x 28, its centre of mass nearest to CENTRE and nothing cut off: Uint8Array [28, 28]. */
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
  const put = (moment, size) => Math.min(SIDE - size, Math.max(0, Math.floor(CENTRE - moment / mass + 0.5 + TIE)));
  const [left, top] = [put(momentX, width), put(momentY, height)];
  const placed = new Float64Array(SIDE * SIDE);
  for (let y = 0; y < height; y++) {
    placed.set(small.subarray(y * width, (y + 1) * width), (top + y) * SIDE + left);
  }
  return rounded(placed);
}

function rounded(values) {
  return Uint8Array.from(values, (value) => Math.min(255, Math.max(0, Math.floor(value + 0.5))));
}
