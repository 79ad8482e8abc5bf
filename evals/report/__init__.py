"""The results of `textlens eval` as one HTML page."""
