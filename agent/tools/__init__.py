"""LangChain tools (`tools`, as a `toolkit`), what they may open (`image_access`) and write (`output_folder`)."""
