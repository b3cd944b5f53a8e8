"""Autoencoders: frames to latent frames and back, as streams. Read `stream` first."""
