// The story: ten steps through a reading. Each has a sentence, one panel in the light, and something to try.

import { byId, calmMotion, setText } from "../dom.js";
import { argmax } from "../net/numbers.js";
import { tied } from "../words.js";
import { chaptersOf, subjectOf } from "./chapters.js";
import { paintGrids } from "./grids.js";
import { paintWay } from "./way.js";

/** @import { View } from "../main.js" */
/** @import { State, Store } from "../state.js" */
/** @import { Act, Chapter, Losses, Subject } from "./chapters.js" */
/** @import { Loaded } from "../net/worker.js" */
/**
 * Something chosen for a step, and what was chosen before. one: the patch that it is about.
 * @typedef {{ changes: Partial<State>, before: Partial<State>, one: number | null }} Taken
 * @typedef {Taken & { act: Act, read: string, subject: Subject }} Tried
 * @typedef {Losses & { model: Loaded | null, drawing: State["drawing"] }} Needs
 */

const SEEN = "vitlab-story"; // in the browser's storage; nothing is sent
const PAUSE = 1500; // milliseconds after the first drawing
const BETWEEN = 500; // milliseconds from one turn of the wheel to the next
const SWIPE = 40; // pixels
const WIDE = 780; // pixels: next to the card there is room for a panel

/** @param {Store} store */
export function createStory(store) {
  const card = byId("story");
  const [back, next, act] = ["back", "next", "act"].map((name) => byId(`story-${name}`, HTMLButtonElement));
  const begins = createBeginning(store, () => open(false));
  /** @type {Chapter[]} */
  let chapters = [];
  /** @type {Subject | null} */
  let subject = null;
  let place = 0;
  /** @type {Tried | null} */
  let tried = null;
  /** @type {Taken | null} */
  let shown = null;
  /** @type {Element | null} */
  let lit = null;
  /** @type {Needs | null} */
  let needs = null;
  let moving = false; // a step has begun, or been tried, and the user has done nothing since
  let brought = ""; // the layout for which the lit panel was scrolled into sight

  /** @param {boolean} asked by a click, so the keyboard follows */
  function open(asked) {
    remember();
    card.hidden = false;
    document.body.classList.add("telling");
    enter();
    if (!asked) return;
    bring();
    moving = true;
    next.focus({ preventScroll: true });
  }

  function close() {
    if (card.hidden) return;
    const had = card.contains(document.activeElement);
    leave();
    remember();
    card.hidden = true;
    document.body.classList.remove("telling");
    light(null);
    if (had) byId("story-open").focus({ preventScroll: true });
  }

  // The last step leads to the free page.
  function finish() {
    close();
    place = 0;
    byId("slate").focus({ preventScroll: true });
    window.scrollTo({ top: 0, behavior: calmMotion() ? "auto" : "smooth" });
  }

  /** @param {number} by */
  function go(by) {
    const to = place + by;
    if (to < 0 || to >= chapters.length) return;
    leave();
    place = to;
    enter();
    card.scrollTop = 0;
    bring();
    moving = true;
  }

  // What a step shows is chosen, and taken back when it ends.
  function enter() {
    const { shows } = chapters[place] ?? {};
    if (shows) {
      shown = { changes: shows, before: chosen(shows), one: subject?.one ?? null };
      store.set(shows);
    }
    show();
  }

  function leave() {
    undo();
    if (shown) giveBack(shown);
    shown = null;
  }

  function show() {
    if (card.hidden || !subject || !chapters.length) return;
    place = Math.min(place, chapters.length - 1);
    const { title, at, say, panels, act: offered, grids = false } = chapters[place];
    const { button, undo: again } = tried?.act ?? offered;
    const last = place === chapters.length - 1;
    setText(byId("story-place"), `${place + 1} of ${chapters.length}`);
    setText(byId("story-title"), title);
    setText(byId("story-say"), tied(say));
    setText(byId("story-ask"), tied(tried ? shownBy(tried, subject) : offered.ask));
    paintWay(subject.model, at);
    paintGrids(grids ? subject : null);
    act.hidden = !button;
    setText(act, (tried ? again : button) ?? "");
    setText(byId("story-reads"), tied(told(tried)));
    setText(next, last ? "Explore the page" : "Next");
    back.disabled = place === 0;
    light(panels.map((panel) => document.querySelector(panel)).find(isShown) ?? null);
  }

  /** @param {Element | null} panel */
  function light(panel) {
    if (panel === lit) return;
    lit?.classList.remove("lit");
    panel?.classList.add("lit");
    lit = panel;
    const box = panel?.getBoundingClientRect();
    card.classList.toggle("left", box !== undefined && box.left + box.right > window.innerWidth); // of a low screen
    card.classList.toggle("west", box !== undefined && box.left > WIDE);
    card.classList.toggle("east", box !== undefined && box.right < window.innerWidth - WIDE);
  }

  // Scrolls until the story no longer covers the lit panel, where there is room for both.
  function bring() {
    if (lit === null) return;
    brought = layout();
    const [panel, own] = [lit.getBoundingClientRect(), card.getBoundingClientRect()];
    const beside = own.top < 20 || own.right < panel.left || own.left > panel.right;
    const free = beside ? window.innerHeight : own.top;
    if (panel.top >= 8 && panel.bottom <= free - 8) return;
    const top = Math.max(12, (free - panel.height) / 2);
    window.scrollTo({ top: window.scrollY + panel.top - top, behavior: calmMotion() ? "auto" : "smooth" });
  }

  function layout() {
    const { top, height } = (lit ?? card).getBoundingClientRect();
    return [top + window.scrollY, height, card.offsetHeight].map(Math.round).join();
  }
  const rest = () => {
    moving = false;
  };

  function attempt() {
    if (tried) return undo();
    const offered = chapters[place].act;
    if (!offered.changes || !subject) return;
    const before = chosen(offered.changes);
    tried = { changes: offered.changes, before, act: offered, read: reads(), subject, one: subject.one };
    moving = true;
    store.set(offered.changes);
  }

  function undo() {
    if (!tried) return;
    const done = tried;
    tried = null;
    giveBack(done);
    show();
  }

  /**
   * What is chosen now of all that `changes` would change.
   * @param {Partial<State>} changes
   */
  function chosen(changes) {
    const state = store.get();
    const names = /** @type {(keyof State)[]} */ (Object.keys(changes));
    return Object.fromEntries(names.map((name) => [name, state[name]]));
  }

  /**
   * Takes it back, except for what the user has changed since.
   * @param {Taken} taken
   */
  function giveBack({ changes, before }) {
    const state = store.get();
    const names = /** @type {(keyof State)[]} */ (Object.keys(before));
    const ours = names.filter((name) => state[name] === changes[name]);
    store.set(Object.fromEntries(ours.map((name) => [name, before[name]])));
  }

  back.addEventListener("click", () => go(-1));
  next.addEventListener("click", () => (place === chapters.length - 1 ? finish() : go(1)));
  act.addEventListener("click", attempt);
  byId("story-close").addEventListener("click", close);
  byId("story-open").addEventListener("click", () => (card.hidden ? open(true) : close()));
  document.addEventListener("keydown", (event) => {
    if (card.hidden || event.defaultPrevented) return;
    const free = event.target === document.body || (event.target instanceof Node && card.contains(event.target));
    if (event.key === "Escape") close();
    else if (event.key === "ArrowRight" && free) go(1);
    else if (event.key === "ArrowLeft" && free) go(-1);
  });
  listenToTurns(card, go);
  for (const own of ["pointerdown", "wheel", "keydown"]) {
    document.addEventListener(own, rest, { capture: true, passive: true }); // before `go`
  }

  /** @param {View} view */
  return function render(view) {
    needs = neededBy(view, needs, tried !== null);
    subject = subjectOf(view, needs, shown?.one ?? tried?.one ?? null);
    chapters = subject ? chaptersOf(subject) : [];
    byId("story-open").hidden = !chapters.length;
    begins(view);
    if (card.hidden) return;
    const before = lit;
    show();
    const grown = moving && layout() !== brought; // what the step shows has been read
    if (before !== null && (lit !== before || grown)) bring();
  };
}

