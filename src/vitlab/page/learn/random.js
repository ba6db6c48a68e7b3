// Random numbers that a seed determines, the same in every browser: xoshiro128** (Blackman and Vigna 2018), seeded by
// splitmix32.

/** @typedef {ReturnType<typeof generator>} Generator */

/**
 * A stream of numbers for a seed and a purpose: two purposes never share their numbers.
 * @param {number} seed @param {string} purpose
 */
export function generator(seed, purpose) {
  let mixed = seed >>> 0;
  for (const letter of purpose) mixed = Math.imul(mixed ^ (letter.codePointAt(0) ?? 0), 0x01000193) >>> 0;
  const split = () => {
    mixed = (mixed + 0x9e3779b9) >>> 0;
    let z = mixed;
    z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
    return (z ^ (z >>> 16)) >>> 0;
  };
  let [a, b, c, d] = [split(), split(), split(), split()];
  /** @param {number} x @param {number} k */
  const turn = (x, k) => (x << k) | (x >>> (32 - k));

  // Even in [0, 1).
  function uniform() {
    const result = Math.imul(turn(Math.imul(b, 5), 7), 9) >>> 0;
    const t = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= t;
    d = turn(d, 11);
    return result / 2 ** 32;
  }

  // Standard normal (Box and Muller 1958).
  function normal() {
    const radius = Math.sqrt(-2 * Math.log(1 - uniform()));
    return radius * Math.cos(2 * Math.PI * uniform());
  }

  /**
   * Shuffles in place (Fisher and Yates).
   * @param {Int32Array} list
   */
  function shuffle(list) {
    for (let i = list.length - 1; i > 0; i--) {
      const j = Math.floor(uniform() * (i + 1));
      [list[i], list[j]] = [list[j], list[i]];
    }
  }

  return { uniform, normal, shuffle };
}
