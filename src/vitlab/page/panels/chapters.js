// What the story says, step by step, with the numbers of the user's own drawing and network.

import { brightest, withInk } from "../ink.js";
import { argmax } from "../net/numbers.js";
import { capital, words } from "../words.js";
import { ending, head, needed } from "./ending.js";
import { firstOf, offCentre, otherToken, outcome, read, withoutPlaces } from "./findings.js";
import { match, mixing, mlp, noAttention, take } from "./inner.js";
import { counted, number } from "./vector.js";

/** @import { View } from "../main.js" */
/** @import { Shown } from "../reader.js" */
/** @import { State } from "../state.js" */
/** @import { Loaded } from "../net/worker.js" */
/** @import { Figure } from "./figures.js" */
/** @import { Place } from "./way.js" */
/**
 * Something to try: button and undo are what the button says before and after; found says what it has shown.
 * @typedef {{ ask: string, button?: string, undo?: string, changes?: Partial<State>,
 *   found?: (before: Subject, now: Subject) => string }} Act
 *
 * at: the place on the whole way. panels: where it is to be seen, as selectors; the first one that is on the page is
 * meant. look: what of the panel must be in sight if not all of it can be. shows: what is chosen while the step lasts.
 * figure: a picture on the card. grids: whether the card shows the image in patches of all sizes.
 * @typedef {{ title: string, at: Place | null, say: string, panels: string[], act: Act, look?: string,
 *   shows?: Partial<State>, figure?: Figure, grids?: boolean }} Chapter
 *
 * The patch whose loss costs this drawing's answer most, once that has been measured, how much, and all losses.
 * @typedef {{ one: number, falls: Float32Array }} Losses
 *
 * What the chapters are about. one: the patch that mattered most, if it has been measured, else the one with most ink.
 * @typedef {object} Subject
 * @property {Loaded} model
 * @property {Shown} reading
 * @property {string} thing  what the network's images are called
 * @property {string} answer
 * @property {boolean} unlike  anything that the network was trained on
 * @property {number} threshold  of the probability, below which the page is not sure
 * @property {number} one
 * @property {Float32Array | null} falls  of the answer's probability without each patch
 * @property {number[]} least  of the patches that may matter, the half that does least
 * @property {number} inked  how many may matter
 */

const AWAY = 6; // pixels
const UNLINKED = { arcs: false }; // what tokens take from each other comes later
const OPENED = "#inside > .card";
const VECTOR = "#inside-steps:not([hidden]) > :nth-child(2)"; // of an opened patch

/**
 * losses: as they were before anything was tried. held: the patch that the story already speaks of.
 * @param {View} view @param {Losses | null} losses @param {number | null} held
 * @returns {Subject | null}
 */
export function subjectOf({ model, reading, deletion, fresh, state: { threshold } }, losses, held) {
  if (!model || !reading) return null;
  const { thing, draws } = words(model.config);
  const answer = model.config.classes[argmax(reading.probabilities)];
  const one = held ?? losses?.one ?? brightest(reading.image, model.squares, model.config.channels);
  const falls = (fresh ? deletion : null) ?? losses?.falls ?? null;
  const all = Array.from({ length: model.squares.grid ** 2 }, (_, i) => i);
  const matter = draws ? withInk(reading.image, model.squares) : all;
  const known = losses?.falls;
  const ranked = known ? matter.toSorted((a, b) => known[a] - known[b]) : [];
  const least = ranked.slice(0, Math.ceil(ranked.length / 2));
  const unlike = Boolean(reading.unlike);
  return { model, reading, thing, answer, unlike, threshold, one, falls, least, inked: matter.length };
}

/**
 * @param {Subject} subject
 * @returns {Chapter[]}
 */
export const chaptersOf = (subject) => (subject.model.views.tokens ? ofTokens(subject) : ofFilters(subject));