/**
 * The patch that this drawing needs most: measured while nothing is tried, and kept while something is.
 * @param {View} view @param {Needs | null} known @param {boolean} trying
 * @returns {Needs | null}
 */
function neededBy({ model, state, deletion, fresh }, known, trying) {
  const { drawing } = state;
  if (fresh && deletion && !trying) {
    return { model, drawing, one: argmax(deletion), falls: deletion };
  }
  return known?.model === model && known?.drawing === drawing ? known : null;
}

/**
 * What a try has shown, once the network has read again.
 * @param {Tried} tried @param {Subject} now
 */
function shownBy({ act, subject }, now) {
  const answered = document.body.classList.contains("answered");
  return (answered && subject.model === now.model && act.found?.(subject, now)) || act.ask;
}

/**
 * Following a patch changes no answer.
 * @param {Tried | null} tried
 */
function told(tried) {
  if (!tried || "query" in tried.before) return `It reads: ${reads()}.`;
  return `Before: ${tried.read}. Now: ${reads()}.`;
}

/** The answer, as the page shows it. */
function reads() {
  const sure = byId("chip-sure").textContent ?? "";
  return `${byId("chip-answer").textContent}, ${sure}${/^[<>]?[\d. ]+%$/.test(sure) ? " sure" : ""}`;
}

