"""Kinds of tasks: what a document is, how a language model is asked about it, how answers are scored."""
