"""Fail unless the runs just evaluated show the effect: the previews significantly above vanilla."""

import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from lookahead.report.intervals import difference  # noqa: E402

results = json.loads((ROOT / "out" / "toy" / "results.json").read_text())
safe = {run["method"]: [run["scores"]["rsr"]] for run in results["runs"]}
for method in ("real", "virtual"):
    low, high = difference(safe[method], safe["vanilla"], shares=True)
    print(f"RSR of {method} less vanilla's: {low:.2f} to {high:.2f}")
    if low <= 0:
        sys.exit(f"{method} is not above vanilla by more than the interval")
