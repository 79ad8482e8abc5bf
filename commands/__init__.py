"""The command line: each command parses, builds, calls one library function, and prints. Results go to stdout."""
