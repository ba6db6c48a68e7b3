// The drawing area: pen, keyboard, undo, the digit that writes itself, test digits and pictures.

import { byId, calmMotion, setText, surface } from "./dom.js";
import { layGround } from "./pictures.js";
import { SIDE, begun, length, tidy, written } from "./strokes.js";

const MOST_UNDO = 50;
const POINTS_PER_FRAME = 0.9;
const STEP = 10; // of the pen with the arrow keys

// Watches the drawing area and writes what happens into the store. Returns {pixels, empty, finished, down, undo,
// ground, stop, demo, lay}.
export function createSlate(store) {
  const canvas = byId("slate");
  // What the network gets, unscaled.
  const sheet = new OffscreenCanvas(SIDE, SIDE).getContext("2d", { willReadFrequently: true });
  const undo = [];
  let ground = null; // {width, height, data} RGBA: the picture or test digit under the strokes
  let pen = null; // the stroke that is being drawn
  let cursor = { x: SIDE / 2, y: SIDE / 4, shown: false, down: false };
  let writing = false;
  let showing = 0; // number of the demonstration; a higher one ends it
  let width = Number(byId("thickness").value);

  const strokes = () => store.get().drawing.strokes;
  const drawing = (changes) => store.set({ drawing: { ...store.get().drawing, ...changes }, demo: false });

  function remember() {
    undo.push({ drawing: store.get().drawing, ground });
    if (undo.length > MOST_UNDO) undo.shift();
  }

  function takeOver() {
    showing++;
    if (store.get().demo) {
      store.set({ demo: false, drawing: { kind: "strokes", strokes: [] } });
      ground = null;
    }
  }

  function place(event) {
    const box = canvas.getBoundingClientRect();
    const inside = (v) => Math.min(SIDE, Math.max(0, v));
    return [
      inside(((event.clientX - box.left) / box.width) * SIDE),
      inside(((event.clientY - box.top) / box.height) * SIDE),
    ];
  }

  function lower(point) {
    takeOver();
    remember();
    pen = { width, points: [point] };
    drawing({ strokes: [...strokes(), pen] });
  }

  function move(points) {
    if (!pen) return;
    pen = { width: pen.width, points: [...pen.points, ...points] };
    drawing({ strokes: [...strokes().slice(0, -1), pen] });
  }

  function lift() {
    if (!pen) return;
    const whole = tidy(pen);
    pen = null;
    drawing({ strokes: [...strokes().slice(0, -1), whole] });
  }

  // End the stroke under way, whatever draws it: what comes next changes the drawing.
  function endStroke() {
    lift();
    cursor.down = false;
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (cursor.down) endStroke(); // a pen that the keyboard has set down
    if (event.button > 0 || pen) return;
    canvas.setPointerCapture(event.pointerId);
    cursor.shown = false;
    lower(place(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!canvas.hasPointerCapture(event.pointerId)) return;
    const all = event.getCoalescedEvents?.() ?? [];
    move((all.length ? all : [event]).map(place));
  });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) canvas.addEventListener(end, lift);

  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    const arrow = ARROWS[event.key];
    if (arrow) {
      if (!cursor.down) takeOver();
      const inside = (v) => Math.min(SIDE - 4, Math.max(4, v));
      cursor = { ...cursor, shown: true, x: inside(cursor.x + STEP * arrow[0]), y: inside(cursor.y + STEP * arrow[1]) };
      if (cursor.down) move([[cursor.x, cursor.y]]);
    } else if (event.key === " ") {
      cursor = { ...cursor, shown: true, down: !cursor.down };
      if (cursor.down) lower([cursor.x, cursor.y]);
      else lift();
    } else if (event.key === "Backspace" || (event.key === "z" && (event.ctrlKey || event.metaKey))) {
      api.undo();
    } else return;
    event.preventDefault();
    paint();
  });
  canvas.addEventListener("blur", () => {
    if (cursor.down) endStroke();
    cursor.shown = false;
    paint();
  });

  const free = (target) => target === document.body || target === canvas;
  document.addEventListener("keydown", (event) => {
    if (!/^[0-9]$/.test(event.key) || event.ctrlKey || event.metaKey || event.altKey || !free(event.target)) return;
    endStroke();
    takeOver();
    remember();
    write(Number(event.key), false);
  });

  byId("undo").addEventListener("click", () => api.undo());
  byId("clear").addEventListener("click", () => {
    endStroke();
    takeOver();
    remember();
    ground = null;
    drawing({ kind: "strokes", strokes: [] });
  });
  byId("thickness").addEventListener("input", (event) => {
    width = Number(event.target.value);
    setText(byId("thickness-value"), String(width));
  });

  // Write a digit before the reader's eyes, or at once where motion is unwelcome.
  function write(digit, demo) {
    const mine = ++showing;
    writing = true;
    const whole = written(digit, width).map((stroke) => tidy(stroke));
    const flowing = written(digit, width);
    ground = null;
    const finish = () => {
      writing = false;
      store.set({ drawing: { kind: "strokes", strokes: whole }, demo });
    };
    if (calmMotion()) return finish();
    let shown = 1;
    const frame = () => {
      if (showing !== mine) return;
      if (shown >= length(flowing)) return finish();
      store.set({ drawing: { kind: "strokes", strokes: begun(flowing, Math.ceil(shown)) }, demo });
      shown += POINTS_PER_FRAME;
      requestAnimationFrame(frame);
    };
    frame();
  }

  function layOut(target) {
    target.fillStyle = "#000";
    target.fillRect(0, 0, SIDE, SIDE);
    if (ground) layGround(target, ground, SIDE);
    paintStrokes(target, strokes());
  }

  function paint() {
    const context = surface(canvas);
    const scale = canvas.clientWidth / SIDE;
    context.scale(scale, scale);
    layOut(context);
    if (cursor.shown) paintCursor(context, cursor);
  }

  store.listen((state, before) => {
    if (state.drawing !== before.drawing) paint();
  });

  const api = {
    // {width, height, data: RGBA} of what is drawn: a picture as it is, unless something was drawn over it.
    pixels() {
      if (ground && !strokes().length) return ground;
      layOut(sheet);
      return sheet.getImageData(0, 0, SIDE, SIDE);
    },
    finished: () => !writing,
    down: () => pen !== null,
    empty: () => !ground && !strokes().length,
    undo() {
      endStroke();
      showing++;
      const last = undo.pop();
      if (!last) return;
      ground = last.ground;
      store.set({ drawing: { ...last.drawing }, demo: false });
    },
    // Another picture, or none, under the strokes there are.
    ground(image) {
      ground = image;
      paint();
    },
    // Whatever draws, the pen or the demonstration, stops where it is.
    stop() {
      endStroke();
      showing++;
      writing = false;
    },
    demo: (digit) => write(digit, true),
    // Lay a picture {width, height, data} under fresh (or given) strokes.
    lay(image, kind, more = {}) {
      endStroke();
      takeOver();
      if (!more.strokes) remember();
      ground = image;
      drawing({ kind, strokes: [], ...more });
    },
  };
  new ResizeObserver(paint).observe(canvas);
  return api;
}

// Lines through the middles between points, so that corners are round.
export function paintStrokes(context, strokes) {
  Object.assign(context, { strokeStyle: "#fff", fillStyle: "#fff", lineCap: "round", lineJoin: "round" });
  for (const { width, points } of strokes) {
    context.lineWidth = width;
    context.beginPath();
    context.moveTo(...points[0]);
    for (let i = 1; i + 1 < points.length; i++) {
      const [[x, y], [nextX, nextY]] = [points[i], points[i + 1]];
      context.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
    }
    context.lineTo(...points.at(-1));
    context.stroke();
  }
}

function paintCursor(context, { x, y, down }) {
  context.lineWidth = 3;
  context.strokeStyle = down ? "#ff5fb0" : "#9ad";
  context.beginPath();
  context.arc(x, y, 9, 0, 2 * Math.PI);
  context.stroke();
}
