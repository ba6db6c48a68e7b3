// The safetensors format: 8 bytes with the header's length, a JSON header, then raw little-endian numbers.
// Everything in the header is checked before it is believed: a page may be handed any file.

const LONGEST_HEADER = 10_000_000; // bytes; ours have a few thousand

export class FileError extends Error {}

/** A file's tensors: Map name -> {shape: [numbers], data: Float32Array}. Throws FileError, one clear sentence. */
export function parseSafetensors(buffer) {
  const { header, dataStart } = readHeader(buffer);
  const tensors = new Map();
  for (const [name, entry] of Object.entries(header)) {
    if (name !== "__metadata__") {
      tensors.set(name, readTensor(buffer, dataStart, name, entry));
    }
  }
  checkCovered(
    [...tensors.keys()].map((name) => header[name].data_offsets),
    buffer.byteLength - dataStart,
  );
  return tensors;
}

function readHeader(buffer) {
  if (buffer.byteLength < 8) {
    throw new FileError(`The weights are no safetensors file: ${buffer.byteLength} bytes are too few.`);
  }
  const length = new DataView(buffer).getBigUint64(0, true);
  if (length > BigInt(Math.min(LONGEST_HEADER, buffer.byteLength - 8))) {
    throw new FileError(`The weights are no safetensors file, or cut short: a header of ${length} bytes.`);
  }
  const dataStart = 8 + Number(length);
  let header;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(new Uint8Array(buffer, 8, Number(length))));
  } catch {
    throw new FileError("The weights are no safetensors file, or damaged: their header is not JSON.");
  }
  if (typeof header !== "object" || header === null || Array.isArray(header)) {
    throw new FileError("The weights' header is damaged: it is not a JSON object.");
  }
  return { header, dataStart };
}

function readTensor(buffer, dataStart, name, entry) {
  const { dtype, shape, data_offsets: offsets } = entry ?? {};
  if (dtype !== "F32") {
    throw new FileError(`Tensor ${name} has numbers of kind ${JSON.stringify(dtype)}; this page reads F32 only.`);
  }
  if (!isListOfCounts(shape) || !isListOfCounts(offsets) || offsets.length !== 2) {
    throw new FileError(`Tensor ${name} is damaged: its shape or its place in the file makes no sense.`);
  }
  const [begin, end] = offsets;
  const count = shape.reduce((product, size) => product * size, 1);
  if (begin > end || dataStart + end > buffer.byteLength) {
    throw new FileError(`Tensor ${name} lies outside the file, which is cut short or damaged.`);
  }
  if (end - begin !== 4 * count) {
    throw new FileError(`Tensor ${name} is damaged: ${end - begin} bytes cannot hold the shape ${shape.join(" x ")}.`);
  }
  return { shape, data: littleEndianFloats(buffer.slice(dataStart + begin, dataStart + end)) };
}

function isListOfCounts(list) {
  return Array.isArray(list) && list.every((value) => Number.isSafeInteger(value) && value >= 0);
}

function littleEndianFloats(bytes) {
  const isLittleEndian = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;
  if (isLittleEndian) {
    return new Float32Array(bytes);
  }
  const view = new DataView(bytes);
  return Float32Array.from({ length: bytes.byteLength / 4 }, (_, i) => view.getFloat32(4 * i, true));
}

/** As the format demands: tensors lie one after the other, without holes, overlaps, or bytes that belong to none. */
function checkCovered(places, length) {
  let covered = 0;
  for (const [begin, end] of places.sort((a, b) => a[0] - b[0] || a[1] - b[1])) {
    if (begin !== covered) {
      throw new FileError("The weights are damaged: tensors overlap, or leave holes in the file.");
    }
    covered = end;
  }
  if (covered !== length) {
    throw new FileError(`The weights are damaged: ${length - covered} bytes at the end belong to no tensor.`);
  }
}
