"""Maps as pictures: panels, legends, contact sheets."""
