"""Pseudo samples: questions and answers of no image at all, which show a zero-shot prompt the form of an answer."""

from .templates import Shot

VQA_PSEUDO = (
    Shot(question="What color is the car?", answer="red", id="pseudo-1"),
    Shot(question="Is there a tree?", answer="yes", id="pseudo-2"),
    Shot(question="How many cups are there?", answer="2", id="pseudo-3"),
    Shot(question="What is on the table?", answer="book", id="pseudo-4"),
)
"""Of each common kind of question one."""
