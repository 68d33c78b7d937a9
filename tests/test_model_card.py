"""The model card says what was measured and what was not; the documents name what exists."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cards import DATA, card_of, ladder
from opticaldr import notices
from opticaldr.conformal import calibrate
from opticaldr.data.synthetic.cues import CUES
from opticaldr.data.synthetic.optimum import optimum
from opticaldr.data.synthetic.presets import PRESETS
from opticaldr.depression_report import depression_results
from opticaldr.evaluate import RecordingScore, SessionLabel
from opticaldr.model_card import MODEL_CARD, NOT_MEASURED, write_model_card
from opticaldr.results import validate, write_json
from opticaldr.types import InputError

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
)
SHA = "3f" * 32
FORBIDDEN = re.compile(r"(?:ir|non-?)reversib|un-?break|anonym|guarant", re.IGNORECASE)
FIGURE = re.compile(r"(?:−?\d+\.\d+) \[(?:−?\d+\.\d+), (?:−?\d+\.\d+)\], n = \d+")


def figure(value: float, half: float, n: int) -> dict:
    return {"value": value, "ci95": [value - half, value + half], "n": n}


def scores_of(people: range, seed: int) -> list[RecordingScore]:
    """Two tasks a person; the score is half of the label, plus noise."""
    rng = np.random.default_rng(seed)
    rows = []
    for person in people:
        label = float(rng.integers(0, 46))
        for task in ("Freeform", "Northwind"):
            score = float(np.clip(0.5 * label + 8 + rng.normal(0, 4), 0, 63))
            name, group = (
                f"p{person}",
                ("f", "m", "|x|")[0 if person % 2 else 1 + (person % 30 == 0)],
            )
            recording = f"{name}/1/{task}"
            rows.append(
                RecordingScore(
                    recording, name, label, score, 8, f"{name}/1", task, (group,), (score,) * 8
                )
            )
    return rows


def measured() -> tuple[dict, dict]:
    """The "depression" of a test on 60 people, five of them seen before, and its calibration."""
    calibration = calibrate(scores_of(range(200, 240), seed=2))
    known = [SessionLabel(row.person, row.label) for row in scores_of(range(55, 160), seed=3)]
    found = depression_results(
        scores_of(range(60), seed=1),
        train=known,
        protocol="official-dev",
        seen_people=frozenset(f"p{person}" for person in range(55, 60)),
        group_names=("sex",),
        calibration=calibration,
    )
    return {**found, "data": "AVEC 2014"}, calibration


def results(depression: dict | None) -> dict:
    """results.json of a run on real people."""
    row = {"rung": "A2", "recogniser": "dlib", "lens": "trained", "pairs": 1200, "people": 41}
    row |= {"captured_auc": figure(0.763, 0.031, 1202), "clean_auc": figure(0.991, 0.006, 1201)}
    content = {
        "schema_version": "1.0",
        "synthetic": False,
        "seed": 7,
        "depression": depression,
        "privacy": {"attacks": [row]},
        "lens": {"sha256": SHA},
        "test_readings": [
            {"date": "2030-01-01", "protocol": "official-dev", "data": "AVEC 2014", "count": count}
            for count in (1, 2)
        ],
        "seconds": {"stage 1": 423.2, "stage 3": 12.5, "evaluate": 6.4},
    }
    validate(content, "results")
    return content


LENS = {
    "version": "0.1.0",
    "sha256": SHA,
    "sensor_pixels": 128,
    "depth_range_m": [0.33, 2.0],
    "sensor": {"read_noise_test": 0.0125},
    "trained_against": ["mobilefacenet"],
}


def privacy_card(**data: object) -> dict:
    """A P1 card of the same lens."""
    card = card_of(ladder("A1", "A2", "A3"), data={**DATA, **data})
    return {**card, "lens": {**card["lens"], "sha256": SHA}}


@pytest.fixture(scope="module")
def everything() -> dict[str, dict]:
    depression, calibration = measured()
    return {
        "results": results(depression),
        "lens": LENS,
        "calibration": calibration,
        "privacy_card": privacy_card(),
    }


@pytest.fixture
def run(tmp_path: Path, everything: dict[str, dict]) -> Path:
    """A run folder that has everything."""
    folder = tmp_path / "ward_7"
    for name, content in everything.items():
        write_json(folder / f"{name}.json", content)
    (folder / "config.toml").write_text(
        'preset = "avec2014"\nseed = 7\nprotocol = "official-dev"\n'
        '[stages.step1]\ntitle = "lens on faces"\n'
    )
    return folder


def text_of(run: Path) -> str:
    page = write_model_card(run)
    assert page == run / MODEL_CARD
    return page.read_text(encoding="utf-8")


def section(text: str, number: int) -> str:
    found = re.search(rf"^## {number}\. .*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found
    return found[0]


def change(run: Path, name: str, **values: object) -> None:
    path = run / f"{name}.json"
    write_json(path, json.loads(path.read_text()) | values)


def figures_in(content: object) -> Iterator[dict]:
    if isinstance(content, dict):
        if "ci95" in content:
            yield content
        content = list(content.values())
    if isinstance(content, list):
        for part in content:
            yield from figures_in(part)


def shown(found: dict, digits: int) -> str:
    value, low, high = (
        f"{x:.{digits}f}".replace("-", "−") for x in (found["value"], *found["ci95"])
    )
    return f"{value} [{low}, {high}], n = {found['n']}"


# --- the card --------------------------------------------------------------------------------


def test_every_figure_of_the_card_stands_in_a_file_of_the_run(run: Path, everything: dict) -> None:
    printed = FIGURE.findall(text_of(run))
    stored = {shown(f, d) for f in figures_in(list(everything.values())) for d in (2, 3)}
    assert len(printed) > 50  # headline, baselines, units, seen, coverage, groups, privacy
    assert [text for text in printed if text not in stored] == []


def test_headline_baselines_and_parts_are_shown(run: Path, everything: dict) -> None:
    text, depression = section(text_of(run), 8), everything["results"]["depression"]
    lines = {
        "**this model, from captures**": depression["mae"],
        "train mean": depression["train_mean_mae"],
        "train median": depression["baselines"][1]["mae"],
        "identity look-up": depression["baselines"][2]["mae"],
        "recording": depression["units"]["recording"]["mae"],
        "session": depression["units"]["session"]["mae"],
        "task Northwind": depression["units"]["tasks"]["Northwind"]["mae"],
        "seen": depression["seen"]["mae"],
        "unseen": depression["unseen"]["mae"],
        "sex: f": depression["groups"][0]["mae"],
    }
    for name, found in lines.items():
        (line,) = (row for row in text.splitlines() if row.startswith(f"| {name} |"))
        assert shown(found, 2) in line
    for row in depression["conformal"]["levels"]:
        assert f"| {100 * row['level']:g} % | {row['half_width']:.2f} | " in text
    for counts in depression["bands"]["confusion"]:
        assert f"| {' | '.join(map(str, counts))} |" in text


def test_a_small_group_is_not_estimable_and_its_name_cannot_become_markup(run: Path) -> None:
    text = section(text_of(run), 8)
    (line,) = (row for row in text.splitlines() if row.startswith(r"| sex: \|"))
    assert line.startswith(r"| sex: \|x\| | 2, 2 | not estimable |")


def test_tables_have_as_many_cells_in_every_row(run: Path) -> None:
    tables = re.findall(r"(?:^\|.*\n)+", text_of(run), re.MULTILINE)
    assert len(tables) >= 9
    for table in tables:
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(cells) == 1, table


def test_run_details_come_from_its_files(run: Path) -> None:
    text = text_of(run)
    assert r"# Model card: ward\_7" in text.splitlines()[0]
    for said in ("avec2014, 7", "1 (lens on faces); 3", "mobilefacenet", "0.33 to 2 m", "0.0125"):
        assert said in text
    data = section(text, 6)
    for said in ("AVEC 2014", "real, 60", "session, n = 60", "official-dev", "run | 2; more than"):
        assert said in data
    assert "Synthetic" not in text
    assert "synthetic" not in data


def test_privacy_is_said_in_the_words_of_the_card(run: Path, everything: dict) -> None:
    card, text = everything["privacy_card"], section(text_of(run), 9).replace("\\", "")
    assert "Grade P1" in text
    assert card["wording"] in text
    assert card["meaning"] in text
    assert shown(card["bracket"]["attack_auc"], 3) in text
    assert "1.000, which excludes nothing" in text
    assert "A4, A5, A6, A7, A8, A9" in text
    assert card["expires"]["on"] in text
    assert notices.OBSCURED_IS_NOT_PRIVATE in text


@pytest.mark.parametrize("missing", ["results", "lens", "calibration", "privacy_card", "config"])
def test_a_missing_file_is_said_and_never_blank(run: Path, missing: str) -> None:
    before = text_of(run)
    (run / f"{missing}.{'toml' if missing == 'config' else 'json'}").unlink()
    text = text_of(run)
    if missing != "calibration":  # measured coverage stands in results.json
        told = {"lens": "no lens.json in this run", "config": "no config.toml in this run"}
        word = told.get(missing, NOT_MEASURED)
        assert text.count(word) > before.count(word)
    assert not re.search(r"\bNone\b|Undefined|\{\{|\{%|\bnan\b", text)
    assert section(text, 12)


def test_a_run_in_which_nothing_was_measured(tmp_path: Path) -> None:
    write_json(tmp_path / "lens.json", LENS)
    text = text_of(tmp_path)
    assert FIGURE.findall(text) == []
    for number, said in (
        (4, f"**{NOT_MEASURED}**"),
        (6, f"evaluation data {NOT_MEASURED}"),
        (7, "not recorded"),
        (8, f"Severity: **{NOT_MEASURED}**"),
        (9, f"Privacy card: **{NOT_MEASURED}**"),
    ):
        assert said in section(text, number)
    assert "Synthetic" not in text


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"results\.json or lens\.json"):
        write_model_card(tmp_path)


def test_results_of_an_older_version_make_a_card(tmp_path: Path) -> None:
    """Only what the schema asks for: the rest is said to be missing."""
    names = ("mae", "rmse", "ccc", "train_mean_mae", "gain_over_train_mean")
    old = {name: figure(8.0 + at, 1.0, 60) for at, name in enumerate(names)}
    write_json(tmp_path / "results.json", results(old))
    write_json(tmp_path / "calibration.json", {"coverage": 0.9, "half_width": 16.24, "n": 23})
    text = section(text_of(tmp_path), 8)
    assert text.count(f"**{NOT_MEASURED}**") == 4  # seen people, bands, coverage, groups
    assert "90 % intervals of ±16.24 points (calibration n = 23)" in text


def test_synthetic_results_are_said_loudly(run: Path) -> None:
    change(run, "results", synthetic=True)
    change(run, "privacy_card", **privacy_card(synthetic=True))
    lines = text_of(run).splitlines()
    assert lines[0].endswith("(synthetic data)")
    assert lines[2] == f"> **{notices.SYNTHETIC}**"
    text = "\n".join(lines)
    assert "rendered (synthetic)" in section(text, 6)
    assert "on rendered people" in section(text, 9)


@pytest.mark.parametrize(
    ("scores", "card", "words"),
    [(True, False, "about severity"), (False, True, "about privacy")],
)
def test_a_card_that_is_synthetic_in_part_says_which(
    run: Path, scores: bool, card: bool, words: str
) -> None:
    change(run, "results", synthetic=scores)
    change(run, "privacy_card", **privacy_card(synthetic=card))
    lines = text_of(run).splitlines()
    assert lines[0].endswith("(synthetic data)")
    assert "in part" in lines[2]
    assert words in lines[2]


def test_synthetic_results_without_a_privacy_card_are_all_synthetic(run: Path) -> None:
    (run / "privacy_card.json").unlink()
    change(run, "results", synthetic=True)
    assert f"> **{notices.SYNTHETIC}**" in text_of(run)


@pytest.mark.parametrize("name", ["results", "privacy_card"])
def test_numbers_of_another_lens_are_called_out(run: Path, everything: dict, name: str) -> None:
    assert "Two lenses." not in text_of(run)
    lens = everything[name]["lens"]
    change(run, name, lens={**lens, "sha256": "ab" * 32})
    assert re.findall(r"\*\*Two lenses\.\*\* `(\S+)`", text_of(run)) == [f"{name}.json"]


def promises(text: str) -> list[str]:
    """Words that a card may not use; "diagnos" only where its sentence denies it."""
    sentences = re.split(r"(?<=[.:;])\s|\n\s*\n|\n[-|]", text)
    claimed = [
        sentence
        for sentence in sentences
        if "diagnos" in sentence.lower() and not re.search(r"\b(not|no|never)\b", sentence)
    ]
    return FORBIDDEN.findall(text) + claimed


def test_the_check_for_promises_sees_them() -> None:
    assert promises("It is anonymous.")
    assert promises("It diagnoses depression.")
    assert not promises("It is not a diagnosis.")


def test_no_card_promises_anything(run: Path, everything: dict) -> None:
    assert promises(text_of(run)) == []
    depression = {**everything["results"]["depression"], "data": "irreversibly anonymous faces"}
    change(run, "results", depression=depression)
    text = text_of(run)
    assert promises(text) == []
    assert "removed" in section(text, 6)
    (run / "results.json").unlink()
    (run / "privacy_card.json").unlink()
    assert promises(text_of(run)) == []


def test_every_notice_stands_in_the_card(run: Path) -> None:
    text = text_of(run)
    for notice in (
        notices.DISCLAIMER,
        notices.PATENTS,
        notices.DATA_LICENCES,
        notices.PERSONAL_DATA,
        notices.QUESTIONNAIRE_NOISE,
        notices.CHANGE_THAT_MATTERS,
    ):
        assert notice in text


# --- the documents ---------------------------------------------------------------------------


def code_in(text: str) -> Iterator[str]:
    """Lines of fenced and indented code, and inline code; continued lines are joined."""
    text = text.replace("\\\n", " ")
    fenced = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
    for block in fenced.findall(text):
        yield from block.splitlines()
    text = fenced.sub("", text)
    yield from (line[4:] for line in text.splitlines() if line.startswith("    "))
    yield from re.findall(r"`([^`\n]+)`", text)


def commands_in(text: str) -> list[list[str]]:
    """Every `opticaldr ...` as words, without its comment."""
    found = []
    for line in code_in(text):
        line = line.strip().removeprefix("$ ")
        if line.startswith("opticaldr "):
            found.append(shlex.split(line.partition(" #")[0].replace("'", ""))[1:])
    return found


def problem(words: list[str]) -> str | None:
    """What the command line would not know in a command; None if it is well formed."""
    import typer

    from opticaldr.cli.app import app

    command, rest = typer.main.get_command(app), list(words)
    while hasattr(command, "commands") and rest:
        if rest[0].startswith(("-", "[")):
            break
        if rest[0] not in command.commands:
            return f"no command '{rest[0]}'"
        command = command.commands[rest.pop(0)]
    known = {name for option in command.params for name in option.opts} | {"--help", "--debug"}
    options = [word.strip("[]").partition("=")[0] for word in rest if re.match(r"\[?-", word)]
    unknown = [name for name in options if name not in known]
    return f"no option {unknown[0]}" if unknown else None


def test_the_check_of_commands_sees_wrong_ones() -> None:
    text = "    opticaldr evaluate --model X   # scores\n\n`opticaldr fly`\n"
    text += "```\nopticaldr demo \\\n --up\n```"
    found = commands_in(text)
    assert sorted(found) == [["demo", "--up"], ["evaluate", "--model", "X"], ["fly"]]
    assert problem(["evaluate", "--model", "X"]) is None
    assert problem(["fly"]) == "no command 'fly'"
    assert problem(["lens", "fly"]) == "no command 'fly'"
    assert problem(["demo", "--up"]) == "no option --up"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_command_that_a_document_names_exists(path: Path) -> None:
    wrong = [
        (" ".join(words), problem(words))
        for words in commands_in(path.read_text(encoding="utf-8"))
        if problem(words)
    ]
    assert wrong == []


def test_every_command_that_the_card_names_exists(run: Path) -> None:
    for name in ("results", "privacy_card"):
        (run / f"{name}.json").unlink()
    commands = commands_in(text_of(run))
    assert ["report"] in commands
    assert [words for words in commands if problem(words)] == []


def test_documents_are_found() -> None:
    names = {path.name for path in DOCUMENTS}
    assert names >= {
        *("README.md", "tripod_ai.md", "dataset_card.md", "legal.md", "getting_data.md"),
    }


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))
    local = [link.partition("#")[0] for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in local if link and not (path.parent / link).exists()] == []


def test_tripod_has_all_27_items() -> None:
    rows = re.findall(
        r"^\| (\d+)([a-g]?) \|", (ROOT / "docs/tripod_ai.md").read_text(), re.MULTILINE
    )
    assert sorted({int(number) for number, _ in rows}) == list(range(1, 28))
    assert len(rows) == len(set(rows)) == 52  # with sub-items, as the checklist counts them


def test_presets_on_the_data_set_card_have_their_optimum() -> None:
    """Best without and with one known session of the person: R2 and MAE, as printed."""
    text = (ROOT / "docs/dataset_card.md").read_text(encoding="utf-8")
    for preset in PRESETS.values():
        (line,) = (row for row in text.splitlines() if row.startswith(f"| `{preset.name}` |"))
        best = [optimum(preset, known=known) for known in (0, 1)]
        numbers = [text for b in best for text in (f"{b.r2:.2f}".lstrip("0"), f"{b.mae:.2f}")]
        assert line.endswith(f"| {' | '.join(numbers)} |")


def test_cues_on_the_data_set_card_have_their_correlation() -> None:
    text = (ROOT / "docs/dataset_card.md").read_text(encoding="utf-8")
    printed = re.findall(r"\| ([−+]\.\d\d) (?=\|)", text)
    assert sorted(float(r.replace("−", "-")) for r in printed) == sorted(
        cue.r for cue in CUES if cue.r
    )


@pytest.mark.parametrize("name", ["tripod_ai", "dataset_card", "legal", "getting_data"])
def test_documents_promise_nothing(name: str) -> None:
    text = (ROOT / f"docs/{name}.md").read_text(encoding="utf-8")
    assert FORBIDDEN.findall(text) == []
