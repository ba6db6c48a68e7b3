"""Training one network: the loop, a step, optimizers, augmentation, evaluation. Touches no disk."""
