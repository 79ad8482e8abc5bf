"""The small models that come with the package: one folder each, in the format of the real ones."""
