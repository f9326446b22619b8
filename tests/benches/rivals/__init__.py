"""What the benchmarks hold Demask against, in PyTorch: our own writing of published methods."""
