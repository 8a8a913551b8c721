"""The verbs of the command line: typed functions whose docstrings are their help.

A verb is light to import: its work is imported when it runs.
"""
