"""Many images on many machines, by Ray (the extra `ray`)."""
