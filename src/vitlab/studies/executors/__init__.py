"""Where the runs of a study are computed: in processes on this machine, or on a Ray cluster."""
