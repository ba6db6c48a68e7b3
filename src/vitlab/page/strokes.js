// Pen strokes: ten handwritten digits, and strokes as a short text for the address.

/**
 * A place on the drawing area, which is SIDE units wide and high.
 * @typedef {[number, number]} Point
 * @typedef {{ width: number, points: Point[] }} Stroke
 */

export const SIDE = 280;
const WIDTHS = { least: 8, most: 44, usual: 24 };

// Each digit as strokes through a few places, in hundredths of the side.
const WRITTEN = [
  ["58,21 40,24 31,42 31,62 42,79 57,77 67,60 67,40 60,24 50,21"],
  ["40,34 47,28 53,20 53,40 51,60 50,80"],
  ["32,36 38,24 52,19 65,27 65,41 54,56 41,68 31,78 48,77 69,78"],
  ["33,25 48,19 63,25 62,38 47,47 62,52 68,64 60,77 45,81 31,75"],
  ["44,20 38,36 31,55 47,56 70,54", "61,34 60,56 57,82"],
  ["65,21 51,21 39,22 37,34 35,46 49,43 63,50 66,63 58,76 44,80 31,75"],
  ["60,19 46,32 36,50 34,67 44,79 58,78 66,67 60,55 48,54 37,64"],
  ["30,25 48,24 69,22 61,40 52,58 46,81"],
  ["62,27 50,19 38,26 41,39 53,48 64,60 61,75 48,80 36,72 39,58 53,46 63,37 62,27"],
  ["65,33 54,21 40,25 36,38 45,48 58,45 65,34 65,52 61,68 56,81"],
];
const BETWEEN = 8; // points from one place to the next
const MOST_POINTS = 255;

/**
 * The strokes of a digit 0 to 9, as a hand would write it.
 * @param {number} digit
 * @returns {Stroke[]}
 */
export function written(digit, width = WIDTHS.usual) {
  return WRITTEN[digit].map((text) => ({ width, points: smooth(text.split(" ").map(pointOf)) }));
}

/**
 * @param {string} text
 * @returns {Point}
 */
function pointOf(text) {
  const [x, y] = text.split(",").map((number) => (Number(number) * SIDE) / 100);
  return [x, y];
}

/**
 * A curve through all places (Catmull and Rom 1974).
 * @param {Point[]} places
 */
function smooth(places) {
  /** @type {Point[]} */
  const points = [];
  for (let i = 0; i + 1 < places.length; i++) {
    const a = places[Math.max(0, i - 1)];
    const [b, c] = [places[i], places[i + 1]];
    const d = places[Math.min(places.length - 1, i + 2)];
    for (let step = 0; step < BETWEEN; step++) {
      const t = step / BETWEEN;
      points.push([between(a[0], b[0], c[0], d[0], t), between(a[1], b[1], c[1], d[1], t)]);
    }
  }
  return [...points, places[places.length - 1]];
}

/** @param {number} a @param {number} b @param {number} c @param {number} d @param {number} t */
function between(a, b, c, d, t) {
  return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)));
}

/**
 * The first part of the strokes, by number of points: for writing them before the user's eyes.
 * @param {Stroke[]} strokes @param {number} points
 */
export function begun(strokes, points) {
  const some = [];
  let left = points;
  for (const stroke of strokes) {
    if (left <= 0) break;
    some.push({ width: stroke.width, points: stroke.points.slice(0, left) });
    left -= stroke.points.length;
  }
  return some;
}

/** @param {Stroke[]} strokes */
export const length = (strokes) => strokes.reduce((sum, stroke) => sum + stroke.points.length, 0);

/**
 * The same line through fewer points, none further off than `tolerance` (Douglas and Peucker 1973), on the grid that
 * the address can hold: a drawing and its link are identical.
 * @param {Stroke} stroke
 * @returns {Stroke}
 */
export function tidy(stroke, tolerance = 0.8) {
  const kept = fewer(stroke.points, tolerance);
  if (kept.length > MOST_POINTS) return tidy(stroke, 2 * tolerance);
  return { width: stroke.width, points: kept.map(([x, y]) => [fromByte(toByte(x)), fromByte(toByte(y))]) };
}

/**
 * @param {Point[]} points @param {number} tolerance
 * @returns {Point[]}
 */
function fewer(points, tolerance) {
  if (points.length < 3) return points;
  const [first, last] = [points[0], points[points.length - 1]];
  let [far, distance] = [0, -1];
  for (let i = 1; i + 1 < points.length; i++) {
    const d = offLine(points[i], first, last);
    if (d > distance) [far, distance] = [i, d];
  }
  if (distance <= tolerance) return [first, last];
  return [...fewer(points.slice(0, far + 1), tolerance).slice(0, -1), ...fewer(points.slice(far), tolerance)];
}

/** @param {Point} point @param {Point} from @param {Point} to */
function offLine([x, y], [ax, ay], [bx, by]) {
  const [dx, dy] = [bx - ax, by - ay];
  const along = dx || dy ? Math.min(1, Math.max(0, ((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy))) : 0;
  return Math.hypot(x - ax - along * dx, y - ay - along * dy);
}

/** @param {number} v */
const toByte = (v) => Math.min(255, Math.max(0, Math.round((v / SIDE) * 255)));
/** @param {number} byte */
const fromByte = (byte) => (byte / 255) * SIDE;

/**
 * Strokes as text that needs no escapes in an address: for each stroke its width, the number of its points, and their
 * places. A stroke that is still being drawn is tidied as it will be when it ends.
 * @param {Stroke[]} strokes
 */
export function encodeStrokes(strokes) {
  const short = strokes.map((stroke) => (stroke.points.length > MOST_POINTS ? tidy(stroke) : stroke));
  const bytes = short.flatMap(({ width, points }) => [width, points.length, ...points.flat().map(toByte)]);
  return btoa(String.fromCharCode(...bytes))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replaceAll("=", "");
}

/**
 * The strokes in such a text; null if it is not one.
 * @param {string} text
 */
export function decodeStrokes(text) {
  let bytes;
  try {
    bytes = Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
  } catch {
    return null;
  }
  /** @type {Stroke[]} */
  const strokes = [];
  for (let i = 0; i < bytes.length; ) {
    const [width, count] = [bytes[i], bytes[i + 1]];
    const end = i + 2 + 2 * count;
    if (!count || end > bytes.length || width < WIDTHS.least || width > WIDTHS.most) return null;
    /** @type {Point[]} */
    const points = [];
    for (let at = i + 2; at < end; at += 2) points.push([fromByte(bytes[at]), fromByte(bytes[at + 1])]);
    strokes.push({ width, points });
    i = end;
  }
  return strokes;
}
