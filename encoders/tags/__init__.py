"""Tags: what a classifier sees in an image, as words with their chances."""
