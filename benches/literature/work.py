"""Data sets and runs, each made once."""

import json
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

CORES = os.cpu_count() or 1


class Work:
    def __init__(self, root, folder, data, seeds):
        self.bin, self.folder, self.data, self.seeds = root / "target/release", folder, data, seeds
        self.notes = []
        folder.mkdir(parents=True, exist_ok=True)

    def prep(self, name, *words):
        """A data file of tfbind-prep, made if it is not there."""
        path = self.folder / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            self.call([self.bin / "tfbind-prep", *words, "--out", path])
        return path

    def genome(self):
        """The simulated genome with CTCF sites, as windows of 1,024 bases."""
        folder = self.folder / "genome"
        if not (folder / "ctcf.narrowPeak").exists():
            shutil.rmtree(folder, ignore_errors=True)
            self.call([self.bin / "tfbind-prep", "simulate", "--out", folder])
        words = ["--fasta", folder / "genome.fa", "--signal", f"DNase={folder / 'dnase.bigWig'}"]
        words += ["--peaks", f"CTCF={folder / 'ctcf.narrowPeak'}", "--length", "1024"]
        return self.prep("genome.h5", "make", *words, "--valid", "sim9", "--test", "sim10")

    def train(self, data, runs, ranks=1, alone=False, seeds=None):
        """Trains {name: words} from each seed; {name: {metric of the test part, or seconds: [value of each seed]}}. One
        run on each core, unless a run has several ranks or its time counts."""
        seeds = seeds or self.seeds
        at_once = 1 if alone or ranks > 1 else CORES
        missing = [(name, seed) for seed in seeds for name in runs if not self.table(name, seed).exists()]
        with ThreadPoolExecutor(at_once) as pool:
            done = [pool.submit(self.one, data, *job, runs[job[0]], ranks, max(1, CORES // at_once // ranks)) for job in missing]
            for run in done:
                run.result()
        return {name: self.metrics(name, seeds) for name in runs}

    def one(self, data, name, seed, words, ranks, threads):
        run = self.table(name, seed).parent
        log = run.with_suffix(".log")
        shutil.rmtree(run, ignore_errors=True)
        mpi = ["mpirun", *["--allow-run-as-root"] * (os.geteuid() == 0), "--oversubscribe", "-np", str(ranks)] * (ranks > 1)
        program = self.bin / "tfbind-mpi"
        self.call([*mpi, program, "train", "--data", data, "--run", run, "--seed", seed, "--threads", threads, *words], log)
        self.call([program, "evaluate", run, "--threads", threads], log)

    def table(self, name, seed):
        return self.folder / "runs" / f"{name}-{seed}" / "evaluation_metrics.json"

    def metrics(self, name, seeds=None):
        found = {}
        for seed in seeds or self.seeds:
            said = json.loads(self.table(name, seed).read_text())
            values = {**said["metrics"], "seconds": said["training_time"]}
            for metric, value in values.items():
                if isinstance(value, (int, float)):
                    found.setdefault(metric, []).append(value)
        return found

    def validated(self, name, seed):
        """The best value on the validation part of the metric that the run was led by."""
        lines = self.table(name, seed).with_name("metrics.jsonl").read_text().splitlines()
        return [event["best"] for event in map(json.loads, lines) if event["event"] == "evaluation"][-1]

    def demo(self, name):
        """The lines of a lesson's table, as cells."""
        table = self.folder / "demos" / name / "table.txt"
        if not table.exists():
            self.call([self.bin / "tfbind-mpi", "demo", name, "--seeds", len(self.seeds), "--out", table.parent])
        return [re.split(r"\s{2,}", line.strip()) for line in table.read_text().splitlines() if line.startswith("  ")]

    def targets(self, name, metric):
        """A metric of every target of a run of each seed: [{target: value}]."""
        tables = []
        for seed in self.seeds:
            lines = self.table(name, seed).with_name("evaluation_targets.csv").read_text().splitlines()
            names = lines[0].split(",")
            rows = [dict(zip(names, line.split(","))) for line in lines[1:]]
            tables.append({row["target"]: float(row[metric]) for row in rows if row[metric] not in ("", "undefined")})
        return tables

    def call(self, words, log=None):
        words = [str(word) for word in words]
        if log:
            log.parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(words, capture_output=True, text=True)
        if log:
            with open(log, "a") as out:
                out.write(done.stdout + done.stderr)
        if done.returncode != 0:
            tail = (done.stderr or done.stdout).strip().splitlines()
            said = next((line for line in tail if "error" in line), tail[-1] if tail else "")
            raise SystemExit(f"literature: {' '.join(words)}: exit code {done.returncode}: {said}")
        return done.stdout
