"""What the commands do; the command line itself is pipeline/cli.py."""
