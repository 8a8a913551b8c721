"""Checks of datasets: every file, every split, and how to mend what is found."""
