"""Whether a checkpoint may be opened: names, JSON and safetensors headers, read before any weight."""
