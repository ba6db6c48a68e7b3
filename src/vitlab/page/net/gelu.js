// GELU in its exact form, x Phi(x), with Phi the cumulative normal distribution (Hendrycks and Gimpel 2016).
//
// JavaScript has no erf. Phi is tabulated once, with its slope at each knot, and interpolated by cubic Hermite
// polynomials: the error is at most h^4 / 384 times the largest fourth derivative of Phi (1.4). With h = 1/64 that is
// less than 3e-10, far below float32 precision, and several times as fast as one exponential per number.

const REACH = 6.5; // beyond it, Phi is 0 or 1 to within 4e-11
const KNOTS_PER_UNIT = 64;
const KNOTS = 2 * REACH * KNOTS_PER_UNIT + 1;
const VALUES = new Float64Array(KNOTS);
const SLOPES = new Float64Array(KNOTS); // of Phi, times the distance between two knots

/**
 * Phi(x) = 1/2 + phi(x) (x + x^3/3 + x^5/(3 5) + ...); all terms have one sign, so no digits are lost.
 * @param {number} x
 */
function normalIntegral(x) {
  let term = x;
  let sum = x;
  for (let n = 3; Math.abs(term) > 1e-18 * Math.abs(sum); n += 2) {
    term *= (x * x) / n;
    sum += term;
  }
  return 0.5 + density(x) * sum;
}

/** @param {number} x */
function density(x) {
  return Math.exp(-0.5 * x * x) / Math.sqrt(2 * Math.PI);
}

for (let knot = 0; knot < KNOTS; knot++) {
  const x = knot / KNOTS_PER_UNIT - REACH;
  VALUES[knot] = normalIntegral(x);
  SLOPES[knot] = density(x) / KNOTS_PER_UNIT;
}

/**
 * GELU of the first `count` numbers, in place.
 * @param {Float32Array} x @param {number} count
 */
export function gelu(x, count) {
  for (let i = 0; i < count; i++) {
    const v = x[i];
    if (v > -REACH && v < REACH) {
      const place = (v + REACH) * KNOTS_PER_UNIT;
      const knot = place | 0;
      const t = place - knot;
      const from = VALUES[knot];
      const rise = VALUES[knot + 1] - from;
      const s0 = SLOPES[knot];
      const s1 = SLOPES[knot + 1];
      x[i] = v * (from + t * (s0 + t * (3 * rise - 2 * s0 - s1 + t * (s0 + s1 - 2 * rise))));
    } else if (v <= -REACH) {
      x[i] = 0;
    }
  }
}

/**
 * GELU and its slope, for training: y = GELU(x), slope = Phi(x) + x phi(x), both of the first `count` numbers.
 * @param {Float32Array} x @param {Float32Array} y @param {Float32Array} slope @param {number} count
 */
export function geluWithSlope(x, y, slope, count) {
  for (let i = 0; i < count; i++) {
    const v = x[i];
    if (v > -REACH && v < REACH) {
      const place = (v + REACH) * KNOTS_PER_UNIT;
      const knot = place | 0;
      const t = place - knot;
      const from = VALUES[knot];
      const rise = VALUES[knot + 1] - from;
      const s0 = SLOPES[knot];
      const s1 = SLOPES[knot + 1];
      const square = 3 * rise - 2 * s0 - s1;
      const cube = s0 + s1 - 2 * rise;
      const integral = from + t * (s0 + t * (square + t * cube));
      y[i] = v * integral;
      slope[i] = integral + v * KNOTS_PER_UNIT * (s0 + t * (2 * square + 3 * t * cube));
    } else {
      y[i] = Math.max(v, 0);
      slope[i] = v > 0 ? 1 : 0;
    }
  }
}
