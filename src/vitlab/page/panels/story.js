// The story: ten steps through a reading. Each has a sentence, one panel in the light, and something to try.

import { byId, calmMotion, setText } from "../dom.js";
import { argmax } from "../net/numbers.js";
import { tied } from "../words.js";
import { chaptersOf, subjectOf } from "./chapters.js";
import { paintFigure } from "./figures.js";
import { paintGrids } from "./grids.js";
import { paintWay } from "./way.js";

/** @import { View } from "../main.js" */
/** @import { State, Store } from "../state.js" */
/** @import { Act, Chapter, Losses, Subject } from "./chapters.js" */
/** @import { Loaded } from "../net/worker.js" */
/**
 * Something chosen for a step, and what was chosen before. one: the patch that it is about.
 * @typedef {{ changes: Partial<State>, before: Partial<State>, one: number | null }} Taken
 * @typedef {Taken & { act: Act, subject: Subject }} Tried
 * @typedef {Losses & { model: Loaded | null, drawing: State["drawing"] }} Needs
 */

const SEEN = "vitlab-story"; // in the browser's storage; nothing is sent
const PAUSE = 1500; // milliseconds after the first drawing
const BETWEEN = 500; // milliseconds from one turn of the wheel to the next
const SWIPE = 40; // pixels
const EDGE = 8; // pixels between a panel and the edge, or the card
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
  let unfolded = false; // the lit panel was closed before
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
    if (!asked) return uncover();
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
    const { title, at, say, panels, act: offered, figure = {}, grids = false } = chapters[place];
    const { button, undo: again } = tried?.act ?? offered;
    const last = place === chapters.length - 1;
    setText(byId("story-place"), `${place + 1} of ${chapters.length}`);
    setText(byId("story-title"), title);
    setText(byId("story-say"), tied(say));
    setText(byId("story-ask"), tied(tried ? shownBy(tried, subject) : offered.ask));
    paintWay(subject.model, at);
    paintFigure(figure);
    paintGrids(grids ? subject : null);
    act.hidden = !button;
    setText(act, (tried ? again : button) ?? "");
    setText(byId("story-reads"), tried && !("query" in tried.before) ? "" : tied(reads())); // else it has been said above
    setText(next, last ? "Explore the page" : "Next");
    back.disabled = place === 0;
    light(panels.map((panel) => document.querySelector(panel)).find(isShown) ?? null);
  }

  /** @param {Element | null} panel */
  function light(panel) {
    if (panel === lit) return;
    lit?.classList.remove("lit");
    if (unfolded && lit instanceof HTMLDetailsElement) lit.open = false;
    panel?.classList.add("lit");
    lit = panel;
    unfolded = panel instanceof HTMLDetailsElement && !panel.open;
    if (panel instanceof HTMLDetailsElement) panel.open = true;
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
    const free = (beside ? window.innerHeight : own.top) - EDGE;
    const heading = headingOf(lit)?.getBoundingClientRect() ?? panel;
    const cut = heading.top < 0 && heading.bottom > 0;
    if (panel.top >= EDGE && panel.bottom <= free && !cut) return;
    const fits = panel.bottom - heading.top <= free - EDGE; // else not even half of the heading
    const first = fits ? heading.top : panel.top;
    const room = fits ? (free - EDGE - (panel.bottom - first)) / 2 : 0;
    const most = panel.bottom - first > free - EDGE ? partOf(lit, chapters[place].look) : null;
    const by = Math.max(
      first - EDGE - room,
      most ? most.getBoundingClientRect().bottom - free : Number.NEGATIVE_INFINITY,
    );
    window.scrollTo({ top: window.scrollY + by, behavior: calmMotion() ? "auto" : "smooth" });
  }

  // Where the story has begun by itself, the page stays as it is, unless the card covers the drawing.
  function uncover() {
    const [slate, own] = [byId("slate").getBoundingClientRect(), card.getBoundingClientRect()];
    if (own.top < slate.bottom && own.left < slate.right && own.right > slate.left) bring();
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
    tried = { changes: offered.changes, before, act: offered, subject, one: subject.one };
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

/** The answer, as the page shows it. */
function reads() {
  const [answer, sure] = [byId("chip-answer").textContent ?? "", byId("chip-sure").textContent ?? ""];
  if (answer === "not sure") return `Not sure: ${sure}.`;
  return `It reads: ${answer}, ${sure}${/^[<>]?[\d. ]+%$/.test(sure) ? " sure" : ""}.`;
}

/**
 * The heading over a panel that is a section's first.
 * @param {Element} panel
 */
function headingOf(panel) {
  const before = panel.previousElementSibling;
  return before?.matches("h2") ? before : null;
}

/** @param {Element} panel @param {string | undefined} name */
const partOf = (panel, name) => (name ? panel.querySelector(name) : null);

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
