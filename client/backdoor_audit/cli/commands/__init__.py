"""The subcommands that need the client alone; each module is imported when its command is run."""
