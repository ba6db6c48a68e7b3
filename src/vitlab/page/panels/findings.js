// What a try in the story has shown: a sentence or two that compare the reading before with the reading now.

import { withoutInk } from "../ink.js";
import { argmax, percent } from "../net/numbers.js";
import { number } from "./vector.js";

/** @import { Subject } from "./chapters.js" */

const MUCH = 0.1; // of a probability
const UNLIKE = " The page warns that this is unlike anything it was trained on.";

/**
 * "a 7", but “automobile”: names of classes have articles of all kinds.
 * @param {string} answer
 */
export const read = (answer) => (/^[0-9]$/.test(answer) ? `${answer === "8" ? "an" : "a"} ${answer}` : `“${answer}”`);

/**
 * By the rule of the page's answer: below the threshold, it is not sure.
 * @param {Subject} before @param {Subject} now
 */
export function outcome(before, now) {
  return `${whatItReads(before, now)}${now.unlike && !before.unlike ? UNLIKE : ""}`;
}

/** @param {Subject} before @param {Subject} now */
function whatItReads(before, now) {
  if (unsure(now)) {
    const { probabilities } = now.reading;
    const [one, other] = Array.from(probabilities, (_, i) => i)
      .sort((a, b) => probabilities[b] - probabilities[a])
      .map((index) => `${now.model.config.classes[index]} (${percent(probabilities[index], 0)})`);
    return `${unsure(before) ? "Still not sure" : "Not sure any more"}: ${one} or ${other}.`;
  }
  const [was, old] = [sureOf(before), now.reading.probabilities[argmax(before.reading.probabilities)]];
  const [first, then] = [percent(was), percent(old)];
  if (now.answer !== before.answer) {
    return `Now it reads ${read(now.answer)}: the probability of ${read(before.answer)} went from ${first} to ${then}.`;
  }
  return `It still reads ${read(now.answer)}, with ${then}${first === then ? " as before" : ` instead of ${first}`}.`;
}

/** @param {Subject} before @param {Subject} now */
export function offCentre(before, now) {
  if (unsure(before)) return outcome(before, now);
  const copes = !changed(before, now);
  const why = copes
    ? "It copes with that, although it learned from centred ones only."
    : "It learned from centred ones only.";
  return `${outcome(before, now)} ${why}`;
}

/** @param {Subject} before @param {Subject} now */
export function otherToken(before, now) {
  const [was, is] = [firstOf(before), firstOf(now)];
  const other =
    was === is ? "Its first numbers stay the same: it was black. " : `Its token is now (${is}) instead of (${was}). `;
  const numbers = was && is ? other : "";
  return `${numbers}${outcome(before, now)}`;
}

/** @param {Subject} before @param {Subject} now */
export function withoutPlaces(before, now) {
  const lost = changed(before, now);
  const { attn_bias: pairs, pool } = now.model.config.model;
  const known = [
    ...(pairs ? ["attention still has its number for each pair of places"] : []),
    ...(pool === "flatten" ? ["the last matrix has weights for each place"] : []),
  ].join(", and ");
  const why = lost
    ? "The patches are the same, but it no longer knows where each was."
    : `It hardly needs them here: ${known || "what the patches contain is nearly enough"}.`;
  return `${outcome(before, now)} ${why}`;
}

/**
 * Of attention that takes the same share of every token.
 * @param {Subject} before @param {Subject} now
 */
export function evenShares(before, now) {
  const why = changed(before, now)
    ? "Here it matters who takes what from whom."
    : "This drawing hardly needs the choice: even shares still pass on what all tokens have in common.";
  return `${outcome(before, now)} ${why}`;
}

/**
 * Where the token that is followed now looks.
 * @param {Subject} _before @param {Subject} now
 */
export function looks(_before, { model, reading }) {
  const { attention } = reading.opened ?? {};
  if (!attention || !reading.place) return "";
  const { weights } = attention;
  const first = weights.length - model.squares.grid ** 2;
  const order = Array.from(weights, (_, i) => i).sort((a, b) => weights[b] - weights[a]);
  const { patch, block, head } = reading.place;
  const [most, next] = order.map((token) =>
    token < first ? "the class token" : token - first === patch ? "itself" : `patch ${token - first + 1}`,
  );
  const shares = order.map((token) => percent(weights[token]));
  const say = `In block ${block + 1}, head ${head + 1}, patch ${patch + 1} takes most from ${most} (${shares[0]}), then from ${next} (${shares[1]}).`;
  if (model.config.drawing === null) return say;
  const empty = new Set(withoutInk(reading.image, model.squares, model.config.model.patch_overlap));
  const one = order.find((token) => token >= first && token - first !== patch && empty.has(token - first));
  if (one === undefined || weights[one] * weights.length < 1) return say;
  return `${say} It looks at empty patches, too, most at patch ${one - first + 1} (${percent(weights[one])}): that a place has no ink also says something.`;
}

/**
 * How many hidden numbers of the MLP are above 0, in the patch that is now open and in the one before.
 * @param {Subject} before @param {Subject} now
 */
export function otherHidden(before, now) {
  const [was, is] = [before, now].map(({ reading }) => {
    const { hidden } = reading.opened?.mlp ?? {};
    return (
      hidden && {
        patch: (reading.place?.patch ?? 0) + 1,
        above: hidden.filter((value) => value > 0).length,
        of: hidden.length,
      }
    );
  });
  if (!was || !is) return "";
  return `Of its ${is.of} hidden numbers, ${is.above} are above 0; of those of patch ${was.patch}, ${was.above} were. Which ones depends on the token.`;
}

/** @param {Subject} before @param {Subject} now */
export function otherShares(before, now) {
  const { probabilities } = now.reading;
  const best = argmax(probabilities);
  const next = argmax(probabilities.map((p, i) => (i === best ? -1 : p)));
  const second = read(now.model.config.classes[next]);
  if (unsure(now)) return `${outcome(before, now)} All shares still add up to 100 %.`;
  return `${outcome(before, now)} Next comes ${second} with ${percent(probabilities[next])}; all shares still add up to 100 %.`;
}

/** @param {Subject} before @param {Subject} now */
export function withoutMany(before, now) {
  if (unsure(before)) return outcome(before, now);
  const needs = changed(before, now);
  const why = needs
    ? "One at a time, they seemed to matter little; together, they do matter."
    : "The others are enough.";
  return `${outcome(before, now)} ${why}`;
}

/** @param {Subject} subject */
export const lensOf = ({ model, reading }) => reading.lens.map((p) => model.config.classes[argmax(p)]);

/**
 * The first numbers of the patch's token, if it is opened.
 * @param {Subject} subject
 */
export function firstOf({ reading, one }) {
  const opened = reading.place?.patch === one ? reading.opened : null;
  return opened && `${Array.from(opened.embedded).slice(0, 3).map(number).join(", ")}, …`;
}

/** @param {Subject} subject */
const sureOf = ({ reading }) => Math.max(...reading.probabilities);

/** @param {Subject} before @param {Subject} now */
const fall = (before, now) => sureOf(before) - now.reading.probabilities[argmax(before.reading.probabilities)];

/** @param {Subject} subject */
const unsure = (subject) => sureOf(subject) < subject.threshold;

/** @param {Subject} before @param {Subject} now */
const changed = (before, now) =>
  now.answer !== before.answer || fall(before, now) >= MUCH || (unsure(now) && !unsure(before));
