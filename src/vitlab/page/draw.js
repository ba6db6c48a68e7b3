// The drawing area: pen, keyboard, undo, the digit that writes itself, known images and pictures.

import { byId, calmMotion, setText, surface } from "./dom.js";
import { layGround } from "./pictures.js";
import { begun, length, SIDE, tidy, written } from "./strokes.js";

/** @import { Drawing, Store } from "./state.js" */
/** @import { Point, Stroke } from "./strokes.js" */
/** @typedef {ReturnType<typeof createSlate>} Slate */

const MOST_UNDO = 50;
const POINTS_PER_FRAME = 0.9;
const STEP = 10; // of the pen with the arrow keys
/** @type {Record<string, Point>} */
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * Watches the drawing area and keeps the store's drawing up to date.
 * @param {Store} store
 */
export function createSlate(store) {
  const canvas = byId("slate", HTMLCanvasElement);
  const thickness = byId("thickness", HTMLInputElement);
  const sheet = newSheet(); // what the network gets, unscaled
  /** @type {{ drawing: Drawing, ground: ImageData | null }[]} */
  const undo = [];
  /** @type {ImageData | null} */
  let ground = null; // the picture or known image under the strokes
  /** @type {Stroke | null} */
  let pen = null; // the stroke that is being drawn
  let cursor = { x: SIDE / 2, y: SIDE / 4, shown: false, down: false };
  let writing = false;
  let showing = 0; // number of the demonstration; a higher one ends it
  let width = Number(thickness.value);

  const strokes = () => store.get().drawing.strokes;
  /** @param {Partial<Drawing>} changes */
  const draw = (changes) => store.set({ drawing: { ...store.get().drawing, ...changes }, demo: false });

  function remember() {
    undo.push({ drawing: store.get().drawing, ground });
    if (undo.length > MOST_UNDO) undo.shift();
  }

  // The user starts to draw: the demonstration ends, and its digit goes.
  function takeOver() {
    showing++;
    if (store.get().demo) {
      store.set({ demo: false, drawing: { kind: "strokes", strokes: [] } });
      ground = null;
    }
  }

  /**
   * @param {PointerEvent} event
   * @returns {Point}
   */
  function place(event) {
    const box = canvas.getBoundingClientRect();
    /** @param {number} v */
    const inside = (v) => Math.min(SIDE, Math.max(0, v * SIDE));
    return [inside((event.clientX - box.left) / box.width), inside((event.clientY - box.top) / box.height)];
  }

  /** @param {Point} point */
  function lower(point) {
    takeOver();
    remember();
    pen = { width, points: [point] };
    draw({ strokes: [...strokes(), pen] });
  }

  /** @param {Point[]} points */
  function move(points) {
    if (!pen) return;
    pen = { width: pen.width, points: [...pen.points, ...points] };
    draw({ strokes: [...strokes().slice(0, -1), pen] });
  }

  function lift() {
    if (!pen) return;
    const whole = tidy(pen);
    pen = null;
    draw({ strokes: [...strokes().slice(0, -1), whole] });
  }

  // Ends the current stroke, from pointer or keyboard, before the drawing changes in another way.
  function endStroke() {
    lift();
    cursor.down = false;
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (cursor.down) endStroke(); // a pen that the keyboard has lowered
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
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);
  canvas.addEventListener("lostpointercapture", lift);

  canvas.addEventListener("keydown", (event) => {
    const arrow = ARROWS[event.key];
    if (arrow) {
      if (!cursor.down) takeOver();
      /** @param {number} v */
      const inside = (v) => Math.min(SIDE - 4, Math.max(4, v));
      cursor = { ...cursor, shown: true, x: inside(cursor.x + STEP * arrow[0]), y: inside(cursor.y + STEP * arrow[1]) };
      if (cursor.down) move([[cursor.x, cursor.y]]);
    } else if (event.key === " ") {
      cursor = { ...cursor, shown: true, down: !cursor.down };
      if (cursor.down) lower([cursor.x, cursor.y]);
      else lift();
    } else if (event.key === "Backspace" || (event.key === "z" && (event.ctrlKey || event.metaKey))) {
      undoLast();
    } else {
      return;
    }
    event.preventDefault();
    paint();
  });
  canvas.addEventListener("blur", () => {
    if (cursor.down) endStroke();
    cursor.shown = false;
    paint();
  });

  document.addEventListener("keydown", (event) => {
    const free = event.target === document.body || event.target === canvas;
    if (!/^[0-9]$/.test(event.key) || event.ctrlKey || event.metaKey || event.altKey || !free) return;
    endStroke();
    takeOver();
    remember();
    write(Number(event.key), false);
  });

  byId("undo").addEventListener("click", undoLast);
  byId("clear").addEventListener("click", clear);
  thickness.addEventListener("input", () => {
    width = Number(thickness.value);
    setText(byId("thickness-value"), String(width));
  });

  function clear() {
    endStroke();
    takeOver();
    remember();
    ground = null;
    draw({ kind: "strokes", strokes: [] });
  }

  function undoLast() {
    endStroke();
    showing++;
    const last = undo.pop();
    if (!last) return;
    ground = last.ground;
    store.set({ drawing: { ...last.drawing }, demo: false });
  }

  /**
   * Writes a digit before the user's eyes, or at once if they prefer reduced motion.
   * @param {number} digit @param {boolean} demo
   */
  function write(digit, demo) {
    const mine = ++showing;
    writing = true;
    const flowing = written(digit, width);
    const whole = flowing.map((stroke) => tidy(stroke));
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

  /** @param {CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D} target */
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
  new ResizeObserver(paint).observe(canvas);

  return {
    // What is drawn: a picture with its own pixels, unless something was drawn over it.
    pixels() {
      if (ground && !strokes().length) return ground;
      layOut(sheet);
      return sheet.getImageData(0, 0, SIDE, SIDE);
    },
    finished: () => !writing,
    down: () => pen !== null,
    clear,
    empty: () => !ground && !strokes().length,
    /**
     * Replaces the picture under the present strokes.
     * @param {ImageData | null} image
     */
    ground(image) {
      ground = image;
      paint();
    },
    // Stops whatever is drawing, the pen or the demonstration.
    stop() {
      endStroke();
      showing++;
      writing = false;
    },
    /** @param {number} digit */
    demo: (digit) => write(digit, true),
    /**
     * Lays a picture under new strokes, or under those in `more`.
     * @param {ImageData} image @param {Drawing["kind"]} kind @param {Partial<Drawing>} more
     */
    lay(image, kind, more = {}) {
      endStroke();
      takeOver();
      if (!more.strokes) remember();
      ground = image;
      draw({ kind, strokes: [], ...more });
    },
  };
}

function newSheet() {
  const context = new OffscreenCanvas(SIDE, SIDE).getContext("2d", { willReadFrequently: true });
  if (context === null) throw new Error("this browser cannot draw on a canvas");
  return context;
}

/**
 * Curves through the midpoints between points: corners are round.
 * @param {CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D} context @param {Stroke[]} strokes
 */
function paintStrokes(context, strokes) {
  Object.assign(context, { strokeStyle: "#fff", fillStyle: "#fff", lineCap: "round", lineJoin: "round" });
  for (const { width, points } of strokes) {
    context.lineWidth = width;
    context.beginPath();
    context.moveTo(...points[0]);
    for (let i = 1; i + 1 < points.length; i++) {
      const [[x, y], [nextX, nextY]] = [points[i], points[i + 1]];
      context.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
    }
    context.lineTo(...points[points.length - 1]);
    context.stroke();
  }
}

/**
 * @param {CanvasRenderingContext2D} context @param {{ x: number, y: number, down: boolean }} cursor
 */
function paintCursor(context, { x, y, down }) {
  context.lineWidth = 3;
  context.strokeStyle = down ? "#ff5fb0" : "#9ad";
  context.beginPath();
  context.arc(x, y, 9, 0, 2 * Math.PI);
  context.stroke();
}
