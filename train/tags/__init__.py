"""Makes the encoder `tags`: the classifier of an image tower's own checkpoint, with plain names and calibrated."""
