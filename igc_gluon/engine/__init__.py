"""Training: schedule, optimizer, devices, checkpoints, records of a run, and the loop that ties them together."""
