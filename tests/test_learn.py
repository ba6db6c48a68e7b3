"""The tutorial and its exercises: what they compute, quote and define."""

from __future__ import annotations

import json
import math
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from scipy import stats

from docs import make_exercises, make_tables
from vitlab.cli.main import build_parser
from vitlab.cli.study import chosen_cells, given_knobs
from vitlab.config.presets import PRESETS
from vitlab.model import build_model, parameters_by_part
from vitlab.model.block import attention_weights
from vitlab.studies.grid import Study

ROOT = Path(__file__).parents[1]
LEARN = ROOT / "docs" / "learn"
PAGES = sorted(LEARN.glob("*.md"))
GENERATED = re.compile(r"<!-- (learn/\S+) -->\n(.*?)<!-- /\1 -->", re.DOTALL)
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
TUTORIAL = (LEARN / "tutorial.md").read_text(encoding="utf-8")


def numbers(text: str) -> set[str]:
    return set(re.findall(r"(?<![\d.])\d+\.\d\d(?![\d.])", text))


def test_a_paired_difference_is_that_of_scipy() -> None:
    ours, theirs = {0: 97.1, 1: 96.8, 2: 97.7, 5: 96.2}, {0: 96.9, 1: 97.0, 2: 96.4, 7: 90.0}
    expected = stats.ttest_rel([97.1, 96.8, 97.7], [96.9, 97.0, 96.4]).confidence_interval(0.95)
    difference, margin = make_exercises.paired(ours, theirs)
    assert difference - margin == pytest.approx(expected.low)
    assert difference + margin == pytest.approx(expected.high)


@pytest.mark.parametrize(
    ("difference", "margin", "word"), [(0.3, 0.2, "better"), (-0.3, 0.2, "worse"), (0.3, 0.3, "cannot tell")]
)
def test_an_interval_with_0_gives_no_verdict(difference: float, margin: float, word: str) -> None:
    assert make_exercises.Line("cell", {0: 97.0}, 1.0, difference, margin).verdict == word


def test_the_attention_by_hand_is_right() -> None:
    lines = re.findall(r"^\| (\(.*?\)) \| (\d) / 2 = (\d) \| ([\d.]+) \| ([\d.]+) \| (\(.*?\)) \|$", TUTORIAL, re.M)
    q, keys = (
        torch.tensor([2.0, 0, 0, 2]),
        torch.tensor([list(map(float, json.loads(bare(line[0])))) for line in lines]),
    )
    values = torch.tensor([list(map(float, json.loads(bare(line[5])))) for line in lines])
    assert (keys @ q).tolist() == [float(line[1]) for line in lines]
    assert [float(line[2]) for line in lines] == [float(line[1]) / math.sqrt(len(q)) for line in lines]
    powers = [math.exp(float(line[2])) for line in lines]
    assert [line[3] for line in lines] == [f"{power:.2f}" for power in powers]
    assert f"sum to {sum(powers):.2f}" in TUTORIAL
    weights = attention_weights(q.view(1, 1, 1, 4), keys.view(1, 1, 3, 4)).flatten()
    assert [line[4] for line in lines] == [f"{weight:.2f}" for weight in weights.tolist()]
    first, second = (weights @ values).tolist()
    assert f"= ({first:.2f}, {second:.2f})" in TUTORIAL


def bare(vector: str) -> str:
    return vector.replace("(", "[").replace(")", "]")


def test_the_same_in_torch_prints_what_its_comment_says() -> None:
    block = next(text for text in re.findall(r"^```python\n(.*?)^```", TUTORIAL, re.M | re.S) if "softmax" in text)
    done = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == block.rsplit("# ", 1)[1].strip()


def test_numbers_in_sentences_are_those_of_the_tables() -> None:
    """Numbers with two decimals stand in a table of these pages or of speed.md, which they link, or are the difference
    of two of the page's accuracies of the same table."""
    published = [PRESETS["seed-28x7"].published, *(PRESETS[f"seed-dim{dim}"].published for dim in (64, 48))]
    accuracies = [row[0] for row in published if row]
    known = numbers("".join(make_exercises.tables().values()) + (LEARN.parent / "understand/speed.md").read_text())
    known |= {f"{abs(one - other):.2f}" for one in accuracies for other in accuracies} | {"98.94"}
    by_hand = re.compile(r"\*\*By hand\.\*\*.*?The same in torch", re.DOTALL)
    for page in PAGES:
        words = by_hand.sub("", CODE.sub("", GENERATED.sub("", page.read_text(encoding="utf-8"))))
        words = re.sub(r"\]\([^)]*\)|Python 3\.11", "", words)
        assert numbers(words) <= known, page.name


