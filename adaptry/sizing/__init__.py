"""`adaptry size`: slots, host memory, rank and replicas for a trace and a goal, by simulation."""
