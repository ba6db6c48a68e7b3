// Pictures: from files and test sets to the pixels that a network is given.

import { picture } from "./dom.js";

const MOST_PICTURE = 512; // pixels of the longer side that are kept of a picture

// Fill the area with the picture, its longer side along the whole of it, on its own corner's colour.
export function layGround(context, { width, height, data }, side) {
  const scale = side / Math.max(width, height);
  context.fillStyle = `rgb(${data[0]} ${data[1]} ${data[2]})`;
  context.fillRect(0, 0, side, side);
  context.imageSmoothingEnabled = scale < 2;
  context.drawImage(
    picture(toRgb(data), width, height, 3, 1),
    (side - width * scale) / 2,
    (side - height * scale) / 2,
    width * scale,
    height * scale,
  );
}

function toRgb(data) {
  return data.filter((_, i) => i % 4 < 3);
}

// An image file as {width, height, data: RGBA}, opaque, at most MOST_PICTURE pixels on the longer side. Under what is
// transparent lies black; for a network that reads drawings the opposite of what is visible, so that strokes never
// vanish (vitlab/data/images.py).
export async function decodePicture(file, isDrawing) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, MOST_PICTURE / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((v) => Math.max(1, Math.round(v * scale)));
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  const image = context.getImageData(0, 0, width, height);
  layOver(image.data, isDrawing && visibleBrightness(image.data) <= 127 ? 255 : 0);
  return image;
}

// RGBA over one shade of grey.
function layOver(data, under) {
  for (let i = 0; i < data.length; i += 4) {
    const alpha = data[i + 3];
    for (let c = i; c < i + 3; c++) data[c] = Math.round((data[c] * alpha + under * (255 - alpha)) / 255);
    data[i + 3] = 255;
  }
}

// The mean brightness, each pixel counted as far as it is seen; 0 where nothing is.
function visibleBrightness(data) {
  let [sum, weight] = [0, 0];
  for (let i = 0; i < data.length; i += 4) {
    sum += luma(data[i], data[i + 1], data[i + 2]) * data[i + 3];
    weight += data[i + 3];
  }
  return weight ? sum / weight : 0;
}

const luma = (r, g, b) => (19595 * r + 38470 * g + 7471 * b + 32768) >> 16;

// RGBA as the network wants it: grey (by the usual weights of luma) or red, green, blue; row, column, channel.
export function toPixels({ width, height, data }, channels) {
  const pixels = new Uint8Array(width * height * channels);
  for (let i = 0; i < width * height; i++) {
    const [r, g, b] = [data[4 * i], data[4 * i + 1], data[4 * i + 2]];
    if (channels === 3) pixels.set([r, g, b], 3 * i);
    else pixels[i] = luma(r, g, b);
  }
  return { width, height, channels, pixels };
}

// A test image of examples.json as RGBA.
export function exampleImage({ side, channels, images }, index) {
  const data = new Uint8ClampedArray(4 * side * side).fill(255);
  for (let i = 0; i < side * side; i++)
    for (let c = 0; c < 3; c++) data[4 * i + c] = images[index][channels === 3 ? 3 * i + c : i];
  return { width: side, height: side, data };
}
