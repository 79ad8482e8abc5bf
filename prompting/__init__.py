"""Words to prompts to parsed answers: templates beside their parsers. Pure text, no torch."""
