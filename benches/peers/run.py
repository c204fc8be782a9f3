"""Times training steps and inference beside other programs, in turn, on the same cores; prints a table of ratios.

    make bench-peers                                   installs the peers, builds, runs this
    make bench-peers OUT=benches/results/DATE-peers.md also writes the table, with commit, machine and versions
    make bench-peers ROUNDS=3                          in half an hour, not in more than one (Ctrl-C leaves a table, too)
    benches/peers/run.py --only horovod --rounds 3     rows whose name holds a word

Every row is timed in every round, ours first in one and last in the next, each side in fresh processes that warm up. A
pair counts only if other programs left the cores alone meanwhile; else it is repeated. Data lie in memory on both sides:
ours are windows as the loader hands them over, theirs finished tensors.
"""

import argparse
import datetime
import json
import os
import platform
import re
import resource
import signal
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

parser = argparse.ArgumentParser()
parser.add_argument("--step", required=True, help="the bench `step`, built")
parser.add_argument("--env", type=Path, default=ROOT / ".cache/peers", help="where setup.sh installed the peers")
parser.add_argument("--engine", default="auto", help="of ours")
parser.add_argument("--rounds", type=int, default=7)
parser.add_argument("--seconds", type=float, default=3.0, help="timed a side and round, roughly; at least 3 steps")
parser.add_argument("--quiet", type=float, default=0.06, help="cores that other programs may use in a pair that counts")
parser.add_argument("--only", default="", help="rows whose name holds this")
parser.add_argument("--out", default="", help="file for the table")
options = parser.parse_args()
PYTHON = options.env / "bin/python"

# What keeps each side from AVX-512: ours reads TFBIND_ISA, PyTorch its own two.
OURS_AVX2 = {"TFBIND_ISA": "avx2"}
PYTORCH_AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
# One core a rank. Horovod's thread spins inside MPI on its rank's only core, unless MPI yields and it looks less often.
MPIRUN = ["mpirun", "-np", "2", "--bind-to", "core"]
TUNED = {"OMPI_MCA_mpi_yield_when_idle": "1", "HOROVOD_CYCLE_TIME": "20"}
# Seconds after which a side has failed: a rank that died can leave others waiting.
LIMIT = 300
# Samples/s a core expected of either side, only to choose the number of steps.
GUESS = {"train": (60, 25), "inference": (230, 100)}


@dataclass
class Side:
    """Processes that run at once: commands, each with what its environment gains."""

    commands: list
    env: dict = field(default_factory=dict)


@dataclass
class Row:
    name: str
    ours: Side
    theirs: Side
    target: float
    peer: str = ""
    # By the mean step, not the median: ranks wait for each other's slow steps, which a median hides of processes apart.
    by_mean: bool = False
    ratios: list = field(default_factory=list)
    # The same if processes apart waited for each other's steps: what no way of summing can exceed.
    bounds: list = field(default_factory=list)
    speeds: list = field(default_factory=list)
    disturbed: int = 0
    failed: str = ""


def pinned(core, command):
    return ["taskset", "-c", str(core), *command]


def ours(batch, cores=1, what="train", env=None, apart=False, engine=options.engine, form=()):
    steps = max(3, round(options.seconds * GUESS[what][0] / batch))
    command = [options.step, "--unchecked", "--batch", batch, "--repeats", steps, "--engine", engine, *form]
    if what == "inference":
        command.append("--inference")
    command = [str(word) for word in command]
    if apart:
        return Side([pinned(core, command) for core in range(cores)], env or {})
    return Side([MPIRUN + command if cores > 1 else pinned(0, command)], env or {})


def libtorch(batch, *form):
    return ours(batch, engine="libtorch", form=form)


def script(name, batch, *more, what="train", cores=1):
    steps = max(3, round(options.seconds * GUESS[what][1] * cores / batch))
    words = [PYTHON, HERE / name, "--batch", batch, "--steps", steps, *more]
    if what == "inference":
        words.append("--inference")
    return [str(word) for word in words]


def torch(batch, *more, what="train", env=None):
    return Side([pinned(0, script("torch_step.py", batch, *more, what=what))], env or {})


def both_cores(batch, *more, what="train"):
    command = script("torch_step.py", batch, *more, what=what)
    return Side([pinned(core, command) for core in (0, 1)])


def ddp(batch, *more):
    return both_cores(batch, "--way", "ddp", *more)


def horovod(env):
    return Side([MPIRUN + script("torch_step.py", 8, "--way", "horovod")], env)


def keras(batch, cores):
    command = script("keras_step.py", batch, "--threads", cores, cores=cores)
    return Side([["taskset", "-c", "0" if cores == 1 else "0,1", *command]])


