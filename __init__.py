if __package__:
    from .nodes import WEB_DIRECTORY, comfy_entrypoint  # noqa: F401
