"""`make proof`: attacks on vitlab that count what held; docs/make_reliability.py writes the figures into a page."""