# Two ranks of `batch` windows each stand against one Keras process of as many windows together: its threads are its way.
ROWS = [
    Row("1 core: PyTorch eager, batch 8", ours(8), torch(8), 2.0, "torch"),
    Row("1 core: PyTorch channels_last padded to 8, batch 8", ours(8), torch(8, "--form", "padded"), 1.5, "torch"),
    Row("1 core: Keras, batch 8", ours(8), keras(8, 1), 1.5, "keras"),
    Row("1 core: PyTorch eager, batch 64", ours(64), torch(64), 3.0, "torch"),
    Row("1 core: inference, PyTorch eager, batch 32", ours(32, what="inference"), torch(32, what="inference"), 2.2, "torch"),
    Row("1 core, AVX2 only: PyTorch eager, batch 8", ours(8, env=OURS_AVX2), torch(8, env=PYTORCH_AVX2), 1.5, "torch"),
    Row("1 core: our libtorch engine, its layout against plain", libtorch(8), libtorch(8, "--layout", "plain"), 1.1),
    Row("1 core: our libtorch engine, batch 64, memory kept", libtorch(64), libtorch(64, "--malloc", "default"), 1.1),
    Row("2 ranks: PyTorch eager, DDP gloo, batch 8", ours(8, 2), ddp(8), 2.2, "torch"),
    Row("2 ranks: channels_last padded to 8, DDP gloo, batch 8", ours(8, 2), ddp(8, "--form", "padded"), 1.7, "torch"),
    Row("2 cores: Keras, 2 threads, batch 16", ours(8, 2), keras(16, 2), 1.8, "keras"),
    Row("2 ranks: Horovod + PyTorch, tuned, batch 8", ours(8, 2), horovod(TUNED), 2.3, "horovod"),
    Row("2 ranks: Horovod + PyTorch, default, batch 8", ours(8, 2), horovod({}), 3.4, "horovod"),
    Row("2 ranks: PyTorch eager, DDP gloo, batch 64", ours(64, 2), ddp(64), 3.0, "torch"),
    Row("2 ranks: inference, 2 of PyTorch eager, batch 32", ours(32, 2, "inference"), both_cores(32, what="inference"), 2.2, "torch"),
    Row("2 ranks: two independent processes of ours, batch 8", ours(8, 2), ours(8, 2, apart=True), 0.97, by_mean=True),
]


