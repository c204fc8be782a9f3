"""Runs the check, then ours and PyTorch in turn on one device, and writes what was seen as a dated page. Called by
run.sh where the program was carried to; needs python3 with torch, nothing else."""

import argparse
import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BIN = os.path.join(HERE, "..", "..", "bin")
OURS = [
    "f32", "tf32", "tf32+replay", "tf32+last", "tf32+last+replay", "bf16", "bf16+last", "bf16+last+replay",
    "bf16+last+replay+looking", "bf16+last+replay+file", "bf16+last+replay+resident",
]
OURS_ON_CPU = ["f32", "f32+last", "f32+resident"]
PEERS = [
    "eager-f32", "eager", "amp", "amp-last", "reduce-overhead", "amp-reduce-overhead", "max-autotune",
    "amp-max-autotune",
]
PEERS_ON_CPU = ["eager", "amp-last"]


def environment():
    """Ours runs with the libtorch of python3's torch, the same that its peer runs with."""
    import torch

    return dict(os.environ, LIBTORCH=os.path.dirname(torch.__file__))


class Server:
    def __init__(self, command, environment=None):
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        while answer := self.process.stdout.readline():
            if answer.startswith("{"):
                return json.loads(answer)
        return {"error": f"the process ended with {self.process.wait()}"}

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def said(command, **more):
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
        return done.returncode, done.stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, f"{command[0]}: {error}\n"


def kernels(program, form, batch, environment):
    """Time of each kernel of three steps, by Nsight Compute; it replays no kernel for one metric."""
    if not shutil.which("ncu"):
        return "ncu is not on this machine: no profile of ours\n"
    # The program is started by a script.
    command = ["ncu", "--target-processes", "all", "--clock-control", "none", "--metrics", "gpu__time_duration.sum", "--csv", "--launch-skip", "3000"]
    code, text = said(command + program + ["steps", form, str(batch)], env=environment, timeout=240)
    times = {}
    import csv

    lines = [line for line in text.splitlines() if line.startswith('"')]
    for row in csv.DictReader(lines):
        try:
            value = float(row["Metric Value"].replace(",", ""))
        except (KeyError, ValueError):
            continue
        scale = {"ns": 1e-6, "us": 1e-3, "usecond": 1e-3, "nsecond": 1e-6}.get(row.get("Metric Unit"), 1.0)
        total, count = times.get(row["Kernel Name"], (0.0, 0))
        times[row["Kernel Name"]] = (total + value * scale, count + 1)
    if not times:
        return f"ncu said (code {code}):\n{text[-1500:]}\n"
    whole = sum(total for total, _ in times.values())
    ranked = sorted(times.items(), key=lambda item: -item[1][0])[:15]
    return "".join(f"{total / whole:6.1%}  {count:5d}  {name[:100]}\n" for name, (total, count) in ranked)


