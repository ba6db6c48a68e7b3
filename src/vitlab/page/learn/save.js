// Writing a network's weights: the safetensors format, as net/safetensors.js reads it.

/** @import { Tensor } from "../net/safetensors.js" */

/**
 * The bytes of a file with these tensors.
 * @param {Map<string, Tensor>} tensors
 */
export function toSafetensors(tensors) {
  /** @type {Record<string, { dtype: string, shape: number[], data_offsets: [number, number] }>} */
  const header = {};
  let length = 0;
  for (const [name, { shape, data }] of tensors) {
    header[name] = { dtype: "F32", shape, data_offsets: [length, length + 4 * data.length] };
    length += 4 * data.length;
  }
  const text = JSON.stringify(header);
  const words = new TextEncoder().encode(text.padEnd(Math.ceil(text.length / 8) * 8));
  const file = new ArrayBuffer(8 + words.length + length);
  const view = new DataView(file);
  view.setBigUint64(0, BigInt(words.length), true);
  new Uint8Array(file).set(words, 8);
  let at = 8 + words.length;
  for (const { data } of tensors.values()) {
    for (const value of data) {
      view.setFloat32(at, value, true);
      at += 4;
    }
  }
  return file;
}
