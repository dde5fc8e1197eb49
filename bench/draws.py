"""One table of several draws: the `results.json` of the same runs from several aligned models.

    python bench/draws.py out/draw0/samsum/results.json out/draw1/samsum/results.json [...]

A draw is an alignment, the rows that are trained on, and their order; all are tested on the same
requests and rows. Runs of one name are one row, if all draws have them, and an interval is the
wider one, over draws or over prompts. No marks: these are blind to draws. Each folder's `report.md`
has its own draw.
"""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from lookahead.report.tables import NATS, RATES, summarise, table

draws = [json.loads(pathlib.Path(path).read_text())["runs"] for path in sys.argv[1:]]
names = set.intersection(*({run["name"] for run in runs} for runs in draws))
rows = summarise([run for runs in draws for run in runs if run["name"] in names])
print(table(rows, RATES | NATS).replace("▲", " ").replace("▼", " "))
