"""Studies: what each hyper-parameter gains in accuracy and costs in time, over several seeds."""
