// The files that the page loads: from its own site or, in a page that is a single file, from that file itself.

/** @typedef {(received: number, total: number | null) => void} Progress  in bytes; total: null if not known */

/**
 * The bytes of a file; the address is relative to the page. Rejects with an Error of one sentence.
 * @param {string} address @param {Progress} [progress]
 * @returns {Promise<ArrayBuffer>}
 */
export async function bytes(address, progress) {
  const inside = inThisPage(address);
  if (inside !== null) return Uint8Array.from(atob(inside), (letter) => letter.charCodeAt(0)).buffer;
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

/** Whether the page holds its files itself. */
export const isSingleFile = () => document.querySelector("script[data-file]") !== null;

/**
 * The file in base64, if this page holds it.
 * @param {string} address
 */
function inThisPage(address) {
  const found = document.querySelector(`script[data-file="${CSS.escape(address)}"]`);
  return found?.textContent ?? null;
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
