"""Tasks that `textlens eval` knows by name."""
