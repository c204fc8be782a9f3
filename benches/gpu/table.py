"""Runs the check, then ours and PyTorch in turn on one device, and writes what was seen as a dated page. Called by
run.sh where the program was carried to; needs python3 with torch, nothing else."""

import argparse
import csv
import datetime
import json
import os
import platform
import shutil
import signal
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
    """A process that answers a line with a line of JSON. One that ended, or said that something failed, is started anew:
    an error of CUDA stays with its process."""

    def __init__(self, command, environment=None):
        self.command, self.environment, self.process = command, environment, None

    def ask(self, line):
        if self.process is None:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self.environment
            )
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            while text := self.process.stdout.readline():
                if text.startswith("{"):
                    answer = json.loads(text)
                    if "error" in answer:
                        self.close()
                    return answer
        except OSError:
            pass
        code = self.process.wait()
        self.process = None
        return {"error": f"the process ended with {code}"}

    def close(self):
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()
            self.process = None


def said(command, timeout=600, **more):
    """Exit code and output of a command; of one that takes too long what it had said, and an end to all it started."""
    try:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, **more
        )
    except OSError as error:
        return 1, f"{command[0]}: {error}\n"
    try:
        text, _ = process.communicate(timeout=timeout)
        return process.returncode, text
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        text, _ = process.communicate()
        return 1, f"{text}{command[0]}: no end after {timeout} s\n"


def kernels(program, form, batch, environment):
    """Time of each kernel of three steps, by Nsight Compute; it replays no kernel for one metric."""
    if not shutil.which("ncu"):
        return "ncu is not on this machine: no profile of ours\n"
    # The program is started by a script; it says which steps are to be looked at.
    command = ["ncu", "--target-processes", "all", "--clock-control", "none", "--metrics", "gpu__time_duration.sum"]
    command += ["--csv", "--profile-from-start", "off"]
    code, text = said(command + program + ["steps", form, str(batch)], env=environment, timeout=240)
    times = {}
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
    """The program itself, from a data file to its table of phases: as it is by default, and on a GPU with all it can."""
    forms = [[]]
    if device == "cuda":
        forms.append(["--precision", "bf16", "--replay", "on", "--feed", "resident"])
    with tempfile.TemporaryDirectory() as folder:
        text = said(program + ["data", os.path.join(folder, "data.h5")], env=environment)[1]
        for number, form in enumerate(forms):
            command = ["train", "--data", "data.h5", "--run", f"run{number}", "--device", device, "--batch", "16"]
            command += ["--epochs", "2", *form]
            code, more = said([os.path.join(BIN, "tfbind-mpi")] + command, env=environment, cwd=folder, timeout=180)
            text += f"$ tfbind-mpi {' '.join(command)}\n{more}ended with {code}\n"
        return text


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=".")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--batches", default="8,64,512")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=60, help="no new measurement after so many")
    parser.add_argument("--only", default="", help="forms whose name holds one of these words, between commas")
    parser.add_argument("--command", default=" ".join(sys.argv), help="as the page is to tell it")
    options = parser.parse_args()
    began, own = time.monotonic(), environment()
    late = lambda: time.monotonic() - began > 60 * options.minutes
    small = ["--tiny"] if options.tiny else []
    program = [os.path.join(BIN, "gpu"), "--device", options.device] + small
    peer = [sys.executable, os.path.join(HERE, "peer.py"), "--device", options.device] + small
    batches = [int(batch) for batch in options.batches.split(",")]
    on_cpu = options.device == "cpu"
    words = options.only.split(",")
    ours, peers = (
        [form for form in forms if any(word in form for word in words)]
        for forms in ((OURS_ON_CPU, PEERS_ON_CPU) if on_cpu else (OURS, PEERS))
    )
    os.makedirs(options.out, exist_ok=True)
    path = f"{datetime.datetime.now():%Y-%m-%d-%H%M}-{options.device}{'-tiny' if options.tiny else ''}.md"
    path = os.path.join(options.out, path)
    pages = [head(options)]

    def write(more=()):
        """What is known so far: whoever lends the machine may take it away."""
        with open(path, "w") as page:
            page.write("\n".join([*pages, *more]))

    def add(title, text):
        pages.append(f"## {title}\n\n```\n{text}```\n")
        print(text, flush=True)
        write()

    code, check = said(program + ["check"], env=own)
    add("Check" if code == 0 else "Check: FAILED, so that the times below may be of something else", check)
    add("tfbind-mpi train", training(program, options.device, own))
    times, errors = {}, {}
    servers = {"ours": Server(program + ["serve"], own), "PyTorch": Server(peer)}
    # In turn, so that what changes with time falls on both alike; small batches first, as memory is kept.
    forms = [pair for both in zip_longest(ours, peers) for pair in both]
    every = [("ours", form) for form in ours] + [("PyTorch", form) for form in peers]
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
            write([table(times, errors, batches, every)])
    for server in servers.values():
        server.close()
    pages.append(table(times, errors, batches, every))
    print(pages[-1])
    if not on_cpu and not late():
        form, batch = "bf16+last", batches[-1]
        add(f"Kernels of ours, {form}, batch {batch}: share, launches", kernels(program, form, batch, own))
        add(f"Kernels of PyTorch, amp, batch {batch}", said(peer + ["--profile", "amp", str(batch)], timeout=240)[1])
    write()
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
            if key not in times:
                cells.append("failed" if key in errors else "not reached")
                continue
            ms = statistics.median(times[key])
            ratio = f" {best[batch] / ms:.2f}x" if best[batch] else ""
            later = ", then failed" if key in errors else ""
            cells.append(f"{1e3 * batch / ms:,.0f} ({', '.join(f'{t:.2f}' for t in times[key])}){ratio}{later}")
        text += f"| {whose} {form} | " + " | ".join(cells) + " |\n"
    for key, error in errors.items():
        text += f"\n{' '.join(map(str, key))}: {error}\n"
    return text


if __name__ == "__main__":
    main()
