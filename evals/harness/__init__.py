"""`textlens eval`: tasks that YAML files describe, asked of a language model that knows images by their words."""