def test_the_hidden_layers_make_the_seed_pages_head_large() -> None:
    shares = []
    for pool, hidden in (("flatten", (2048, 1024)), ("mean", (2048, 1024)), ("flatten", ())):
        network = PRESETS["seed-28x7"].config.with_knobs(pool=pool, head_hidden=hidden).model
        parts = parameters_by_part(build_model(network, 1, 10))
        shares.append(f"{100 * parts['head'] / sum(parts.values()):.0f} %")
    words = re.sub(r"\s+", " ", TUTORIAL).split("The seed page's head is larger", 1)[1].split("## ", 1)[0]
    assert re.findall(r"\d+ %", words) == shares


def test_a_verdict_says_which_is_better_worse_and_unclear() -> None:
    said = make_exercises.verdict("cut-edges").replace("\n", " ")
    assert "compared with 30 x 30 pixels (97.99 %), 36 x 36 is better by 0.21 ± 0.12 points" in said
    assert "28 x 28 is worse by 0.51 ± 0.36 points (95 % intervals). For 32 x 32 (+0.29 ± 0.31), 3 seeds cannot" in said


def commands() -> dict[str, str]:
    """The command of each study, by the name of the table that follows it in its exercise."""
    found: dict[str, str] = {}
    for exercise in (LEARN / "exercises.md").read_text(encoding="utf-8").split("\n## ")[1:]:
        typed = re.findall(r"^(vitlab study .*)$", exercise, re.M)
        names = [name for name in re.findall(r"<!-- learn/(\S+) -->", exercise) if f"learn-{name}" in STUDIES]
        found |= dict(zip(names, typed, strict=False))
    return found


STUDIES = {path.parent.name for path in ROOT.glob("studies/learn-*/study.json")}


@pytest.mark.parametrize("name", sorted(commands()))
def test_the_command_of_an_exercise_is_that_of_its_answer(name: str) -> None:
    parser, _ = build_parser()
    arguments = parser.parse_args(shlex.split(commands()[name])[1:])
    study = Study("study", chosen_cells(arguments, given_knobs(arguments)), tuple(range(arguments.seeds or 3)))
    stored = json.loads((ROOT / "studies" / f"learn-{name}" / "study.json").read_text())
    assert study.digest() == stored["digest"]


def test_every_study_is_shown() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert {name for name in STUDIES if f"<!-- learn/{name.removeprefix('learn-')} -->" not in text} == set()
    assert [
        name for name in make_exercises.tables() if not name.startswith("learn/verdict-") and name not in text
    ] == []
    assert set(make_exercises.tables()) <= make_tables.reports().keys()


def test_the_glossary_has_every_term_in_its_order() -> None:
    glossary = (LEARN / "glossary.md").read_text(encoding="utf-8")
    entries = re.findall(r"^- \*\*(.*?)\*\*", glossary, re.M)
    assert entries == sorted(entries, key=str.lower)
    for page in ("tutorial.md", "hyperparameters.md"):
        text = CODE.sub("", (LEARN / page).read_text(encoding="utf-8"))
        for term in re.findall(r"\*\*([\w %-]+)\*\*", re.sub(r"\s+", " ", text)):
            singular = term.removesuffix("s")
            assert singular.lower() in glossary.lower(), term


@pytest.mark.parametrize("path", sorted((LEARN / "pictures").glob("*.png")), ids=lambda path: path.name)
def test_pictures_are_small_shown_and_described(path: Path) -> None:
    assert path.stat().st_size < 60_000
    with Image.open(path) as picture:
        assert picture.width <= 800
    shown = [alt for page in PAGES for alt in re.findall(rf"!\[(.*?)\]\(pictures/{path.name}\)", page.read_text())]
    assert shown
    assert min(map(len, shown)) > 40
