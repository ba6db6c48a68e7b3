// The three matrix products of training a dense layer, over all tokens of a batch at once. Matrices are stored row by
// row: x [rows, inner], w [outs, inner] as torch stores a Linear, y [rows, outs].
//
// JavaScript computes in double precision, so reading a float costs a conversion. Each factor is therefore copied once
// into an array of doubles, a block that fits the cache, in the order in which the innermost loop reads it; the copies
// cost about 1 / width of the product. One loop does all the arithmetic. Nothing is allocated once the space has grown.

const BLOCK = 32; // rows of x at a time, forwards and for the gradient of x
const LONG_BLOCK = 256; // rows at a time for the gradient of w, where they are summed over

const space = { left: new Float64Array(0), right: new Float64Array(0), out: new Float64Array(0) };

/**
 * Space for at least `length` numbers; it keeps what is larger.
 * @param {"left" | "right" | "out"} name @param {number} length
 */
export function room(name, length) {
  if (space[name].length < length) space[name] = new Float64Array(length);
  return space[name];
}

/** @param {number} n */
export const even = (n) => (n + 1) & ~1;
/** @param {number} n */
export const four = (n) => (n + 3) & ~3;

/**
 * out[r, o] = left row r . right row o. `rows` is even and `outs` a multiple of four: the caller fills up with zeros, so
 * there is one loop, of two rows by four outputs: eight sums in registers, six loads for sixteen operations.
 * @param {Float64Array} left @param {Float64Array} right @param {Float64Array} out
 * @param {number} rows @param {number} outs @param {number} inner
 */
export function multiply(left, right, out, rows, outs, inner) {
  for (let r = 0; r < rows; r += 2) {
    const xa = r * inner;
    const xb = xa + inner;
    for (let o = 0; o < outs; o += 4) {
      const p = o * inner;
      const q = p + inner;
      const s = q + inner;
      const t = s + inner;
      let a0 = 0;
      let a1 = 0;
      let a2 = 0;
      let a3 = 0;
      let b0 = 0;
      let b1 = 0;
      let b2 = 0;
      let b3 = 0;
      for (let i = 0; i < inner; i++) {
        const a = left[xa + i];
        const b = left[xb + i];
        const w0 = right[p + i];
        const w1 = right[q + i];
        const w2 = right[s + i];
        const w3 = right[t + i];
        a0 += a * w0;
        a1 += a * w1;
        a2 += a * w2;
        a3 += a * w3;
        b0 += b * w0;
        b1 += b * w1;
        b2 += b * w2;
        b3 += b * w3;
      }
      const y = r * outs + o;
      out[y] = a0;
      out[y + 1] = a1;
      out[y + 2] = a2;
      out[y + 3] = a3;
      const z = y + outs;
      out[z] = b0;
      out[z + 1] = b1;
      out[z + 2] = b2;
      out[z + 3] = b3;
    }
  }
}

/**
 * Rows of `from`, each `width` numbers, one after the other in `to`, times `scale`; zeros up to `filled` rows.
 * @param {Float32Array} from @param {number} start @param {number} stride @param {number} rows @param {number} width
 * @param {Float64Array} to @param {number} filled @param {number} scale
 */
export function pack(from, start, stride, rows, width, to, filled, scale) {
  let at = 0;
  for (let r = 0; r < rows; r++) {
    const first = start + r * stride;
    for (let i = 0; i < width; i++) to[at++] = scale * from[first + i];
  }
  to.fill(0, at, filled * width);
}

/**
 * The same, transposed: column i of `from` becomes row i of `to`, which has `rows` numbers.
 * @param {Float32Array} from @param {number} start @param {number} stride @param {number} rows @param {number} width
 * @param {Float64Array} to @param {number} filled
 */
export function packTransposed(from, start, stride, rows, width, to, filled) {
  for (let r = 0; r < rows; r++) {
    const first = start + r * stride;
    for (let i = 0, at = r; i < width; i++, at += rows) to[at] = from[first + i];
  }
  to.fill(0, width * rows, filled * rows);
}

/**
 * y = x w^T + bias.
 * @param {Float32Array} x @param {Float32Array} w @param {Float32Array | null} bias @param {Float32Array} y
 * @param {number} rows @param {number} inner @param {number} outs
 */
export function forward(x, w, bias, y, rows, inner, outs) {
  const wide = four(outs);
  const [left, right, out] = [room("left", BLOCK * inner), room("right", wide * inner), room("out", BLOCK * wide)];
  pack(w, 0, inner, outs, inner, right, wide, 1);
  for (let start = 0; start < rows; start += BLOCK) {
    const count = Math.min(BLOCK, rows - start);
    pack(x, start * inner, inner, count, inner, left, even(count), 1);
    multiply(left, right, out, even(count), wide, inner);
    for (let r = 0; r < count; r++) {
      const from = r * wide;
      const to = (start + r) * outs;
      if (bias === null) for (let o = 0; o < outs; o++) y[to + o] = out[from + o];
      else for (let o = 0; o < outs; o++) y[to + o] = out[from + o] + bias[o];
    }
  }
}

/**
 * The gradient of x: dx = dy w.
 * @param {Float32Array} dy @param {Float32Array} w @param {Float32Array} dx
 * @param {number} rows @param {number} inner @param {number} outs
 */
export function backToInput(dy, w, dx, rows, inner, outs) {
  const wide = four(inner);
  const [left, right, out] = [room("left", BLOCK * outs), room("right", wide * outs), room("out", BLOCK * wide)];
  packTransposed(w, 0, inner, outs, inner, right, wide);
  for (let start = 0; start < rows; start += BLOCK) {
    const count = Math.min(BLOCK, rows - start);
    pack(dy, start * outs, outs, count, outs, left, even(count), 1);
    multiply(left, right, out, even(count), wide, outs);
    for (let r = 0; r < count; r++) {
      const from = r * wide;
      const to = (start + r) * inner;
      for (let i = 0; i < inner; i++) dx[to + i] = out[from + i];
    }
  }
}

/**
 * Adds the gradients of w and bias: dw += dy^T x, dbias += the sum of the rows of dy.
 * @param {Float32Array} dy @param {Float32Array} x @param {Float32Array} dw @param {Float32Array | null} dbias
 * @param {number} rows @param {number} inner @param {number} outs
 */
export function backToWeight(dy, x, dw, dbias, rows, inner, outs) {
  const [tall, wide] = [even(outs), four(inner)];
  const left = room("left", tall * LONG_BLOCK);
  const right = room("right", wide * LONG_BLOCK);
  const out = room("out", tall * wide);
  for (let start = 0; start < rows; start += LONG_BLOCK) {
    const count = Math.min(LONG_BLOCK, rows - start);
    packTransposed(dy, start * outs, outs, count, outs, left, tall);
    packTransposed(x, start * inner, inner, count, inner, right, wide);
    multiply(left, right, out, tall, wide, count);
    for (let o = 0; o < outs; o++) {
      const [from, to] = [o * wide, o * inner];
      for (let i = 0; i < inner; i++) dw[to + i] += out[from + i];
    }
    if (dbias !== null) {
      for (let o = 0, at = 0; o < outs; o++) {
        let sum = 0;
        for (let r = 0; r < count; r++) sum += left[at++];
        dbias[o] += sum;
      }
    }
  }
}
