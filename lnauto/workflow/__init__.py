"""What a command sets in motion."""
