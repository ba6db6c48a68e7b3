"""Looking at a trained network: the numbers behind the pictures. Functions on tensors; nothing is drawn or stored here.

attention: where it looks, and which patch it needs; inside: filters, positions, what each block already knows; judge:
errors, confidence and calibration, from logits and labels; robust: accuracy against the strength of a disturbance.
"""
