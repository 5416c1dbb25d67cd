"""What all benchmarks need: the machine, set-up, audits of folders, goals."""
