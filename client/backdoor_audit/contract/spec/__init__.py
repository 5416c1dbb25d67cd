"""What an audit is asked: the spec, its presets, and the options that people write it with."""
