"""Checks of datasets: of every file and every split, with a cure for each finding."""
