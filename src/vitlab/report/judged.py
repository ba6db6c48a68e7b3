"""How the network errs: confusion, confident mistakes, calibration, classes."""

from __future__ import annotations

from collections.abc import Sequence

from vitlab.look import judge
from vitlab.pictures import judged as pictures
from vitlab.pictures.style import with_article
from vitlab.report.gather import Subject
from vitlab.report.parts import Missing, Picture, Section, between, counted, percent

GALLERY = 24
SURE = 0.9
UNLIKELY = 0.05  # a rarer difference is called "hardly chance"


def section(subject: Subject) -> Section:
    """All four, from the answers to the test images."""
    if subject.part == "training":
        why = "there are neither test nor validation images, and errors on training images say little"
        return Section("How it errs", [Missing("Confusion, mistakes, reliability, classes", why)])
    parts = [confusion(subject), mistakes(subject), reliability(subject), per_class(subject)]
    return Section("How it errs", parts)


def confusion(subject: Subject) -> Picture:
    """Which class is taken for which."""
    counts = judge.confusion(subject.logits, subject.images.labels).cpu()
    errors = counts.clone().fill_diagonal_(0)
    total, seen = int(errors.sum()), counts.sum(dim=1)
    text = f"{counted(total, 'error')} on {counted(len(subject.images), f'{subject.part} image')}"
    if total:
        most, kinds = int(errors.max()), int((errors > 0).sum())
        row, column = divmod(int(errors.argmax()), len(counts))
        is_, for_ = subject.classes[row], subject.classes[column]
        share = f"{percent(most / int(seen[row]))} of that class"
        if total == 1:
            text += f": {is_} taken for {for_}, {share}. "
        elif most == 1:
            text += f", each of another kind: one is {is_} taken for {for_}, {share}. "
        else:
            text += f", in {counted(kinds, 'kind')} of confusion. A most frequent one is {is_} taken for {for_}: "
            text += f"{most:,} times, {share}. "
    else:
        text += ": nothing lies beside the diagonal. "
    text += "A row is what an image is, a column what it was taken for."
    figure = pictures.confusion(counts.numpy(), subject.classes)
    alt = "Two matrices of classes against classes: how often each was taken for each, in counts and in percent"
    return Picture("confusion", "Confusion", figure, alt, text)


def mistakes(subject: Subject) -> Picture | Missing:
    """The errors of which it was surest."""
    found = judge.mistakes(subject.logits, subject.images.labels, len(subject.images))
    if not found:
        return Missing("Mistakes", f"it made none on {counted(len(subject.images), f'{subject.part} image')}")
    shown, sure = found[:GALLERY], sum(mistake.probability > SURE for mistake in found)
    images = subject.images.images[[mistake.index for mistake in shown]].cpu().numpy()
    first, which = shown[0], "All" if len(shown) == len(found) else f"The surest {len(shown)} of"
    is_, for_ = with_article(subject.classes[first.truth]), with_article(subject.classes[first.guess])
    text = (
        f"{which} {counted(len(found), 'mistake')}, surest first: what the image is → what it was taken for, how "
        f"surely, and its number in the {subject.part} split. At the top {is_} taken for {for_} with "
        f"{percent(first.probability, 1)}; {sure or 'none'} of them {'was' if sure == 1 else 'were'} made with more "
        f"than {percent(SURE, 0)}."
    )
    alt = f"A gallery of {len(shown)} wrongly recognised images with their classes and the wrong answers"
    return Picture("mistakes", "Mistakes", pictures.mistakes(images, shown, subject.classes), alt, text)


def reliability(subject: Subject) -> Picture:
    """Whether it knows how sure it may be."""
    found = judge.reliability(subject.logits, subject.images.labels)
    sure = subject.logits.double().softmax(dim=1).amax(dim=1).mean().item()
    right = subject.accuracy
    fact = (
        f"On average it is {percent(sure)} sure and {percent(right)} right; bin by bin the two differ by "
        f"{percent(found.ece)} in the mean (expected calibration error)."
    )
    text = f"{fact} Whiskers are 95 % intervals. "
    if sure < right:
        text += "Points above the dashed line mean too much doubt"
        smoothing = subject.config.optim.label_smoothing
        text += f", as labels smoothed by {smoothing:g} teach it." if smoothing else "."
    else:
        text += "Points below the dashed line mean too much confidence."
    alt = f"Accuracy against confidence in {len(found.counts)} bins, with the number of images in each bin"
    return Picture("reliability", "Reliability", pictures.reliability(found), alt, text, True, fact)


def per_class(subject: Subject) -> Picture:
    """Which classes are hard."""
    counts = judge.confusion(subject.logits, subject.images.labels)
    scores, seen = judge.per_class(counts.cpu()), counts.sum(dim=1).tolist()
    known = [number for number, count in enumerate(seen) if count]
    text = class_sentence(subject, [scores[number] for number in known], known, seen)
    shown, names = [scores[number] for number in known], [subject.classes[number] for number in known]
    alt = "A point for each class: its accuracy with a 95 % interval"
    return Picture("classes", "Accuracy of each class", pictures.per_class(shown, names), alt, text, vector=True)


def class_sentence(
    subject: Subject, scores: Sequence[tuple[float, tuple[float, float]]], known: Sequence[int], seen: Sequence[int]
) -> str:
    """The hardest and the easiest of the ``known`` classes, and whether all could be equally hard."""
    rates = [score for score, _ in scores]
    worst, best = rates.index(min(rates)), rates.index(max(rates))
    low, high = scores[worst][1]
    if len(known) == 1:
        what = f"All {counted(seen[known[0]], 'image')} are of one class, {subject.classes[known[0]]}"
        return f"{what}, of which {percent(rates[0])} are recognised ({between((low, high))} with 95 %)."
    if rates[worst] == rates[best]:
        return f"All classes are recognised equally well: {percent(rates[best])} of each. A bar is its 95 % interval."
    chance = judge.equal_classes(judge.confusion(subject.logits, subject.images.labels))
    often = f"in {percent(chance, 0)} of cases" if chance >= 0.01 else "in less than 1 % of cases"
    verdict = "that may be chance" if chance > UNLIKELY else "that is hardly chance"
    return (
        f"Hardest is {subject.classes[known[worst]]} with {percent(rates[worst])} ({between((low, high))} with 95 %, "
        f"on {counted(seen[known[worst]], 'image')}), easiest {subject.classes[known[best]]} with "
        f"{percent(rates[best])}. Were all classes equally hard, they would differ at least as much as all of these do "
        f"{often} (chi-square test): {verdict}."
    )
