"""More than one machine. Nothing of it is imported before it is asked for."""
