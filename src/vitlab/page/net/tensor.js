// The arithmetic of the networks on Float32Array, row by row. Sums are computed in double precision, JavaScript's own.
// Nothing here allocates: the caller provides the space for results, so a reading leaves no garbage.

/**
 * Rows of a matrix inside `data`: where row 0 starts, and the distance from row to row.
 * @typedef {{ data: Float32Array, start: number, stride: number }} Rows
 *
 * A dense layer: weight [outs, inner], bias [outs] or null.
 * @typedef {{ weight: Float32Array, bias: Float32Array | null, inner: number, outs: number }} Dense
 */

const NORM_EPS = 1e-6; // as in vitlab/model

/**
 * out[r, o] = scale * (x row r . w row o), r < rows, o < outs, for rows of `inner` numbers: a matrix product in which
 * both factors are stored along the inner dimension, as torch stores the weights of a Linear. It computes two rows by
 * four outputs at a time: eight sums that stay in registers, six loads for sixteen operations.
 * @param {Rows} x @param {Rows} w @param {Rows} out
 * @param {number} rows @param {number} outs @param {number} inner
 */
export function dots(x, w, out, rows, outs, inner, scale = 1) {
  for (let r = 0; r < rows; r += 2) {
    if (r + 1 < rows) {
      twoRows(x, w, out, r, outs, inner, scale);
    } else {
      oneRow(x, w, out, r, outs, inner, scale);
    }
  }
}

/**
 * @param {Rows} x @param {Rows} w @param {Rows} out
 * @param {number} row @param {number} outs @param {number} inner @param {number} scale
 */
function twoRows(x, w, out, row, outs, inner, scale) {
  const xs = x.data;
  const ws = w.data;
  const ys = out.data;
  const xa = x.start + row * x.stride;
  const xb = xa + x.stride;
  for (let o = 0; o < outs; o += 4) {
    // Past the last output the last one is computed again, which is cheaper than a separate loop.
    const last = outs - 1 - o;
    const p = w.start + o * w.stride;
    const q = p + Math.min(1, last) * w.stride;
    const s = p + Math.min(2, last) * w.stride;
    const t = p + Math.min(3, last) * w.stride;
    let a0 = 0;
    let a1 = 0;
    let a2 = 0;
    let a3 = 0;
    let b0 = 0;
    let b1 = 0;
    let b2 = 0;
    let b3 = 0;
    for (let i = 0; i < inner; i++) {
      const a = xs[xa + i];
      const b = xs[xb + i];
      const w0 = ws[p + i];
      const w1 = ws[q + i];
      const w2 = ws[s + i];
      const w3 = ws[t + i];
      a0 += a * w0;
      a1 += a * w1;
      a2 += a * w2;
      a3 += a * w3;
      b0 += b * w0;
      b1 += b * w1;
      b2 += b * w2;
      b3 += b * w3;
    }
    const y = out.start + row * out.stride + o;
    store(ys, y, last, scale, a0, a1, a2, a3);
    store(ys, y + out.stride, last, scale, b0, b1, b2, b3);
  }
}

/**
 * @param {Rows} x @param {Rows} w @param {Rows} out
 * @param {number} row @param {number} outs @param {number} inner @param {number} scale
 */
function oneRow(x, w, out, row, outs, inner, scale) {
  const xs = x.data;
  const ws = w.data;
  const xa = x.start + row * x.stride;
  for (let o = 0; o < outs; o += 4) {
    const last = outs - 1 - o;
    const p = w.start + o * w.stride;
    const q = p + Math.min(1, last) * w.stride;
    const s = p + Math.min(2, last) * w.stride;
    const t = p + Math.min(3, last) * w.stride;
    let a0 = 0;
    let a1 = 0;
    let a2 = 0;
    let a3 = 0;
    for (let i = 0; i < inner; i++) {
      const a = xs[xa + i];
      a0 += a * ws[p + i];
      a1 += a * ws[q + i];
      a2 += a * ws[s + i];
      a3 += a * ws[t + i];
    }
    store(out.data, out.start + row * out.stride + o, last, scale, a0, a1, a2, a3);
  }
}

