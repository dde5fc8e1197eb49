"""The report: what `evaluate.py` measured, as tables, sentences and pictures.

`intervals.py` says how sure a number is, `tables.py` makes rows and tables of runs, `pictures.py`
draws bars, and `report.py` puts them together, in the terminal and in `report.md`. Everything comes
from `results.json` and the saved completions; nothing here loads a model.
"""

from lookahead.report.intervals import by_position, mean_score, ratio
from lookahead.report.report import print_report, save_completions, write_report
