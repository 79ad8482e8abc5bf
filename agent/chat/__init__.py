"""`textlens chat`: a `conversation` with a chat model that uses the tools, on a `terminal`."""
