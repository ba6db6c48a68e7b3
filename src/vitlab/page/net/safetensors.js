// The safetensors format: 8 bytes with the length of the header, a JSON header, then raw little-endian numbers.
// The header may come from anywhere, so everything in it is checked before it is used.

/** @typedef {{ shape: number[], data: Float32Array }} Tensor */

/** @type {Map<unknown, 2 | 4>} */
const WIDTHS = new Map([
  ["F32", 4],
  ["F16", 2],
]); // bytes of a number
const LONGEST_HEADER = 10_000_000; // bytes; ours have a few thousand

const POWERS = Array.from({ length: 31 }, (_, exponent) => 2 ** (exponent - 25)); // of half precision, times 2^-10

/** A damaged file; the message is one sentence for the user. */
export class FileError extends Error {}

/**
 * A file's tensors by name. FileError if it is damaged.
 * @param {ArrayBuffer} buffer
 */
export function parseSafetensors(buffer) {
  const { header, dataStart } = readHeader(buffer);
  /** @type {Map<string, Tensor>} */
  const tensors = new Map();
  const places = [];
  for (const [name, entry] of Object.entries(header)) {
    if (name !== "__metadata__") {
      tensors.set(name, readTensor(buffer, dataStart, name, entry));
      places.push(entry.data_offsets);
    }
  }
  checkCovered(places, buffer.byteLength - dataStart);
  return tensors;
}

/** @param {ArrayBuffer} buffer */
function readHeader(buffer) {
  if (buffer.byteLength < 8) {
    throw new FileError(`The weights are not a safetensors file: ${buffer.byteLength} bytes are too few.`);
  }
  const length = new DataView(buffer).getBigUint64(0, true);
  if (length > BigInt(Math.min(LONGEST_HEADER, buffer.byteLength - 8))) {
    throw new FileError(`The weights are not a safetensors file, or cut short: the header claims ${length} bytes.`);
  }
  let header;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(new Uint8Array(buffer, 8, Number(length))));
  } catch {
    throw new FileError("The weights are not a safetensors file, or damaged: the header is not JSON.");
  }
  if (typeof header !== "object" || header === null || Array.isArray(header)) {
    throw new FileError("The weights are damaged: the header is not a JSON object.");
  }
  return { header, dataStart: 8 + Number(length) };
}

/**
 * @param {ArrayBuffer} buffer @param {number} dataStart @param {string} name @param {any} entry
 * @returns {Tensor}
 */
function readTensor(buffer, dataStart, name, entry) {
  const { dtype, shape, data_offsets: offsets } = entry ?? {};
  const width = WIDTHS.get(dtype);
  if (width === undefined) {
    throw new FileError(`Tensor ${name} has type ${JSON.stringify(dtype)}; this page reads only F32 and F16.`);
  }
  if (!isListOfCounts(shape) || !isListOfCounts(offsets) || offsets.length !== 2) {
    throw new FileError(`Tensor ${name} is damaged: its shape or its offsets are invalid.`);
  }
  const [begin, end] = offsets;
  const count = shape.reduce((product, size) => product * size, 1);
  if (begin > end || dataStart + end > buffer.byteLength) {
    throw new FileError(`Tensor ${name} lies outside the file, which is cut short or damaged.`);
  }
  if (end - begin !== width * count) {
    throw new FileError(`Tensor ${name} is damaged: ${end - begin} bytes cannot hold the shape ${shape.join(" x ")}.`);
  }
  const part = buffer.slice(dataStart + begin, dataStart + end);
  return { shape, data: width === 2 ? littleEndianHalves(part) : littleEndianFloats(part) };
}

/**
 * @param {unknown} list
 * @returns {list is number[]}
 */
function isListOfCounts(list) {
  return Array.isArray(list) && list.every((value) => Number.isSafeInteger(value) && value >= 0);
}

/** @param {ArrayBuffer} bytes */
function littleEndianFloats(bytes) {
  const isLittleEndian = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;
  if (isLittleEndian) {
    return new Float32Array(bytes);
  }
  const view = new DataView(bytes);
  return Float32Array.from({ length: bytes.byteLength / 4 }, (_, i) => view.getFloat32(4 * i, true));
}

/**
 * Half precision: a sign, 5 bits of exponent, 10 of fraction.
 * @param {ArrayBuffer} bytes
 */
function littleEndianHalves(bytes) {
  const view = new DataView(bytes);
  const values = new Float32Array(bytes.byteLength / 2);
  for (let i = 0; i < values.length; i++) {
    const bits = view.getUint16(2 * i, true);
    const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
    const size =
      exponent === 0
        ? fraction * 2 ** -24
        : exponent === 31
          ? fraction === 0
            ? Number.POSITIVE_INFINITY
            : Number.NaN
          : (1024 + fraction) * POWERS[exponent];
    values[i] = bits >> 15 ? -size : size;
  }
  return values;
}

/**
 * The format demands that tensors fill the file one after the other, without gaps or overlaps.
 * @param {[number, number][]} places @param {number} length
 */
function checkCovered(places, length) {
  let covered = 0;
  for (const [begin, end] of places.toSorted((a, b) => a[0] - b[0] || a[1] - b[1])) {
    if (begin !== covered) {
      throw new FileError("The weights are damaged: tensors overlap or leave gaps in the file.");
    }
    covered = end;
  }
  const left = length - covered;
  if (left !== 0) {
    throw new FileError(
      `The weights are damaged: ${left} ${left === 1 ? "byte" : "bytes"} at the end belong to no tensor.`,
    );
  }
}
