"""`textlens mcp`: the tools of `agent/tools/` by the Model Context Protocol, over stdio or HTTP."""
