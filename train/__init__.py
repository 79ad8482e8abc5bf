"""The made world, one training loop, and one recipe per model."""
