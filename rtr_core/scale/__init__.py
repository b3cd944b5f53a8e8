"""More than one device: Ray for many clips, ranks for one stream. Imported only when asked for."""
