"""The first paragraph of a report: what was trained, on what, and what came out, in plain words.

Every sentence is decided by the numbers; an interval that includes chance is never a success.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def summarise(results: dict[str, Any] | None, *, stages: Sequence[str]) -> list[str]:
    """Sentences about results.json (None: not there yet) and the stages that were trained."""
    if stages:
        word = "stage" if len(stages) == 1 else "stages"
        said = [f"This run trained in {len(stages)} {word}: {'; '.join(stages)}."]
    else:
        said = ["This run has no training log."]
    if results is None:
        return [*said, "Nothing has been measured on it yet: there is no results.json."]
    people = "rendered people (synthetic data)" if results["synthetic"] else "real people"
    sources = [*results["privacy"]["attacks"], results["depression"] or {}]
    names = sorted({source["data"] for source in sources if "data" in source})
    of = f" of {' and '.join(names)}" if names else ""
    said.append(f"The numbers below were measured on {people}{of}, with seed {results['seed']}.")
    stronger = exaggeration(results)
    return [
        *said,
        *_privacy(results["privacy"]["attacks"]),
        *_severity(results["depression"]),
        *([stronger] if stronger else []),
    ]


def exaggeration(results: dict[str, Any] | None) -> str | None:
    """What to say if the cues of severity of rendered people were made stronger than in life."""
    gain = ((results or {}).get("depression") or {}).get("cue_gain", 1.0)
    if gain == 1.0:
        return None
    return (
        f"The cues of severity of these rendered people are {gain:g} times as strong as the "
        "simulator's table (depression research) has them, so that a short training can find them."
    )


def number(value: float, digits: int) -> str:
    """A number with a typographic minus sign, so that columns align."""
    return f"{value:z.{digits}f}".replace("-", "−")


def _privacy(attacks: Sequence[dict[str, Any]]) -> list[str]:
    if not attacks:
        return ["No attack has been run, so nothing is known about privacy."]
    trained = [row for row in attacks if row["lens"] == "trained"]
    if not trained:
        return ["No attack on a trained lens has been run; the table below shows other lenses."]
    strongest = []
    for rung in sorted({row["rung"] for row in trained}):
        row = _strongest([row for row in trained if row["rung"] == rung])
        strongest.append(f"{rung} with {row['recogniser']} {_auc(row)}")
    sentences = [
        "Telling people apart on captures of the trained lens (AUC: 1 is perfect, .5 is chance), "
        f"the strongest attack of each rung reached: {'; '.join(strongest)}."
    ]
    leaks = sum(not _includes_chance(row) for row in trained)
    if leaks:
        sentences.append(
            f"{leaks} of {len(trained)} intervals lie clear of chance: these captures still carry "
            "identity."
        )
    else:
        sentences.append(
            "Every interval includes chance: these attacks learned nothing measurable, which says "
            "nothing about stronger ones."
        )
    worst = _strongest(trained)
    same = (worst["rung"], worst["recogniser"], "untrained")
    untrained = [r for r in attacks if (r["rung"], r["recogniser"], r["lens"]) == same]
    if untrained:
        attack = f"{worst['rung']} with {worst['recogniser']}"
        sentences.append(f"On the untrained lens {attack} reached {_auc(untrained[0])}.")
    return sentences


def _severity(depression: dict[str, Any] | None) -> list[str]:
    if depression is None:
        return ["No depression stage was run, so no severity was estimated."]
    mae, gain = depression["mae"], depression["gain_over_train_mean"]
    low, high = gain["ci95"]
    if low > 0:
        reading = "a gain that chance does not explain"
    elif high < 0:
        reading = "a loss: the network is worse than no network"
    else:
        reading = "which cannot be told apart from no gain"
    return [
        f"Severity was estimated with a mean absolute error of {mae['value']:.2f} BDI-II points "
        f"(n = {mae['n']}); always saying the training mean is off by "
        f"{depression['train_mean_mae']['value']:.2f}. The gain is "
        f"{number(gain['value'], 2)} (95 % interval {number(low, 2)} to {number(high, 2)}), "
        f"{reading}."
    ]


def _strongest(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Far below chance tells as much as far above."""
    return max(rows, key=lambda row: abs(row["captured_auc"]["value"] - 0.5))


def _includes_chance(row: dict[str, Any]) -> bool:
    low, high = row["captured_auc"]["ci95"]
    return low <= 0.5 <= high


def _auc(row: dict[str, Any]) -> str:
    auc = row["captured_auc"]
    low, high = auc["ci95"]
    return f"{auc['value']:.3f} (95 % interval {low:.3f} to {high:.3f})"
