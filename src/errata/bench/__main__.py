"""The runner where the command line is not installed, such as a machine with torch alone.

python -m errata.bench next SUITE --minutes M --device cuda
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

from errata.bench import RESULTS, run_next, suite_names


def _echo(line: str) -> None:
    sys.stderr.write(line + "\n")


def main() -> None:
    """Run missing cells of a suite."""
    parser = argparse.ArgumentParser(prog="python -m errata.bench")
    parser.add_argument("verb", choices=["next"])
    parser.add_argument("suite", choices=suite_names())
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--only")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    done = run_next(
        args.suite,
        minutes=args.minutes,
        results=args.results,
        only=args.only,
        device=args.device,
        echo=_echo,
    )
    sys.stdout.write(json.dumps(done) + "\n")


if __name__ == "__main__":
    main()
