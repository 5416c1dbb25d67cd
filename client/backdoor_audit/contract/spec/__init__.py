"""The input of an audit: the spec, its presets, and the options for writing one."""
