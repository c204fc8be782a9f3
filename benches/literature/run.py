"""Published results beside ours: one row a claim, three seeds, with the commands that give ours.

    make literature                    everything that needs no download: about three hours on two cores
    make literature QUICK=1            a subset with one seed, under ten minutes
    make literature DATA=../data       also the rows on real genomes; DATA holds yeast/ and human/
    make literature ONLY=tal1,dragonn  rows whose name holds one of these words; printed, and written with --out

Writes the table to --out (benches/results/literature.md, of a quick run quick.md in --work), and behind that of all rows
what was seen in it, remarks.md. A run that is finished is not run again: remove its folder in --work to repeat it.
"""

import argparse
import datetime
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

from claims import rows
from work import Work

# Never shown in percent.
PLAIN = ("auroc", "average_precision", "seconds")
ROOT = Path(__file__).resolve().parent.parent.parent
REMARKS = ROOT / "benches/literature/remarks.md"


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="one seed, the rows that take seconds")
    parser.add_argument("--data", type=Path, help="folder with yeast/ and human/")
    parser.add_argument("--work", type=Path, default=ROOT / "runs/literature", help="folder for data and runs")
    parser.add_argument("--out", type=Path, help="[default: benches/results/literature.md, quick.md in --work, or with --only none]")
    parser.add_argument("--only", default="", help="rows whose name holds one of these words, between commas")
    return parser.parse_args()


def machine():
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    return f"commit {commit}, {cpu[1] if cpu else platform.machine()}, {os.cpu_count()} cores"


def shown(name, values, percent):
    """Mean and range; a text as it is."""
    if isinstance(values, str):
        return values
    scale, digits = (100, 2) if percent and name not in PLAIN else (1, 0 if name == "seconds" else 3)
    values = [scale * value for value in values]
    mean = sum(values) / len(values)
    if len(values) == 1:
        return f"{mean:.{digits}f} (one seed)"
    return f"{mean:.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def line(row, values):
    """The row of the table, and whether ours is as good."""
    if isinstance(values, str):
        return f"| {row.name} | {row.published} | not run: {values} | – | `{row.command}` |", None
    reached = row.reached(values)
    ours = "; ".join(f"{name} {shown(name, of, row.percent)}" for name, of in values.items())
    return f"| {row.name} | {row.published} | {ours} | {'yes' if reached else 'no'} | `{row.command}` |", reached


def main():
    options = arguments()
    work = Work(ROOT, options.work, options.data, [1] if options.quick else [1, 2, 3])
    lines, results, whys = [], [], []
    chosen = [row for row in rows() if any(word in row.name.lower() for word in options.only.split(",")) and (row.quick or not options.quick)]
    if not chosen:
        sys.exit(f"literature: no row's name holds `{options.only}`")
    for row in chosen:
        if row.needs_data and not options.data:
            values = "give DATA"
        else:
            print(f"{row.name} …", file=sys.stderr, flush=True)
            values = row.measure(work)
        text, reached = line(row, values)
        lines.append(text)
        if reached is False and row.why:
            whys.append(f"- Not reached: {row.name}: {row.why}.")
        results.append(reached)
        print(text, flush=True)
    words = [" QUICK=1"] * options.quick + [" DATA=..."] * bool(options.data) + [f" ONLY={options.only!r}"] * bool(options.only)
    command = "make literature" + "".join(words)
    head = [
        "# Published results beside ours",
        "",
        f"`{command}`, {datetime.date.today()}, {machine()}. Mean (range) over seeds "
        f"{', '.join(map(str, work.seeds))}; a row is reached when ours is at least as good as published, or the order is the published one.",
        "",
        "| claim | published | ours | reached | command of ours |",
        "|---|---|---|---|---|",
    ]
    notes = ["", *work.notes, *whys] if work.notes or whys else []
    if not (options.quick or options.only):
        notes += ["", REMARKS.read_text().strip()]
    # A subset does not take the place of the whole.
    whole = options.work / "quick.md" if options.quick else ROOT / "benches/results/literature.md"
    out = options.out or (None if options.only else whole)
    if out:
        out.write_text("\n".join(head + lines + notes) + "\n")
        print(f"table {out}")
    print(f"literature: {len(results)} rows, {sum(1 for result in results if result)} reached")


main()
