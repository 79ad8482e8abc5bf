"""Scores of texts, embeddings and images. Leaves: nothing of the project but errors."""
