"""Five steps of each optimiser on five parameters with given gradients -> optim.json."""
import json
from pathlib import Path

import torch

START = [1.0, -0.5, 0.25, 2.0, -3.0]
# The last two columns are small enough for epsilon to show in the Adam step.
GRADIENTS = [
    [0.5, -1.25, 8.0, 0.001, 2e-6],
    [0.25, 1.5, -4.0, 0.002, 1e-6],
    [-0.75, 0.5, 2.0, -0.001, 3e-6],
    [1.0, -0.125, 0.0, 0.004, -1e-6],
    [-0.5, 2.0, -16.0, 0.003, 5e-6],
]
OPTIMISERS = {
    "adam": (torch.optim.Adam, {"lr": 0.01, "betas": [0.9, 0.999], "eps": 1e-7}),
    "sgd": (torch.optim.SGD, {"lr": 0.01, "momentum": 0.9, "nesterov": False}),
    "nesterov": (torch.optim.SGD, {"lr": 0.01, "momentum": 0.9, "nesterov": True}),
    "rmsprop": (torch.optim.RMSprop, {"lr": 0.01, "alpha": 0.9, "eps": 1e-7}),
}


def trajectory(make, options):
    values = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    optimiser = make([values], **options)
    for gradient in GRADIENTS:
        values.grad = torch.tensor(gradient, dtype=torch.float64)
        optimiser.step()
        yield values.tolist()


golden = {"start": START, "gradients": GRADIENTS}
for name, (make, options) in OPTIMISERS.items():
    golden[name] = options | {"after": list(trajectory(make, options))}
Path(__file__).with_name("optim.json").write_text(json.dumps(golden, indent=1) + "\n")
