"""Settings files of the recipes, the word list and other small data of the package."""
