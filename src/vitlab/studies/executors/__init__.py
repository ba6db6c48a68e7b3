"""Where the runs of a study are computed: in processes on this machine, on a Ray cluster, or by Slurm."""
