"""Time: kernels run in parallel loops and train on data."""
