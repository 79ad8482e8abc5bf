"""Language model clients, the reader that ties encoder, template and model together, and LangChain tools."""
