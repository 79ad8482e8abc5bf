"""Language models: `base` is the interface, `registry` the specs, `server`, `vllm` and `transformers` the clients."""
