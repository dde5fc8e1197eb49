"""The report: what `evaluate.py` measured, as tables, sentences and pictures.

`scores.py` makes numbers of what is measured, `intervals.py` says how sure a number is, `tables.py`
makes rows and tables of runs, `pictures.py` draws bars, and `report.py` puts them together, in the
terminal and in `report.md`. Tables and pictures come from `results.json`; nothing here loads a
model.
"""

from lookahead.report.report import print_report, save_completions, write_report
from lookahead.report.scores import Measured, score