/** @param {Subject} subject */
function ofTokens(subject) {
  const { attention, mixing: mixes } = subject.model.views;
  const exchange = mixes ? [mixing] : attention ? [match, take] : [noAttention];
  const start = [picture, patches, tokens, position];
  return [...start, ...exchange, mlp, head, needed, ending].map((chapter) => chapter(subject));
}

/** @param {Subject} subject */
function ofFilters(subject) {
  return [picture, filters, head, needed, ending].map((chapter) => chapter(subject));
}

/** @param {Subject} subject @returns {Chapter} */
function picture({ model, reading, thing, answer }) {
  const { size } = model.squares;
  const { channels: colours, drawing, params } = model.config;
  const many = `${size} × ${size}${colours > 1 ? ` × ${colours}` : ""}`;
  const what =
    colours > 1 ? "how red, green and blue each pixel is" : "how bright each pixel is, from 0 (black) to 1 (white)";
  const learned = params ? `${counted(params)} learned numbers` : "learned numbers";
  const scaled = drawing
    ? `Its training ${thing}s were fitted into 20 × 20 pixels and centred, so yours is, too.`
    : "The whole picture is scaled to the size of those that it was trained on.";
  return {
    title: `Your ${thing}`,
    at: "pixels",
    say: `The network is a long calculation with ${learned} (weights). It sees only ${many} = ${counted(size * size * colours)} other numbers: ${what}. ${scaled}`,
    panels: ["#receives"],
    figure: { pixels: pixelsOf(reading.image, size, colours) },
    act: drawing
      ? {
          ask: `What if it were not in the middle? Move it ${AWAY} pixels to the right: is it still ${read(answer)}?`,
          button: "Move it",
          undo: "Move it back",
          changes: { shift: AWAY },
          found: offCentre,
        }
      : { ask: "From the last picture here, could you still tell what it is?" },
  };
}

/**
 * The image, and four pixels from where the middle row first has ink.
 * @param {Float32Array} image @param {number} size @param {number} channels
 */
function pixelsOf(image, size, channels) {
  const middle = Math.floor(size / 2);
  const row = image.slice(middle * size, (middle + 1) * size);
  const from = channels > 1 ? -1 : row.findIndex((value) => value > 0.1);
  const seen = `This is what it sees: ${size} × ${size} pixels.`;
  if (from < 0) return { image, size, channels, row: null, say: seen };
  const some = Array.from(row.slice(from, from + 4), number).join(", ");
  return {
    image,
    size,
    channels,
    row: middle,
    say: `${seen} Where the framed row first meets ink, it reads ${some}, …`,
  };
}

/** @param {Subject} subject @returns {Chapter} */
function patches({ model, reading, one }) {
  const { grid, side } = model.squares;
  const inked = words(model.config).draws
    ? `; ${withInk(reading.image, model.squares).length} of yours contain ink, the others are black`
    : "";
  const { patch_overlap: overlap } = model.config.model;
  const usual = model.views.mixing ? "MLP-Mixer" : "ViT";
  const sees = overlap
    ? ` Each also sees ${overlap} ${overlap === 1 ? "pixel" : "pixels"} of its neighbours on every side; the patches of a usual ${usual} do not.`
    : "";
  return {
    title: "Cut into patches",
    at: "patches",
    say: `${model.views.mixing ? "This MLP-Mixer" : "This Vision Transformer"} cuts the picture into ${grid} × ${grid} = ${grid ** 2} patches of ${side} × ${side} pixels${inked}. From here on, it works with whole patches.${sees}`,
    panels: ["#patches"],
    shows: UNLINKED,
    act: {
      ask: `Follow patch ${one + 1} through the next steps.`,
      button: `Follow patch ${one + 1}`,
      undo: "Stop following",
      changes: { query: one },
      found: () =>
        `Patch ${one + 1} is now framed in the grid${overlap ? " (dashed: all that it sees)" : ""}, among the tokens below, and in every other panel.`,
    },
  };
}