/** @param {Element | null} panel */
const isShown = (panel) => panel?.checkVisibility() ?? false;

/**
 * Scrolling over the story, or wiping, goes a step further or back.
 * @param {HTMLElement} card @param {(by: number) => void} go
 */
function listenToTurns(card, go) {
  let last = 0;
  card.addEventListener(
    "wheel",
    (event) => {
      if (card.scrollHeight > card.clientHeight + 1) return; // its own text scrolls
      event.preventDefault();
      if (event.timeStamp - last < BETWEEN || Math.abs(event.deltaY) < 4) return;
      last = event.timeStamp;
      go(Math.sign(event.deltaY));
    },
    { passive: false },
  );
  let from = 0;
  card.addEventListener("touchstart", ({ touches }) => {
    from = touches[0].clientX;
  });
  card.addEventListener("touchend", ({ changedTouches }) => {
    const by = changedTouches[0].clientX - from;
    if (Math.abs(by) > SWIPE) go(by < 0 ? 1 : -1);
  });
}

/**
 * Begins the story by itself, once: after the first drawing of the user's own, unless they already do something else.
 * @param {Store} store @param {() => void} begin
 */
function createBeginning(store, begin) {
  const { drawing, hidden, query } = store.get();
  const linked = drawing.kind !== "strokes" || drawing.strokes.length > 0 || hidden.length > 0 || query !== null;
  let over = linked || seen();
  let drew = false;
  let timer = 0;
  /** @param {Event} event */
  const watch = ({ target, type }) => {
    const here = target instanceof Element && target.closest("#draw-card") !== null;
    if (here || type === "keydown") drew = true;
    else over = true;
    clearTimeout(timer);
  };
  document.addEventListener("pointerdown", watch);
  document.addEventListener("input", watch);
  document.addEventListener("keydown", (event) => {
    if (/^[0-9 ]$/.test(event.key)) watch(event);
  });
  /** @param {View} view */
  return ({ state, fresh, empty }) => {
    clearTimeout(timer);
    over ||= seen();
    if (over || !drew || empty || !fresh || state.demo || state.drawing.kind !== "strokes") return;
    timer = setTimeout(() => {
      over = true;
      begin();
    }, PAUSE);
  };
}

let remembered = false; // where the browser stores nothing
function seen() {
  try {
    return remembered || localStorage.getItem(SEEN) !== null;
  } catch {
    return remembered;
  }
}

function remember() {
  remembered = true;
  try {
    localStorage.setItem(SEEN, "seen");
  } catch {
    // as in private windows of some browsers
  }
}
