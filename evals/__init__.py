"""One file per benchmark, metrics, runner and report."""
