"""The short tables that end a command."""

from __future__ import annotations

from rich.table import Table


def attack_table(rows: list[dict]) -> Table:
    table = Table("lens", "rung", "recogniser", "clean AUC", "captured AUC", "pairs", "people")
    for row in rows:
        table.add_row(
            row["lens"],
            row["rung"],
            row["recogniser"],
            _figure(row["clean_auc"], 3),
            _figure(row["captured_auc"], 3),
            str(row["pairs"]),
            str(row["people"]),
        )
    return table


def ladder_table(card: dict) -> Table:
    """One line for each rung of a privacy card: its strongest valid attempt."""
    table = Table("rung", "verdict", "AUC", "rank-1", "frames", "strongest attempt")
    for line in card["ladder"]:
        rank1 = line.get("rank1")
        table.add_row(
            line["rung"],
            line["verdict"].partition(":")[0],
            _figure(line["auc"], 3) if line.get("auc") else "",
            f"{100 * rank1['value']:.0f} % of {rank1['cohort']}" if rank1 else "",
            f"{line['frames']:,}" if line.get("frames") else "",
            line.get("variant") or "",
        )
    return table


def depression_table(found: dict) -> Table:
    """The network beside the trivial predictors, then its units and parts, by MAE and RMSE."""
    table = Table("BDI-II", "MAE", "RMSE", "CCC", "n", title=f"protocol {found['protocol']}")
    table.add_row(f"this network, by {found['unit']}", *_errors(found))
    for row in found["baselines"]:
        table.add_row(row["name"], *_errors(row))
    table.add_section()
    gain = found["gain_over_train_mean"]
    table.add_row("gain over the train mean", _figure(gain, 2), "", "", str(gain["n"]))
    parts = {f"by {unit}": found["units"][unit] for unit in ("session", "recording")}
    parts |= {
        "people of the official train or dev set": found["seen"],
        "strangers": found["unseen"],
    }
    tasks = {f"task {task}": part for task, part in found["units"]["tasks"].items()}
    for name, part in (parts | tasks).items():
        whole = part["n"] == found["mae"]["n"] and name in parts
        if "mae" in part and not whole:
            table.add_row(name, *_errors(part))
    return table


def group_sentences(found: dict) -> list[str]:
    """One sentence for each group that is worse off than the other people."""
    return [
        f"{row['group']} {row['value']}: worse than the other people in {' and '.join(row['worse'])}"
        for row in found["groups"]
        if row["worse"]
    ]


def _errors(part: dict) -> list[str]:
    figures = [_figure(part[key], 2) if part.get(key) else "" for key in ("mae", "rmse", "ccc")]
    return [*figures, str(part["mae"]["n"])]


def _figure(figure: dict, digits: int) -> str:
    low, high = figure["ci95"]
    return f"{figure['value']:z.{digits}f} [{low:z.{digits}f}, {high:z.{digits}f}]"
