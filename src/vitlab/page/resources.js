// The files that the page loads: from its own site or, in a page that is a single file, from that file itself.

/** @typedef {(received: number, total: number | null) => void} Progress  in bytes; total: null if not known */

/**
 * The bytes of a file; the address is relative to the page. Rejects with an Error of one sentence.
 * @param {string} address @param {Progress} [progress]
 * @returns {Promise<ArrayBuffer>}
 */
export async function bytes(address, progress) {
  if (isSingleFile()) return inThisPage(address);
  const { status, response } = await fetched(address, progress);
  if (status === 200) return response;
  throw new Error(`${address} could not be fetched: ${status ? `the server answered ${status}` : "no response"}.`);
}

/**
 * The value in a JSON file. Rejects with an Error of one sentence.
 * @param {string} address @param {Progress} [progress]
 * @returns {Promise<any>}
 */
export async function json(address, progress) {
  const text = new TextDecoder().decode(await bytes(address, progress));
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`${address} is damaged: it is not JSON.`);
  }
}

/** Whether the page holds its files itself (vitlab/export/single.py). */
export const isSingleFile = () => document.querySelector("script[data-packed]") !== null;

/**
 * @param {string} address
 * @returns {Promise<ArrayBuffer>}
 */
function inThisPage(address) {
  const found = document.querySelector(`script[data-packed][data-file="${CSS.escape(address)}"]`);
  if (!found) throw new Error(`${address} is not in this file.`);
  const packed = Uint8Array.from(atob(found.textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

/**
 * Not fetch(): that tells nothing before the end, and a stream that is read to its end may still count as broken off.
 * @param {string} address @param {Progress} [progress]
 * @returns {Promise<{ status: number, response: ArrayBuffer }>}
 */
function fetched(address, progress) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    request.open("GET", address);
    request.responseType = "arraybuffer";
    request.onprogress = ({ loaded, total, lengthComputable }) => progress?.(loaded, lengthComputable ? total : null);
    request.onloadend = () => resolve(request);
    request.send();
  });
}
