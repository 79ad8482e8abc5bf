"""`textlens web`: a page to look at images through text."""
