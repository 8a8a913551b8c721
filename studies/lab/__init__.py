"""The frame of the studies: declared arms, seeds and contrasts; pinned source; rows as they come; decisions by rule.

A study is one file with a `Study` in it, committed before its first run. `python studies/NAME.py run` does what has no
row yet, `python studies/NAME.py table` computes tables from `results/NAME.jsonl` alone.
"""
