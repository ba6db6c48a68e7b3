"""Pictures. Each is one function from arrays to a matplotlib Figure; none computes a number that is worth testing, and
none saves anything. This package alone imports matplotlib, and of that never pyplot: no window, no global figure.

style: colours and what all share; images: a data set; training: curves; judged: errors and calibration; attention:
where it looks; inside: filters, positions, lens; robust: disturbances; study: accuracy against time.
"""
