"""Prints the fault table: `python tests/faults/table.py [--json FILE] [SUBJECT ...]`. Exit code 1 if a row fails."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
if str(TESTS) not in sys.path:
    sys.path[0:0] = [str(TESTS.parent), str(TESTS)]

from faults import ALL  # noqa: E402
from faults.material import Material  # noqa: E402
from faults.runner import Outcome, isolated, run  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description="What lnauto says of bad input, row by row.")
    parser.add_argument("subjects", nargs="*", help="of these alone (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there, too")
    arguments = parser.parse_args()
    begun = time.monotonic()
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder, isolated(Path(folder)):
        material = Material(Path(folder) / "shared")
        for number, row in enumerate(ALL, start=1):
            if arguments.subjects and row.subject not in arguments.subjects:
                continue
            here = Path(folder) / f"row_{number}"
            here.mkdir()
            outcome = run(row, material, here)
            outcomes.append(outcome)
            print(f"{number:3d}  {row.subject:9} {row.fault:62} {outcome.command:20} {outcome.code!s:4} {outcome.first_line}")
            for wrong in outcome.wrong:
                print(f"     WRONG: {wrong}")
    failed = sum(bool(outcome.wrong) for outcome in outcomes)
    codes = Counter(str(outcome.code) for outcome in outcomes)
    counted = ", ".join(f"{times} with exit code {code}" for code, times in sorted(codes.items()))
    print(f"{len(outcomes)} rows ({counted}), {failed} wrong, in {time.monotonic() - begun:.0f} s")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([as_json(outcome) for outcome in outcomes], indent=2) + "\n")
    return 1 if failed else 0


def as_json(outcome: Outcome) -> dict[str, object]:
    return {
        "subject": outcome.row.subject,
        "fault": outcome.row.fault,
        "command": f"lnauto_{outcome.command}",
        "exit_code": outcome.code,
        "message": outcome.message,
        "wrong": list(outcome.wrong),
        "seconds": round(outcome.seconds, 2),
    }


if __name__ == "__main__":
    sys.exit(main())
