"""Checks the tables against the files, with the tools that a study would use, and runs every code
block of README.md.

Run by `cargo xtask test --only loading`, in a folder with `exports/` (files of headless_duel) and
`tables/` (made of them by `rollback-lab tables`).
"""

import glob
import json
import pathlib
import re

import duckdb
import pandas

KEYS = ["studyId", "groupId", "sessionId", "episodeId", "playerId"]


def run_lengths(players):
    return sum(count for player in players for _, count in player["runs"])


def expected(documents, sessions):
    """For each table, by the files: its number of rows, or a column and its sum."""
    total = lambda of: sum(of(document) for document in documents)
    return {
        "sessions": (None, len(sessions)),
        "episodes": (None, len(documents)),
        "rollbacks": (None, total(lambda d: d["rollbacks"]["count"])),
        "frames": (None, total(lambda d: d["frames"]["total"])),
        "stalls": ("ticks", total(lambda d: d["frames"]["stalled"])),
        "hashes": (None, total(lambda d: len(d["sync"]["hashes"]["values"]))),
        "inputs": ("frames", total(lambda d: run_lengths(d["inputs"]["confirmed"]))),
        "lateness": ("frames", total(lambda d: run_lengths(d["timeline"]["lateness"]))),
        "routes": (None, total(lambda d: len(d["quality"]["routeChanges"]))),
        "latency": (None, total(lambda d: d["latency"]["sampleCount"])),
    }


def load(name, texts):
    """One table, read in four ways."""
    return {
        "pandas, Parquet": pandas.read_parquet(f"tables/{name}.parquet"),
        "pandas, CSV": pandas.read_csv(f"tables/{name}.csv", dtype=texts),
        "DuckDB, Parquet": duckdb.sql(f"FROM 'tables/{name}.parquet'").df(),
        "DuckDB, CSV": duckdb.sql(f"FROM 'tables/{name}.csv'").df(),
    }


def check_table(name, dictionary, column, amount):
    texts = dict.fromkeys(dictionary[dictionary.type == "text"].column, "string")
    for how, table in load(name, texts).items():
        where = f"{name} by {how}"
        assert list(table.columns) == list(dictionary.column), f"{where}: columns are not the dictionary's"
        assert list(table.columns[:5]) == KEYS, f"{where}: no keys"
        found = len(table) if column is None else int(table[column].sum())
        assert found == amount, f"{where}: {found}, by the files {amount}"
        for numeric in dictionary[dictionary.type.isin(["integer", "number"])].column:
            if table[numeric].notna().any():
                assert pandas.api.types.is_numeric_dtype(table[numeric]), f"{where}: {numeric} is no number"
    parquet, csv = load(name, texts)["pandas, Parquet"], load(name, texts)["pandas, CSV"]
    for column in dictionary.column:
        same = parquet[column].astype("string").fillna("") == csv[column].astype("string").fillna("")
        if dictionary[dictionary.column == column].type.item() in ("integer", "number"):
            same = (parquet[column].astype(float) - csv[column].astype(float)).abs().fillna(0) == 0
            assert (parquet[column].isna() == csv[column].isna()).all(), f"{name}.{column}: other cells are empty"
        elif dictionary[dictionary.column == column].type.item() == "boolean":
            same = parquet[column].astype("string").str.lower().fillna("") == csv[column].astype("string").str.lower().fillna("")
        assert same.all(), f"{name}.{column} differs between CSV and Parquet"


def check_events(documents):
    """Compares single events, not only their number."""
    table = pandas.read_parquet("tables/rollbacks.parquet").set_index(["sessionId", "episodeId", "playerId", "rollbackId"])
    for document in documents:
        for event in document["rollbacks"]["events"]:
            key = (document["session"]["sessionId"], document["episode"]["episodeId"], document["playerId"], event["rollbackId"])
            row = table.loc[key]
            for column in ("frame", "currentFrame", "rollbackFrames", "atUs", "cause", "lateByFrames", "via"):
                assert row[column] == event[column], f"{key}: {column}"
            assert json.loads(row["actualAction"]) == event["actualAction"], f"{key}: actualAction"


def run_page():
    """Every code block of the page, in one namespace, as a reader would type it."""
    text = (pathlib.Path(__file__).parent / "README.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 5, "the page lost its code"
    names = {}
    for number, block in enumerate(blocks):
        exec(compile(block, f"README.md, block {number + 1}", "exec"), names)
    return names


def main():
    read = lambda pattern: [json.loads(pathlib.Path(path).read_text()) for path in sorted(glob.glob(pattern))]
    documents, sessions = read("exports/*/episode-*.json"), read("exports/*/session.*.json")
    assert documents and sessions, "there is nothing to read"
    dictionary = pandas.read_csv("tables/data-dictionary.csv")
    wanted = expected(documents, sessions)
    assert set(dictionary.table) == set(wanted), "the dictionary has other tables"
    for name, (column, amount) in wanted.items():
        check_table(name, dictionary[dictionary.table == name], column, amount)
    check_events(documents)

    page = run_page()
    rollbacks = wanted["rollbacks"][1]
    assert rollbacks > 0, "matches without a rollback show nothing"
    assert len(page["rollbacks"]) == len(page["rollbacks_of_csv"]) == len(page["every"]) == rollbacks
    assert len(page["frames"]) == len(page["frames_of_csv"]) == wanted["frames"][1]
    assert page["by_condition"]["files"].sum() == len(documents), "a file is missing from the answer"
    assert page["by_cause"]["count"].sum().sum() == rollbacks
    assert list(page["fallback"]["path"]) == ["direct", "relay"]
    print(f"{len(documents)} files, {rollbacks} rollbacks: pandas and DuckDB read what the files hold")


if __name__ == "__main__":
    main()