def busy():
    """Seconds of all cores so far in which something ran here, or another guest of the host in our place."""
    user, nice, system, _, _, irq, soft, steal = (int(x) for x in Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")


def of_children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def objects(text):
    """The JSON objects in a text; a launcher may put those of two ranks on one line."""
    text = "\n".join(line for line in text.splitlines() if line.startswith("{"))
    decoder, at = json.JSONDecoder(), text.find("{")
    while at >= 0:
        found, end = decoder.raw_decode(text, at)
        yield found
        at = text.find("{", end)


def run(side, by_mean):
    """Samples/s of all processes of a side together, what they say of themselves, cores used by others meanwhile, and
    the share of that speed which would be left if each of their steps waited for the slowest."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    before, own, began = busy(), of_children(), time.monotonic()
    processes = []
    for rank, command in enumerate(side.commands):
        env = dict(os.environ, **side.env, RANK=str(rank), WORLD_SIZE=str(len(side.commands)))
        env.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        processes.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    try:
        results = [process.communicate(timeout=LIMIT) for process in processes]
    except (subprocess.TimeoutExpired, KeyboardInterrupt) as err:
        for process in processes:
            process.kill()
            process.wait()
        if isinstance(err, KeyboardInterrupt):
            raise
        raise RuntimeError(f"no end after {LIMIT} s") from err
    others = (busy() - before - (of_children() - own)) / (time.monotonic() - began)
    for process, (_, errors) in zip(processes, results):
        if process.returncode != 0:
            words = [line for line in errors.splitlines() if line.strip() and not line.startswith(("-", "*"))]
            raise RuntimeError(words[-1].strip() if words else f"exit code {process.returncode}")
    output = "\n".join(text for text, _ in results)
    lines = list(objects(output))
    if lines:
        # A step has ended when the slowest rank has; processes that do not wait for each other are added up.
        together = "--way" in " ".join(side.commands[0])
        batch = sum(line["batch"] for line in lines)
        slowest = statistics.median(max(times) for times in zip(*(line["seconds"] for line in lines)))
        alone = sum(line["batch"] / statistics.median(line["seconds"]) for line in lines)
        return (batch / slowest if together else alone), lines[0]["version"], others, None
    speeds = [float(speed) for speed in re.findall(r"^\w+: ([\d.]+) samples/s on", output, re.M)]
    if len(speeds) != len(side.commands):
        raise RuntimeError("no samples/s in what was printed")
    if by_mean:
        steps = re.findall(r"_ms ([\d.]+) mean ([\d.]+)", output)
        speeds = [speed * float(median) / float(mean) for speed, (median, mean) in zip(speeds, steps, strict=True)]
    times = [[float(ms) for ms in line.split()] for line in re.findall(r"^each_ms (.*)", output, re.M)]
    apart = statistics.mean(statistics.mean(of) for of in times)
    return sum(speeds), "", others, apart / statistics.mean(max(step) for step in zip(*times))


def round_of(row, ours_first):
    """One pair, again if disturbed; three times at most. Returns the version of theirs."""
    for _ in range(3):
        sides = [row.ours, row.theirs] if ours_first else [row.theirs, row.ours]
        first, second = (run(side, row.by_mean) for side in sides)
        own, other = (first, second) if ours_first else (second, first)
        if max(own[2], other[2]) <= options.quiet:
            row.ratios.append(own[0] / other[0])
            row.speeds.append((own[0], other[0]))
            if row.by_mean:
                row.bounds.append(other[3])
            print(f"{row.name}: {own[0]:.1f} / {other[0]:.1f} = {row.ratios[-1]:.2f}", file=sys.stderr, flush=True)
            return other[1]
        row.disturbed += 1
        took = f"others took {own[2]:.2f} cores beside ours, {other[2]:.2f} beside theirs"
        print(f"{row.name}: {took}: left out", file=sys.stderr, flush=True)
    return other[1]


def shown(row):
    """The row of the table, and whether its target is met."""
    start = f"{row.name:<56}"
    if row.failed:
        return f"{start} not run: {row.failed}", False
    note = f"  ({row.disturbed} disturbed pairs left out)" if row.disturbed else ""
    if row.bounds:
        note += f"  ({statistics.median(row.bounds):.2f} if theirs waited for each other's steps, as these vary)"
    if len(row.ratios) < min(3, options.rounds):
        return f"{start} not run: only {len(row.ratios)} pairs were undisturbed{note}", False
    ratio = statistics.median(row.ratios)
    own, other = (statistics.median(of) for of in zip(*row.speeds))
    met = ratio >= row.target
    text = f"{start} {own:>7.1f} {other:>7.1f} {ratio:>6.2f}x  {min(row.ratios):.2f}-{max(row.ratios):.2f}"
    return f"{text}  >= {row.target:<4}  {'met' if met else 'not met'}{note}", met


def missing(peer):
    """Why a peer cannot run, if it cannot."""
    failed = options.env / f"{peer}.failed"
    if failed.exists():
        return failed.read_text().strip() or "its installation failed"
    if peer and not PYTHON.exists():
        return f"{options.env} is not there: benches/peers/setup.sh"
    return ""


def checked(env):
    """Ours against double precision once, as the timed runs leave that out."""
    command = [options.step, "--check", "--engine", options.engine]
    done = subprocess.run(command, env=dict(os.environ, **env), capture_output=True, text=True)
    print(done.stdout, end="", flush=True)
    if done.returncode != 0:
        sys.exit(f"peers: {done.stderr.strip()}")


def machine():
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"commit {commit}, {cpu[1] if cpu else platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB"


def main():
    rows = [row for row in ROWS if options.only in row.name.lower()]
    if not rows:
        sys.exit(f"peers: no row's name holds `{options.only}`")
    os.environ["PATH"] = f"{options.env / 'bin'}:{os.environ['PATH']}"
    # Both sides, and MPI in the middle, leave the threads to the options.
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    checked({})
    checked(OURS_AVX2)
    versions = set()
    for row in rows:
        row.failed = missing(row.peer)
        # A core more or less cannot be made up for.
        if not row.failed and " ranks" in f" {row.name}" and (os.cpu_count() or 1) < 2:
            row.failed = "needs two cores"
    if any(row.peer in ("torch", "horovod") and not row.failed for row in rows):
        done = subprocess.run([PYTHON, HERE / "unet.py"], capture_output=True, text=True)
        print(done.stdout or done.stderr, end="", flush=True)
        if done.returncode != 0:
            sys.exit("peers: the PyTorch models are not the published one")
    # A time limit ends it as Ctrl-C does: with a table.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    done = 0
    try:
        while done < options.rounds:
            for row in rows:
                if row.failed:
                    continue
                try:
                    versions.add(round_of(row, done % 2 == 0))
                except (OSError, RuntimeError) as err:
                    row.failed = str(err)
            done += 1
            print(f"round {done} of {options.rounds} done", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("stopped: the table of the rounds that were done", file=sys.stderr)
        options.rounds = max(done, 1)
    lines = [
        f"{datetime.date.today()}, {machine()}",
        f"{options.rounds} rounds, samples/s of all cores, medians; ratio ours / theirs, its median and range; engine {options.engine}",
        "; ".join(sorted(version for version in versions if version)),
        f"{'against':<56} {'ours':>7} {'theirs':>7} {'ratio':>7}  {'range':<9}  target",
    ]
    results = [shown(row) for row in rows]
    lines += [text for text, _ in results]
    lines.append(f"peers: {sum(met for _, met in results)} of {len(results)} ratios met")
    print("\n".join(lines))
    if options.out:
        rows = f"benches/peers/run.py --only '{options.only}' --seconds {options.seconds:g}"
        command = rows if options.only else f"make bench-peers ENGINE={options.engine}"
        text = f"# Beside PyTorch, Keras and Horovod\n\n`{command}`\n\n```\n" + "\n".join(lines) + "\n```\n"
        Path(options.out).write_text(text)


main()
