"""Run a ``.pt2`` file in a process of its own, as its users do: ``python second.py FILE CASES.npz RESULTS.npz``. Knows torch alone."""

import sys
from typing import Any

import numpy as np
import torch


def main(file: str, cases: str, results: str) -> None:
    network = torch.export.load(file).module()
    given = np.load(cases)
    found: dict[str, Any] = {}
    for case in sorted({name.partition("_")[0] for name in given.files}, key=int):
        arguments = [torch.from_numpy(given[f"{case}_{name}"]) for name in ("image", "inner", "size")]
        with torch.no_grad():
            found |= {f"{case}_{number}": output.numpy() for number, output in enumerate(network(*arguments))}
    np.savez(results, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
