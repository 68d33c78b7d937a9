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
    table = Table("BDI-II", "value [95 % interval]", "n")
    names = {
        "mae": "MAE",
        "rmse": "RMSE",
        "ccc": "CCC",
        "train_mean_mae": "MAE of the train mean",
        "gain_over_train_mean": "gain over the train mean",
    }
    for key, name in names.items():
        table.add_row(name, _figure(found[key], 2), str(found[key]["n"]))
    return table


def _figure(figure: dict, digits: int) -> str:
    low, high = figure["ci95"]
    return f"{figure['value']:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
