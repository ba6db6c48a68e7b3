"""Studies: what each hyper-parameter buys in accuracy and costs in time, with spread."""
