"""Clips on disk: read faithfully, written in segments, put together."""
