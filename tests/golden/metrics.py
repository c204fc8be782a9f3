"""Expected loss and metrics on hash-drawn score sets -> metrics.json.

Position i of a set with stream s has
    truth = hash(s, i) < positive_rate          label = -1 if hash(s + 1, i) < mask_rate else truth
    z     = bias + spread * (2 * hash(s + 2, i) - 1) + gain * truth
    z     = floor(z * levels + 0.5) / levels    where levels is not null
with the hash scaled to [0, 1); z is rounded to float32 and is the logit.
"""
import json
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from hashing import uniform

BATCH = 64  # windows in a batch of the dice coefficient; the last batch may be smaller
THRESHOLDS = 1001
# Streams chosen so that single-precision rounding moves no score across a threshold.
SETS = [
    dict(name="rare", n=20_000, window=25, stream=6300, positive_rate=0.01, mask_rate=0.05,
         bias=-5.0, spread=4.0, gain=5.0, levels=None),
    dict(name="tied", n=20_000, window=10, stream=2010, positive_rate=0.01, mask_rate=0.05,
         bias=-1.5, spread=2.0, gain=2.0, levels=10),
    dict(name="balanced", n=4_000, window=50, stream=2020, positive_rate=0.4, mask_rate=0.05,
         bias=-0.5, spread=3.0, gain=1.5, levels=None),
    dict(name="all_negative", n=2_000, window=10, stream=2030, positive_rate=0.0, mask_rate=0.05,
         bias=-5.0, spread=4.0, gain=0.0, levels=None),
    dict(name="false_alarms", n=2_000, window=10, stream=2040, positive_rate=0.0, mask_rate=0.05,
         bias=0.0, spread=4.0, gain=0.0, levels=None),
    dict(name="tiny", n=40, window=4, stream=2050, positive_rate=0.3, mask_rate=0.1,
         bias=-0.5, spread=2.0, gain=1.0, levels=None),
]


def draw(s):
    """Labels i8 and logits f32."""
    truth, masked, score = (uniform(s["stream"] + k, s["n"]) for k in range(3))
    truth = truth < s["positive_rate"]
    z = s["bias"] + s["spread"] * (2 * score - 1) + s["gain"] * truth
    if s["levels"]:
        z = np.floor(z * s["levels"] + 0.5) / s["levels"]
    label = np.where(masked < s["mask_rate"], -1, truth).astype(np.int8)
    return label, z.astype(np.float32)


def sigmoid(logit):
    """Probability, rounded to float32 as a single-precision network would hand it on."""
    return (1 / (1 + np.exp(-logit.astype(np.float64)))).astype(np.float32)


def pr_auc(y, p):
    """Area between fixed thresholds with Davis-Goadrich interpolation, in 64-bit counts."""
    bucket = np.maximum(np.ceil(p * np.float32(THRESHOLDS - 1)).astype(int) - 1, 0)
    above = lambda chosen: np.bincount(chosen, minlength=THRESHOLDS)[::-1].cumsum()[::-1]
    tp, fp = above(bucket[y == 1]), above(bucket[y == 0])
    called, positives = tp + fp, tp[0]
    area = 0.0
    for i in range(THRESHOLDS - 1):
        gained, width = tp[i] - tp[i + 1], called[i] - called[i + 1]
        if width == 0:
            continue
        slope = gained / width
        intercept = tp[i + 1] - slope * called[i + 1]
        ratio = called[i] / called[i + 1] if called[i + 1] else 1.0
        area += slope * (gained + intercept * np.log(ratio)) / positives
    return area


def dice(label, p, positions):
    """Soft dice of each batch with smooth 1, averaged over batches without weights."""
    each = []
    for start in range(0, len(label), positions):
        y, q = label[start:start + positions], p[start:start + positions].astype(np.float64)
        each.append((2 * q[y == 1].sum() + 1) / ((y == 1).sum() + q[y >= 0].sum() + 1))
    return float(np.mean(each))


def expected(s, label, logit):
    """Figures over valid labels; None where a denominator is zero."""
    p, valid = sigmoid(logit), label >= 0
    y, z, q = label[valid], logit[valid].astype(np.float64), p[valid]
    positives, called = y == 1, q >= 0.5
    union = int((positives | called).sum())
    both = positives.any() and not positives.all()
    return {
        "valid": int(valid.sum()),
        "positive": int(positives.sum()),
        "loss": float(np.mean(np.logaddexp(0, z) - y * z)),
        "pr_auc": pr_auc(y, q) if positives.any() else None,
        "average_precision": float(average_precision_score(y, q)) if positives.any() else None,
        "roc_auc": float(roc_auc_score(y, q)) if both else None,
        "dice_coef": dice(label, p, BATCH * s["window"]),
        "binary_io_u": int((positives & called).sum()) / union if union else None,
    }


golden = []
for s in SETS:
    label, logit = draw(s)
    shown = s["n"] if s["name"] == "tiny" else 8
    golden.append(s | {
        "labels": label[:shown].tolist(),
        "logits": [float(z) for z in logit[:shown]],
        "expected": expected(s, label, logit),
    })
Path(__file__).with_name("metrics.json").write_text(
    json.dumps({"batch": BATCH, "sets": golden}, indent=1) + "\n")
