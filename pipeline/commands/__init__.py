"""The commands, without the command line, which is pipeline/cli.py."""