/**
 * Up to four scaled sums: `last` is the index of the last one that counts.
 * @param {Float32Array} ys @param {number} y @param {number} last @param {number} scale
 * @param {number} v0 @param {number} v1 @param {number} v2 @param {number} v3
 */
function store(ys, y, last, scale, v0, v1, v2, v3) {
  ys[y] = scale * v0;
  if (last >= 1) ys[y + 1] = scale * v1;
  if (last >= 2) ys[y + 2] = scale * v2;
  if (last >= 3) ys[y + 3] = scale * v3;
}

/**
 * @param {Float32Array} data @param {number} stride
 * @returns {Rows}
 */
export function matrix(data, stride, start = 0) {
  return { data, start, stride };
}

/**
 * A dense layer, y = x W^T + b: x [rows, inner] -> y [rows, outs].
 * @param {Float32Array} x @param {Dense} layer @param {Float32Array} y @param {number} rows
 */
export function linear(x, layer, y, rows) {
  const { weight, bias, inner, outs } = layer;
  dots(matrix(x, inner), matrix(weight, inner), matrix(y, outs), rows, outs, inner);
  if (bias !== null) {
    for (let r = 0, at = 0; r < rows; r++) {
      for (let o = 0; o < outs; o++, at++) {
        y[at] += bias[o];
      }
    }
  }
}

/**
 * to += what, element by element: the residual stream, positions.
 * @param {Float32Array} to @param {Float32Array} what @param {number} count
 */
export function add(to, what, count) {
  for (let i = 0; i < count; i++) {
    to[i] += what[i];
  }
}

/**
 * Softmax of each row, in place: x [rows, width]. Subtracts the maximum first to avoid overflow.
 * @param {Float32Array} x @param {number} rows @param {number} width
 */
export function softmax(x, rows, width, start = 0) {
  for (let first = start; first < start + rows * width; first += width) {
    let largest = -Infinity;
    for (let i = first; i < first + width; i++) {
      if (x[i] > largest) largest = x[i];
    }
    let sum = 0;
    for (let i = first; i < first + width; i++) {
      const e = Math.exp(x[i] - largest);
      x[i] = e;
      sum += e;
    }
    for (let i = first; i < first + width; i++) {
      x[i] /= sum;
    }
  }
}

/**
 * Layer norm with gain and offset: x [rows, width] -> y.
 * @param {Float32Array} x @param {Float32Array} y @param {number} rows @param {number} width
 * @param {Float32Array} gain @param {Float32Array} offset
 */
export function layerNorm(x, y, rows, width, gain, offset) {
  for (let first = 0; first < rows * width; first += width) {
    let sum = 0;
    for (let i = 0; i < width; i++) {
      sum += x[first + i];
    }
    const mean = sum / width;
    let squares = 0;
    for (let i = 0; i < width; i++) {
      const d = x[first + i] - mean;
      squares += d * d;
    }
    const scale = 1 / Math.sqrt(squares / width + NORM_EPS);
    for (let i = 0; i < width; i++) {
      y[first + i] = (x[first + i] - mean) * scale * gain[i] + offset[i];
    }
  }
}

/**
 * x / root mean square of x, without gain (Zhang and Sennrich 2019): x [rows, width] -> y.
 * @param {Float32Array} x @param {Float32Array} y @param {number} rows @param {number} width
 */
export function rmsNorm(x, y, rows, width) {
  for (let first = 0; first < rows * width; first += width) {
    let squares = 0;
    for (let i = 0; i < width; i++) {
      squares += x[first + i] * x[first + i];
    }
    const scale = 1 / Math.sqrt(squares / width + NORM_EPS);
    for (let i = 0; i < width; i++) {
      y[first + i] = x[first + i] * scale;
    }
  }
}

/**
 * ReLU squared (So et al. 2021, "Primer") of the first `count` numbers, in place.
 * @param {Float32Array} x @param {number} count
 */
export function relu2(x, count) {
  for (let i = 0; i < count; i++) {
    x[i] = x[i] > 0 ? x[i] * x[i] : 0;
  }
}
