// Writing images with labels as NumPy's .npz: arrays (.npy, version 1.0) in a zip file that is not compressed.

/**
 * The arrays `images` [N, side, side] (in colour [N, side, side, 3]) of bytes, `labels` [N], and the names `classes`.
 * @param {Uint8Array[]} images @param {number[]} labels @param {string[]} classes
 * @param {number} side @param {number} channels
 */
export function toNpz(images, labels, classes, side, channels) {
  const pixels = new Uint8Array(images.length * side * side * channels);
  images.forEach((image, i) => {
    pixels.set(image, (i * pixels.length) / images.length);
  });
  const shape = [images.length, side, side, ...(channels === 1 ? [] : [channels])];
  const letters = classes.map((name) => Array.from(name, (letter) => letter.codePointAt(0) ?? 0));
  const longest = Math.max(...letters.map((name) => name.length));
  const names = letters.flatMap((name) => [...name, ...new Array(longest - name.length).fill(0)]);
  return zip([
    ["images.npy", npy("|u1", shape, pixels)],
    ["labels.npy", npy("<i4", [labels.length], words(labels))],
    ["classes.npy", npy(`<U${longest}`, [classes.length], words(names))],
  ]);
}

/**
 * Numbers of 4 bytes, the lowest first.
 * @param {number[]} numbers
 */
function words(numbers) {
  const view = new DataView(new ArrayBuffer(4 * numbers.length));
  numbers.forEach((number, i) => {
    view.setUint32(4 * i, number, true);
  });
  return new Uint8Array(view.buffer);
}

/**
 * @param {string} type @param {number[]} shape @param {Uint8Array} data
 */
function npy(type, shape, data) {
  const header = `{'descr': '${type}', 'fortran_order': False, 'shape': (${shape.join(", ")},), }`;
  const padded = `${header.padEnd(Math.ceil((header.length + 11) / 64) * 64 - 11)}\n`; // data begins at a multiple of 64
  const start = [
    0x93,
    ...new TextEncoder().encode("NUMPY"),
    1,
    0,
    padded.length % 256,
    Math.floor(padded.length / 256),
  ];
  return together([Uint8Array.from(start), new TextEncoder().encode(padded), data]);
}

/**
 * A zip file of these files, each as it is.
 * @param {[string, Uint8Array][]} files
 */
function zip(files) {
  /** @type {Uint8Array[]} */
  const bodies = [];
  /** @type {Uint8Array[]} */
  const entries = [];
  let at = 0;
  for (const [name, data] of files) {
    const letters = new TextEncoder().encode(name);
    // version, flags, method, time and date (1980-01-01), checksum, both sizes, lengths of the name and of what follows it
    const facts = fields(
      [20, 2],
      [0, 2],
      [0, 2],
      [0, 2],
      [33, 2],
      [crc32(data), 4],
      [data.length, 4],
      [data.length, 4],
    );
    const lengths = fields([letters.length, 2], [0, 2]);
    const body = together([fields([0x04034b50, 4]), facts, lengths, letters, data]);
    const rest = fields([0, 2], [0, 2], [0, 2], [0, 4], [at, 4]); // comment, disk, attributes, place
    entries.push(together([fields([0x02014b50, 4], [20, 2]), facts, lengths, rest, letters]));
    bodies.push(body);
    at += body.length;
  }
  const directory = together(entries);
  const count = files.length;
  const end = fields([0x06054b50, 4], [0, 2], [0, 2], [count, 2], [count, 2], [directory.length, 4], [at, 4], [0, 2]);
  return together([...bodies, directory, end]);
}

/**
 * Numbers, each in so many bytes, the lowest first.
 * @param {[number, number][]} pairs
 */
function fields(...pairs) {
  return Uint8Array.from(
    pairs.flatMap(([number, size]) => Array.from({ length: size }, (_, i) => (number >>> (8 * i)) & 255)),
  );
}

/** @param {Uint8Array[]} parts */
function together(parts) {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/**
 * The checksum of zip files.
 * @param {Uint8Array} data
 */
function crc32(data) {
  let sum = 0xffffffff;
  for (const byte of data) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit++) sum = sum & 1 ? (sum >>> 1) ^ 0xedb88320 : sum >>> 1;
  }
  return ~sum >>> 0;
}