def training(program, device, environment):
    """The program itself, from a data file to its table of phases."""
    with tempfile.TemporaryDirectory() as folder:
        text = said(program + ["data", os.path.join(folder, "data.h5")], env=environment)[1]
        command = ["train", "--data", "data.h5", "--run", "run", "--device", device, "--batch", "16", "--epochs", "2"]
        command = [os.path.join(BIN, "tfbind-mpi")] + command
        code, more = said(command, env=environment, cwd=folder, timeout=240)
        return f"{text}{more}ended with {code}\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=".")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--batches", default="8,64,512")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=60, help="no new measurement after so many")
    parser.add_argument("--command", default=" ".join(sys.argv), help="as the page is to tell it")
    options = parser.parse_args()
    began, own = time.monotonic(), environment()
    late = lambda: time.monotonic() - began > 60 * options.minutes
    small = ["--tiny"] if options.tiny else []
    program = [os.path.join(BIN, "gpu"), "--device", options.device] + small
    peer = [sys.executable, os.path.join(HERE, "peer.py"), "--device", options.device] + small
    batches = [int(batch) for batch in options.batches.split(",")]
    on_cpu = options.device == "cpu"
    ours, peers = (OURS_ON_CPU, PEERS_ON_CPU) if on_cpu else (OURS, PEERS)

    code, check = said(program + ["check"], env=own)
    print(check, flush=True)
    trained = training(program, options.device, own)
    print(trained, flush=True)
    times, errors = {}, {}
    if code == 0:
        servers = {"ours": Server(program + ["serve"], own), "PyTorch": Server(peer)}
        # In turn, so that what changes with time falls on both alike; small batches first, as memory is kept.
        forms = [pair for both in zip_longest(ours, peers) for pair in both]
        for round_ in range(options.rounds):
            for batch in batches:
                for whose, form in forms:
                    key = (whose, form, batch)
                    if late() or key in errors:
                        continue
                    answer = servers[whose].ask(f"{form} {batch}")
                    if "error" in answer:
                        errors[key] = answer["error"]
                    else:
                        times.setdefault(key, []).append(answer["ms"])
                    print(round_ + 1, *key, answer, flush=True)
        for server in servers.values():
            server.close()
    pages = [head(options), "## Check\n\n```\n" + check + "```\n", "## tfbind-mpi train\n\n```\n" + trained + "```\n"]
    if code == 0:
        pages.append(table(times, errors, batches, [("ours", form) for form in ours] + [("PyTorch", form) for form in peers]))
    if code == 0 and not on_cpu and not late():
        form, batch = "bf16+last", batches[-1]
        pages.append(f"## Kernels of ours, {form}, batch {batch}: share, launches\n\n```\n" + kernels(program, form, batch, own) + "```\n")
        text = said(peer + ["--profile", "amp", str(batch)], timeout=240)[1]
        pages.append(f"## Kernels of PyTorch, amp, batch {batch}\n\n```\n{text}```\n")
    os.makedirs(options.out, exist_ok=True)
    path = os.path.join(options.out, f"{datetime.date.today()}-{options.device}{'-tiny' if options.tiny else ''}.md")
    with open(path, "w") as page:
        page.write("\n".join(pages))
    print("\n".join(pages[3:4]))
    print("written:", path)
    sys.exit(code)


def zip_longest(ours, peers):
    for place in range(max(len(ours), len(peers))):
        yield [("ours", form) for form in ours[place : place + 1]] + [("PyTorch", form) for form in peers[place : place + 1]]


def head(options):
    import torch

    gpu = said(["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"])[1].strip()
    if options.device == "cpu":
        gpu = "none: a dry run on " + (platform.processor() or platform.machine())
    commit = "unknown"
    if os.path.exists(os.path.join(HERE, "commit")):
        commit = open(os.path.join(HERE, "commit")).read().strip()
    return (
        f"# Training step on {gpu}\n\n"
        f"{datetime.datetime.now():%Y-%m-%d %H:%M}, torch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN "
        f"{torch.backends.cudnn.version()}, commit {commit}, `{options.command}`\n"
    )


def table(times, errors, batches, forms):
    """Windows a second; in brackets the times of the rounds in ms, and ours beside the fastest PyTorch."""
    best = {}
    for batch in batches:
        of = [statistics.median(ms) for (whose, _, b), ms in times.items() if whose == "PyTorch" and b == batch]
        best[batch] = min(of) if of else None
    text = "## Step: windows/s (ms of each round), times the fastest PyTorch\n\n| form | "
    text += " | ".join(f"batch {batch}" for batch in batches) + " |\n|---|" + "---|" * len(batches) + "\n"
    for whose, form in forms:
        cells = []
        for batch in batches:
            key = (whose, form, batch)
            if key in errors:
                cells.append("failed")
            elif key not in times:
                cells.append("not reached")
            else:
                ms = statistics.median(times[key])
                ratio = f" {best[batch] / ms:.2f}x" if best[batch] else ""
                cells.append(f"{1e3 * batch / ms:,.0f} ({', '.join(f'{t:.2f}' for t in times[key])}){ratio}")
        text += f"| {whose} {form} | " + " | ".join(cells) + " |\n"
    for key, error in errors.items():
        text += f"\n{' '.join(map(str, key))}: {error}\n"
    return text


if __name__ == "__main__":
    main()
