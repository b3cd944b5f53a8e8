"""Weights files: read safely, told apart, renamed, loaded, written.

Read in this order: `read` (any file or folder, lazily), `layouts` (whose tensors are where in it),
`identify` (what it is), `load` (modules from it), `bundle` (RTR's own file), `inspect`, `convert`.
"""
