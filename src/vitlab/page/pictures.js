// Pictures: from files and known images to the pixels that a network is given.

import { picture } from "./dom.js";
import { luma } from "./net/numbers.js";

/** @import { Examples } from "./net/examples.js" */
/** @import { Picture } from "./net/paper.js" */

const MOST_PICTURE = 512; // pixels on the longer side; larger pictures are scaled down

/**
 * Fits the picture into the square area, on a background of the colour in its corner.
 * @param {CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D} context @param {ImageData} image
 * @param {number} side
 */
export function layGround(context, { width, height, data }, side) {
  const scale = side / Math.max(width, height);
  const [wide, high] = [width * scale, height * scale];
  const pixels = picture(
    data.filter((_, i) => i % 4 < 3),
    width,
    height,
    3,
    1,
  );
  context.fillStyle = `rgb(${data[0]} ${data[1]} ${data[2]})`;
  context.fillRect(0, 0, side, side);
  context.imageSmoothingEnabled = scale < 2;
  context.drawImage(pixels, (side - wide) / 2, (side - high) / 2, wide, high);
}

/**
 * An image file as opaque pixels. Transparent pixels become the grey `under`, as in the network's training images; for a
 * network that reads drawings (null) the opposite of what is visible, or strokes could vanish (vitlab/data/images.py).
 * @param {Blob} file @param {number | null} under
 */
export async function decodePicture(file, under) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, MOST_PICTURE / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((v) => Math.max(1, Math.round(v * scale)));
  const context = new OffscreenCanvas(width, height).getContext("2d");
  if (context === null) throw new Error("this browser cannot draw on a canvas");
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  const image = context.getImageData(0, 0, width, height);
  layOver(image.data, under ?? (visibleBrightness(image.data) <= 127 ? 255 : 0));
  return image;
}

/**
 * Puts RGBA pixels on one shade of grey.
 * @param {Uint8ClampedArray} data @param {number} under
 */
function layOver(data, under) {
  for (let i = 0; i < data.length; i += 4) {
    const alpha = data[i + 3];
    for (let c = i; c < i + 3; c++) data[c] = Math.round((data[c] * alpha + under * (255 - alpha)) / 255);
    data[i + 3] = 255;
  }
}

/**
 * The mean brightness, weighted by opacity; 0 if nothing is visible.
 * @param {Uint8ClampedArray} data
 */
function visibleBrightness(data) {
  let [sum, weight] = [0, 0];
  for (let i = 0; i < data.length; i += 4) {
    sum += luma(data[i], data[i + 1], data[i + 2]) * data[i + 3];
    weight += data[i + 3];
  }
  return weight ? sum / weight : 0;
}

/**
 * RGBA pixels as the network wants them: grey, or red, green and blue.
 * @param {ImageData} image @param {1 | 3} channels
 * @returns {Picture}
 */
export function toPixels({ width, height, data }, channels) {
  const pixels = new Uint8Array(width * height * channels);
  for (let i = 0; i < width * height; i++) {
    const [r, g, b] = [data[4 * i], data[4 * i + 1], data[4 * i + 2]];
    if (channels === 3) pixels.set([r, g, b], 3 * i);
    else pixels[i] = luma(r, g, b);
  }
  return { width, height, channels, pixels };
}

/**
 * A known image as RGBA pixels.
 * @param {Examples} examples @param {number} index
 */
export function exampleImage({ side, channels, images }, index) {
  const image = new ImageData(side, side);
  image.data.fill(255);
  for (let i = 0; i < side * side; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = images[index][channels === 3 ? 3 * i + c : i];
  }
  return image;
}
