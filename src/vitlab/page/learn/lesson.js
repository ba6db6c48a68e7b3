// The images that the page carries to learn from: lesson.json and the sprite lesson.png (vitlab/export/lesson.py).

/** @import { Kind } from "./design.js" */
/**
 * lesson.json. columns: images in a row of the sprite; labels in base64, a byte each; the first `train` images are for
 * training, the other `held` to measure with.
 * @typedef {Kind & { format: number, columns: number, train: number, held: number, labels: string }} Facts
 */

/**
 * The images [side, side, C] of the sprite and their labels.
 * @param {ArrayBuffer} png @param {Facts} facts
 */
export async function openLesson(png, { side, channels, columns, train, held, labels }) {
  const bitmap = await createImageBitmap(new Blob([png], { type: "image/png" }), { colorSpaceConversion: "none" });
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d", { willReadFrequently: true });
  if (context === null) throw new Error("this browser cannot draw on a canvas");
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  const images = Array.from({ length: train + held }, (_, i) => {
    const [left, top] = [(i % columns) * side, Math.floor(i / columns) * side];
    const pixels = new Uint8Array(side * side * channels);
    for (let y = 0, at = 0; y < side; y++) {
      for (let x = 0; x < side; x++) {
        const from = 4 * ((top + y) * bitmap.width + left + x);
        for (let c = 0; c < channels; c++) pixels[at++] = data[from + c];
      }
    }
    return pixels;
  });
  bitmap.close();
  return { images, labels: Uint8Array.from(atob(labels), (letter) => letter.charCodeAt(0)) };
}
