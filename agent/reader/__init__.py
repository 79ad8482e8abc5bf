"""Questions about images: `reader` ties encoder, template and language model together, `reading` runs the queries."""
