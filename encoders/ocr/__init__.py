"""Text in images as an encoder: RapidOCR finds and reads it, `reading_order` puts it in order."""
