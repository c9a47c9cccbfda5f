"""One file per console command: parse, call, print. No logic."""