/** @param {Subject} subject @returns {Chapter} */
function tokens(subject) {
  const { model, one } = subject;
  const { squares, config } = model;
  const { patch_overlap: overlap, embed_dim: width } = config.model;
  const across = squares.side + 2 * overlap;
  const pixels = across ** 2 * config.channels;
  const colours = config.channels > 1 ? ` × ${config.channels} colours` : "";
  const { mean, std } = config.preprocess;
  const scaled = mean.some((value) => value !== 0) || std.some((value) => value !== 1);
  const prepared = scaled ? " Each is first shifted and scaled (p)." : "";
  const chance = pixels === width ? `; it is a coincidence that both are ${width}` : "";
  const numbers = firstOf(subject);
  const first = numbers ? ` (${numbers})` : "";
  const bias = config.model.linear_bias ? ", plus one more weight (the list b)" : "";
  const around = overlap ? " and those of its neighbours, which see its edge, change" : " changes";
  return {
    title: "A patch becomes a token",
    at: "tokens",
    say: `Patch ${one + 1}, for example, sees ${across} × ${across}${colours} = ${counted(pixels)} numbers.${prepared} From them, the network computes ${width} new ones, its token e${first}${chance}. Each new one is a sum: every number times a learned weight (the matrix W)${bias}.`,
    panels: [OPENED],
    look: ".opened-step:nth-child(2) .vector",
    shows: { query: one, ...UNLINKED },
    act: {
      ask: `Turn patch ${one + 1} black: only its token${around}.`,
      button: `Turn patch ${one + 1} black`,
      undo: "Show it again",
      changes: { hidden: [one] },
      found: otherToken,
    },
  };
}

const MIXED = "So the next step has learned weights for each place, and nothing is added to the tokens.";
const ADDED = {
  learned: "So to each token, the network adds numbers that it has learned for that place",
  sincos: "So to each token, the network adds waves of sine and cosine, different ones for each place",
  none: "This network adds nothing that says where a patch was, so it has to do without.",
};

/** @param {Subject} subject @returns {Chapter} */
function position({ model, thing, answer, one }) {
  const form = model.config.model.pos_embed;
  const edge = model.config.model.patch_overlap ? "Away from the edge, a token" : "A token";
  const added = !model.views.mixing && form !== "none";
  const sum = `: e + position ${one + 1} = x. From now on, “token” means x.`;
  const how = model.views.mixing ? MIXED : ADDED[form] + (added ? sum : "");
  return {
    title: model.views.mixing ? "Every place counts" : added ? "Its position is added" : "No position is added",
    at: added ? "position" : "tokens",
    say: `${edge} does not say where its patch was, but a line at the top means something different from one at the bottom. ${how}`,
    panels: added ? [VECTOR, "#patches"] : ["#patches"],
    shows: { query: one, ...UNLINKED },
    act: added
      ? {
          ask: `Leave out only these position numbers: is it still ${read(answer)}?`,
          button: "Switch positions off",
          undo: "Switch them on again",
          changes: { cuts: ["pos"] },
          found: withoutPlaces,
        }
      : {
          ask: `Move your ${thing} 4 pixels to the right, into other patches: is it still ${read(answer)}?`,
          button: "Move it",
          undo: "Move it back",
          changes: { shift: 4 },
          found: outcome,
        },
  };
}

/** @param {Subject} subject @returns {Chapter} */
function filters({ model }) {
  const [first, ...more] = model.config.model.cnn_channels;
  const layers = more.length ? `After each of ${1 + more.length} layers` : "After the layer";
  return {
    title: "Filters slide over it",
    at: "filters",
    say: `${capital(String(first))} small filters, learned from examples, look for edges and strokes, in the same way everywhere. ${layers}, only the strongest response in each neighbourhood is kept${more.length ? ", so the next layer sees more at once" : ""}.`,
    panels: ["#network > .card"],
    look: ".part",
    act: {
      ask: "Move it 4 pixels to the right: the filters find the same edges there.",
      button: "Move it",
      undo: "Move it back",
      changes: { shift: 4 },
      found: outcome,
    },
  };
}
